"""What the service has asked of a simulated disk, for budgets that are counted and not timed."""

from dataclasses import astuple, dataclass


@dataclass(slots=True)
class Counters:
    """What the service has asked of a disk since it was made; lengths in bytes."""

    reads: int = 0
    bytes_read: int = 0
    writes: int = 0
    durable_writes: int = 0
    """Those of `writes` that were durable."""
    bytes_written: int = 0
    flushes: int = 0
    zeros: int = 0
    discards: int = 0
    bytes_zeroed: int = 0
    """By ZERO and DISCARD."""

    def __sub__(self, earlier: "Counters") -> "Counters":
        """What was asked since `earlier`."""
        return Counters(
            *(now - then for now, then in zip(astuple(self), astuple(earlier), strict=True))
        )

    def copy(self) -> "Counters":
        return Counters(*astuple(self))
