"""What entered the journal since a moment: the scan delta map and the host change delta map.

A synchronisation watches the journal while it looks at the disks (claims 8 and
10).  An entry is here in the turn in which the legs of its write are issued, so
whatever a read of the primary may have caught of it, the watch knows.
"""

from collections.abc import Callable

import numpy as np

from appliance.cdp.delta_map import spans
from appliance.cdp.extents import EMPTY, Extents, extents, intersect, one, union
from appliance.cdp.format import ENTRY, ENTRY_DTYPE
from appliance.cdp.interfaces import Post
from appliance.cdp.tasks import Completion

CHUNK = 1 << 20
"""Bytes of packed entries that are merged into the extents at once, beside the loop."""


class Changes:
    """Grows with every record until `end`, exact to the sector, in bounded memory:
    what is overwritten again and again is kept once."""

    def __init__(self, post: Post, end: Callable[["Changes"], None]) -> None:
        self._post = post
        self._end = end
        self._merged = EMPTY
        self._merging: list[bytes] = []
        """Handed to the merge that is under way."""
        self._under_way: Completion[Extents] | None = None
        self._fresh = bytearray()

    def add(self, entries: bytes | memoryview) -> None:
        """Take the packed entries of a record."""
        self._fresh += entries
        if len(self._fresh) >= CHUNK and self._under_way is None:
            self._merge()

    def __str__(self) -> str:
        """As the extents are printed."""
        parts = [*self._merging, bytes(self._fresh)]
        return str(union(self._merged, extents(*_spans(b"".join(parts)))))

    @property
    def count(self) -> int:
        """Extents that are kept, about."""
        return len(self._merged.starts) + len(self._fresh) // ENTRY.size

    def end(self) -> None:
        """Watch no longer; idempotent."""
        self._end(self)

    def within(self, start: int, end: int) -> Extents:
        """What of the sectors from `start` to `end` has changed until now."""
        wanted = one(start, end)
        first = int(np.searchsorted(self._merged.ends, start, side="right"))
        behind = int(np.searchsorted(self._merged.starts, end, side="left"))
        found = intersect(Extents(*(side[first:behind] for side in self._merged)), wanted)
        for part in (*self._merging, bytes(self._fresh)):
            starts, ends = _spans(part)
            near = (starts < end) & (ends > start)
            if near.any():
                found = union(found, intersect(extents(starts[near], ends[near]), wanted))
        return found

    async def all(self) -> Extents:
        """Everything that has changed until now."""
        while self._under_way is not None or self._fresh:
            if self._under_way is None:
                self._merge()
            assert self._under_way is not None
            await self._under_way
        return self._merged

    def _merge(self) -> None:
        parts = self._merging = [bytes(self._fresh)]
        self._fresh.clear()
        merged = self._merged

        def work() -> Extents:
            return union(merged, extents(*_spans(b"".join(parts))))

        under_way = self._under_way = self._post.offload(work)

        def done() -> None:
            self._merged = under_way.result()
            self._merging = []
            self._under_way = None
            if len(self._fresh) >= CHUNK:
                self._merge()

        under_way.when_finished(done)


def _spans(packed: bytes) -> tuple[np.ndarray, np.ndarray]:
    return spans(np.frombuffer(packed, ENTRY_DTYPE))
