"""The journal: one stream of records over the segments of the history.

A record is one group commit: a header page with the entries of its writes,
then their payload.  Delta maps cut the stream into pieces that begin with a
segment of their own; a segment's header names its successor, so the stream can
be followed without the directory.

No stale tail is ever believed.  A record belongs to the stream only if its
header and payload are whole and it carries the volume's set id, the map and
epoch of its segment, and the CRC of the record before it.  Every life of the
service writes under an epoch of its own, from a segment that a durable
checkpoint names, so what an earlier life left behind a valid prefix never
continues it.
"""

import itertools
from functools import cache
from struct import Struct

from appliance.cdp import format
from appliance.cdp.chain import Chain
from appliance.cdp.changes import Changes
from appliance.cdp.checkpoint import Tail
from appliance.cdp.delta_map import DeltaMap, MapKind
from appliance.cdp.format import (
    ENTRY,
    PAGE,
    RECORD_HEADER,
    RECORD_MAGIC,
    SEGMENT_HEADER,
    SEGMENT_MAGIC,
)
from appliance.cdp.interfaces import Clock, Post
from appliance.cdp.segments import Segments
from appliance.cdp.superblock import Superblock

MAPS_IN_HISTORY = 64
"""A map is closed when it holds this fraction of the history ..."""
MAP_ENTRIES = 256 << 10
"""... or so many entries: 8 MiB of memory."""
CLOCK_STEP_NS = 2_000_000_000
"""The wall clock was stepped if it left the monotonic clock by more than this."""

HEADROOM = 2 * PAGE
"""Bytes before the payload in a record's memory: a page for a segment's header,
which is written along with the first record of the segment, and the record's own."""

EntryFields = tuple[int, int, int, int, int]
"""An entry as it is packed: start, location, write, length, crc."""
_BLANK = memoryview(bytes(PAGE))


@cache
def _entries(count: int) -> Struct:
    """So many entries, one behind the other."""
    return Struct("<" + count * ENTRY.format.removeprefix("<"))


