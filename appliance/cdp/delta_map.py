"""Delta maps: what changed between two write numbers, and where its data lies.

The entries of a map are kept in the order of their writes, so that laying them
over each other from the first to the last (`extents.paint`) is the newest
version of everything, and laying them only up to a write number is that point.

The present map grows in memory while host writes go into it.  A closed map
keeps its entries in memory only until its index is durable.
"""

import bisect
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from appliance.cdp.extents import Sectors
from appliance.cdp.format import ENTRY, ENTRY_DTYPE, MARK, MARK_DTYPE, Rows


class MapKind(IntEnum):
    """Why a map was made."""

    HOST = 1
    RECOVERY = 2
    """What a crash left different, taken from the primary."""
    FIX_UP = 3
    """What a synchronisation found different."""


class MapOrder(IntEnum):
    TIME = 1
    """Every write is kept."""
    BLOCK = 2
    """Only the last version of each block is kept; it has an index, and no records."""


@dataclass(slots=True)
class DeltaMap:
    """One link of the chain.

    Its records begin with its first segment; `before_crc`, `epoch` and
    `records` say which of those found there belong to it.  Times are
    nanoseconds since 1970; `closed` is 0 for the present map.
    """

    id: int
    kind: MapKind
    epoch: int
    first_write: int
    last_write: int
    opened: int
    before_crc: int
    order: MapOrder = MapOrder.TIME
    closed: int = 0
    payload_bytes: int = 0
    records: int = 0
    record_segments: list[int] = field(default_factory=list)
    index_segments: list[int] = field(default_factory=list)
    index_crc: int = 0
    indexed: bool = False
    entry_count: int = 0
    mark_count: int = 0
    in_flight: int = 0
    """Its records that the secondary has not taken yet."""
    _entries: bytearray | None = field(default_factory=bytearray)
    _marks: bytearray | None = field(default_factory=bytearray)

    def __str__(self) -> str:
        kind = self.kind.name.lower().replace("_", "-")
        state = "closed" if self.closed else "present"
        return (
            f"{kind} delta map {self.id}: {state}, writes {self.first_write} to {self.last_write},"
            f" {self.entry_count} entries, {self.payload_bytes} bytes"
        )

    @property
    def segments(self) -> list[int]:
        return self.record_segments + self.index_segments

    @property
    def in_memory(self) -> bool:
        return self._entries is not None

    def append(
        self,
        entries: bytes | memoryview,
        last_write: int,
        wall: int,
        clock_epoch: int,
        payload: int,
    ) -> None:
        """Take the packed entries of one record, whose locations are absolute."""
        assert self._entries is not None
        assert self._marks is not None
        self._entries += entries
        self._marks += MARK.pack(last_write, wall, clock_epoch)
        self.entry_count += len(entries) // ENTRY.size
        self.mark_count += 1
        self.last_write = last_write
        self.payload_bytes += payload
        self.records += 1

    def entries(self) -> Rows:
        """A copy of the entries, in the order of their writes; the map is in memory."""
        assert self._entries is not None
        return np.frombuffer(bytes(self._entries), ENTRY_DTYPE)

    def marks(self) -> Rows:
        """A copy of the times of its records; the map is in memory."""
        assert self._marks is not None
        return np.frombuffer(bytes(self._marks), MARK_DTYPE)

    def cut(
        self, entries: int, records: int, last_write: int, payload: int, wall: int, segments: int
    ) -> list[int]:
        """Keep only its first records, which fill so many segments; returns the others' segments.

        It is closed and not in memory, and has no whole index.
        """
        gone = self.record_segments[segments:] + self.index_segments
        self.record_segments = self.record_segments[:segments]
        self.index_segments, self.index_crc, self.indexed = [], 0, False
        self.entry_count, self.mark_count, self.records = entries, records, records
        self.payload_bytes, self.closed = payload, wall
        self.last_write = last_write
        return gone

    def forget(self) -> None:
        """The index is durable: the entries are on disk."""
        self._entries = self._marks = None


def spans(entries: Rows) -> tuple[Sectors, Sectors]:
    """First and last (exclusive) sector of each entry."""
    starts = entries["start"].astype(np.int64)
    return starts, starts + entries["length"].astype(np.int64)


def up_to(entries: Rows, write: int) -> Rows:
    """The entries of the writes up to and including a number."""
    if not len(entries) or int(entries["write"][-1]) <= write:
        return entries
    return entries[: int(np.searchsorted(entries["write"], write, side="right"))]


def from_write(entries: Rows, write: int) -> Rows:
    """The entries of the writes from a number on."""
    return entries[int(np.searchsorted(entries["write"], write, side="left")) :]


def covering(maps: list[DeltaMap], write: int) -> int:
    """How many maps of a chain begin at or before a write."""
    return bisect.bisect_right([delta_map.first_write for delta_map in maps], write)
