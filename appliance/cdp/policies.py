"""What a person has decided about a volume; kept on its disks, in every checkpoint."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

MIB = 1 << 20


class Ack(IntEnum):
    """When a host's write is acknowledged."""

    BOTH = 0
    PRIMARY = 1


@dataclass(frozen=True, slots=True)
class Throttle:
    """How fast a synchronisation may be, in MiB/s.

    Under the heaviest host load it does `floor`; it never exceeds `ceiling`,
    unless that is 0.  In between it takes the share of time that hosts leave.
    """

    floor: int = 16
    ceiling: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """`FLOOR-CEILING` in MiB/s, where the ceiling may be `max`; ValueError if it is not."""
        floor, _, ceiling = text.partition("-")
        found = cls(int(floor), 0 if ceiling == "max" else int(ceiling))
        if found.ceiling and found.ceiling < max(1, found.floor):
            raise ValueError("the ceiling lies below the floor")
        return found

    def __str__(self) -> str:
        return f"{self.floor}-{self.ceiling or 'max'}"


@dataclass(frozen=True, slots=True)
class Policies:
    ack: Ack = Ack.BOTH
    throttle: Throttle = Throttle()
