"""Which segments of the history are free.

A segment belongs to exactly one delta map, to the journal as its successor, or
to nobody.  What checkpoint *k* gave up is reused only after *k*+1 is durable:
should slot *k* be lost, the chain is read from the slot before it, whose maps
must still lie untouched.

The last free one is kept for a fold that has to say what is lost: without it,
nothing could come free any more.
"""

from collections import deque
from collections.abc import Iterable


class Segments:
    """The free segments, in the order of their use."""

    def __init__(self, count: int, used: Iterable[int] = ()) -> None:
        taken = set(used)
        self.count = count
        self._free = deque(segment for segment in range(count) if segment not in taken)
        self._released: list[int] = []
        """Given up, but the checkpoint that says so is not written."""
        self._waiting: list[int] = []
        """Given up by the last durable checkpoint."""

    @property
    def free(self) -> int:
        """Segments that anybody can take now."""
        return max(0, len(self._free) - 1)

    @property
    def coming(self) -> int:
        """Segments that the next checkpoints will make free."""
        return len(self._released) + len(self._waiting)

    def take(self) -> int | None:
        """A free segment, the longest free first; None if there is none."""
        return self._free.popleft() if self.free else None

    def take_last(self) -> int | None:
        """The same for a fold, which may take the one that is kept."""
        return self._free.popleft() if self._free else None

    def release(self, segments: Iterable[int]) -> None:
        """Give up; reused two checkpoints later."""
        self._released.extend(segments)

    def begin_checkpoint(self) -> list[int]:
        """A checkpoint is being made that no longer names what was released."""
        released, self._released = self._released, []
        return released

    def checkpoint_durable(self, released: list[int]) -> None:
        """That checkpoint is durable."""
        self._free.extend(self._waiting)
        self._waiting = released