class Journal:
    """Where the next record goes, and what its headers say.

    Pure bookkeeping on memory; the write path does the I/O.
    """

    def __init__(
        self,
        superblock: Superblock,
        chain: Chain,
        segments: Segments,
        clock: Clock,
        tail: Tail,
    ) -> None:
        self._superblock = superblock
        self._chain = chain
        self._segments = segments
        self._clock = clock
        self._segment = self._next = tail.segment
        self._previous_crc = tail.crc
        self._segment_pages = superblock.segment_size // PAGE
        self._page = self._segment_pages
        self._kind = MapKind.HOST
        self._cut: MapKind | None = None
        """A map of this kind is opened as soon as one can be."""
        self._watches: list[Changes] = []
        self.promised = False
        """The next record has its room here; a map that ends before it would take that away."""
        self.mid_write = False
        """The last record ended in the middle of a host's write: no map may end behind it."""
        self._map_bytes = max(
            superblock.segment_size,
            superblock.segment_count * superblock.segment_size // MAPS_IN_HISTORY,
        )
        self._born_ns = clock.monotonic_ns() - chain.elapsed_ns
        self._clock_offset = clock.wall_ns() - clock.monotonic_ns()

    @property
    def tail(self) -> Tail:
        """Where recovery begins to follow the stream: the start of the first unsettled map."""
        unsettled = self._chain.unsettled
        if unsettled is not None and unsettled.record_segments:
            return Tail(unsettled.record_segments[0], unsettled.before_crc)
        return Tail(self._next, self._previous_crc)

    @property
    def newest_write(self) -> int:
        """The last write that any map holds."""
        return self._chain.newest_write

    def wall_ns(self) -> int:
        """What the box believes the time to be."""
        return self._clock.wall_ns()

    def elapsed_ns(self) -> int:
        """How long the volume has been in service, over all its lives."""
        return self._clock.monotonic_ns() - self._born_ns

    def has_room(self, payload: int, reserve: int) -> bool:
        """Can a record of that payload be placed without touching the last `reserve` segments?

        If so it is promised, and no map is closed until it has its place.
        """
        if self._cut is not None and not self.mid_write:
            self.close_map(self._cut)
        self.promised = self._fits(1 + payload // PAGE) or self._segments.free > reserve
        return self.promised

    def _fits(self, pages: int) -> bool:
        return self._page + pages <= self._segment_pages

    def place(self, payload: int) -> tuple[int, int]:
        """Take the place of the next record with `payload` bytes, a multiple of PAGE.

        Returns the byte on the secondary where its memory is written to, and
        from where in that memory: 0 if a segment's header goes along, else
        PAGE.  The caller made sure that there is room.
        """
        self.promised = False
        pages = 1 + payload // PAGE
        if self._fits(pages):
            offset = self._superblock.segment_offset(self._segment) + self._page * PAGE
            self._page += pages
            return offset, PAGE
        successor = self._segments.take()
        assert successor is not None, "the write path asks has_room() first"
        self._segment, self._next = self._next, successor
        self._page = 1 + pages
        present = self._chain.present or self._open_map()
        present.record_segments.append(self._segment)
        return self._superblock.segment_offset(self._segment), 0

    def _open_map(self) -> DeltaMap:
        chain = self._chain
        present = DeltaMap(
            id=chain.next_map,
            kind=self._kind,
            epoch=chain.epoch,
            first_write=0,  # known with the first record
            last_write=0,
            opened=self._clock.wall_ns(),
            before_crc=self._previous_crc,
        )
        chain.next_map += 1
        chain.present = present
        return present

    def seal(
        self,
        memory: memoryview,
        entries: list[EntryFields],
        payload: int,
        order: int,
        with_segment: bool,
        mid_write: bool = False,
    ) -> DeltaMap:
        """Fill in the headers of the record just placed, and take it into the present map.

        `memory` is HEADROOM, then the payload; `entries` are packed as they
        stand: (start, location, write, length, crc).  `mid_write`: the last
        write goes on in the next record, so the map cannot end here.  Count the
        record of the map returned out of `in_flight` when the secondary has it.
        """
        present = self._chain.present
        assert present is not None
        wall, monotonic = self._clock.wall_ns(), self._clock.monotonic_ns()
        self._note_clock_steps(wall - monotonic)
        first_write, last_write = entries[0][2], entries[-1][2]
        if not present.first_write:
            present.first_write = first_write
        if with_segment:
            self._seal_segment(memory, present)
        first = PAGE + RECORD_HEADER.size
        count = len(entries)
        at = first + count * ENTRY.size
        _entries(count).pack_into(memory, first, *itertools.chain.from_iterable(entries))
        memory[at:HEADROOM] = _BLANK[: HEADROOM - at]
        RECORD_HEADER.pack_into(
            memory,
            PAGE,
            RECORD_MAGIC,
            0,
            PAGE,
            self._superblock.set_id,
            present.id,
            present.epoch,
            first_write,
            last_write,
            order,
            wall,
            monotonic - self._born_ns,
            self._chain.clock_epoch,
            self._previous_crc,
            payload,
            count,
            format.MID_WRITE if mid_write else 0,
        )
        self._previous_crc = format.seal_in_place(memory[PAGE:HEADROOM], PAGE)
        packed = memory[first:at]
        for watch in self._watches:
            watch.add(packed)
        present.append(
            packed,
            last_write,
            wall,
            self._chain.clock_epoch,
            payload,
        )
        present.in_flight += 1
        self.mid_write = mid_write
        full = present.payload_bytes >= self._map_bytes or present.entry_count >= MAP_ENTRIES
        if (full or self._cut is not None) and not mid_write:
            self.close_map(self._cut)
        return present

    def _seal_segment(self, memory: memoryview, present: DeltaMap) -> None:
        memory[:PAGE] = bytes(PAGE)
        SEGMENT_HEADER.pack_into(
            memory,
            0,
            SEGMENT_MAGIC,
            0,
            PAGE,
            self._superblock.set_id,
            present.id,
            present.epoch,
            present.first_write,
            present.opened,
            present.kind,
            self._segment,
            self._next,
            self._previous_crc,
        )
        format.seal_in_place(memory, PAGE)

    def _note_clock_steps(self, offset: int) -> None:
        if abs(offset - self._clock_offset) > CLOCK_STEP_NS:
            self._chain.clock_epoch += 1
            self._clock_offset = offset

    @property
    def watched(self) -> bool:
        """Does anybody still want to know what is journaled?"""
        return bool(self._watches)

    def watch(self, post: Post) -> Changes:
        """Tell what is journaled from now on; end it."""
        changes = Changes(post, self._unwatch)
        self._watches.append(changes)
        return changes

    def _unwatch(self, changes: Changes) -> None:
        if changes in self._watches:
            self._watches.remove(changes)

    def close_map(self, next_kind: MapKind | None = None) -> None:
        """Cut the stream: the next record opens a map in a segment of its own.

        It is of `next_kind`, or of the same kind as this one.
        """
        assert not self.mid_write, "no map ends in the middle of a write"
        chain = self._chain
        if chain.present is not None:
            chain.present.closed = self._clock.wall_ns()
            chain.maps.append(chain.present)
            chain.present = None
        self._page = self._segment_pages
        self._kind = next_kind or self._kind
        self._cut = None

    def cut(self, next_kind: MapKind) -> None:
        """Close the map before the next record that is not promised, nor ends a write."""
        self._cut = next_kind
