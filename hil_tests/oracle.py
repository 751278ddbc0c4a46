"""What a volume may hold after an accident, by what its hosts were told.

A host writes whole blocks, each with a stamp of its own.  What a completed FLUSH covers must be
there; a later write may be there or not, sector by sector; nothing else may.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

BLOCK: Final = 4096
SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Write:
    """One block written: `number` counts a host's writes from 1, and is the stamp."""

    number: int
    block: int


def content(stamp: int) -> bytes:
    """A block with this stamp; 0 is a block that nobody has written."""
    return stamp.to_bytes(8, "little") * (BLOCK // 8)


@dataclass
class Oracle:
    """Of one volume that was all zeros, written in order by one host."""

    writes: list[Write] = field(default_factory=list)
    confirmed: set[int] = field(default_factory=set)
    durable: set[int] = field(default_factory=set)
    _of_block: dict[int, list[int]] = field(default_factory=dict)

    def issue(self, block: int) -> Write:
        """A write is sent; later ones to the same block win over it."""
        write = Write(len(self.writes) + 1, block)
        self.writes.append(write)
        self._of_block.setdefault(block, []).append(write.number)
        return write

    def confirm(self, number: int) -> None:
        """Its answer came."""
        self.confirmed.add(number)

    def before_flush(self) -> frozenset[int]:
        """What a FLUSH that is sent now will cover."""
        return frozenset(self.confirmed)

    def flushed(self, covered: frozenset[int]) -> None:
        """Its answer came."""
        self.durable |= covered

    @property
    def blocks(self) -> list[int]:
        return sorted(self._of_block)

    @property
    def exact_until(self) -> int:
        """Every point up to this write must be exact: all writes up to it are durable."""
        number = 0
        while number + 1 in self.durable:
            number += 1
        return number

    def allowed(self, block: int) -> set[int]:
        """The stamps that its sectors may carry."""
        numbers = self._of_block.get(block, [])
        owed = max((number for number in numbers if number in self.durable), default=0)
        return {owed, *(number for number in numbers if number > owed)}

    def complaints(self, block: int, data: bytes) -> list[str]:
        """What is wrong with a block that was read after the accident."""
        allowed = self.allowed(block)
        older = {0, *self._of_block.get(block, [])} - allowed
        return [
            f"block {block} sector {start // SECTOR}: stamp {stamp}, not of {sorted(allowed)[:9]}"
            + (f": flushed write {min(allowed)} is lost" if stamp in older else "")
            for start in range(0, BLOCK, SECTOR)
            for stamp in [_stamp(data[start : start + SECTOR])]
            if stamp not in allowed
        ]

    def at(self, number: int) -> dict[int, int]:
        """The stamp of each written block, once the first `number` writes were done."""
        return {
            block: max((each for each in numbers if each <= number), default=0)
            for block, numbers in self._of_block.items()
        }


def _stamp(sector: bytes) -> int | None:
    """None for a sector with more than one."""
    stamp = int.from_bytes(sector[:8], "little")
    return stamp if sector == content(stamp)[: len(sector)] else None


def complaints_at(oracle: Oracle, number: int, read: Iterable[tuple[int, bytes]]) -> list[str]:
    """What is wrong with blocks that were read at the point of a write."""
    stamps = oracle.at(number)
    return [
        f"write {number}, block {block}: not the stamp {stamps[block]}"
        for block, data in read
        if data != content(stamps[block])
    ]
