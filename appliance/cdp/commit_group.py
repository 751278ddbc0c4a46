"""Commit groups: host writes gathered into what one record and one batch of I/O take.

A group's memory lies as the journal wants it: HEADROOM for headers, then the
payload of each write, one behind the other.  The primary's legs point into the
same memory, so that both legs are written from one private copy.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from appliance.cdp.delta_map import DeltaMap
from appliance.cdp.format import ENTRY_BYTES, PAGE, RECORD_ENTRIES, ZEROS, crc32c
from appliance.cdp.interfaces import SECTOR, WRITE, ZERO, Data, DiskRequest, HostRequest
from appliance.cdp.journal import HEADROOM, EntryFields, location_of
from appliance.cdp.memory import Buffer, BufferPool

REPAIR: Final = 16
"""A HostRequest of the appliance itself: data of the primary that the secondary lacks.
It is numbered and journaled, and has no primary leg."""

GROUP_MEMORY: Final = 4 << 20
"""Bytes of a group at most, headers included."""
PIECE: Final = 1 << 20
"""A longer write is spread over groups in pieces of this size."""


class Piece(NamedTuple):
    """A host's write, or as much of it as a group takes; `at` is -1 for zeros."""

    request: HostRequest
    kind: int
    offset: int
    length: int
    at: int


class Group:
    """Writes that are committed together, and how far they are."""

    __slots__ = (
        "buffer",
        "used",
        "entry_count",
        "span",
        "pieces",
        "last_write",
        "mid_write",
        "repairs",
        "payload",
        "delta_map",
        "waves",
        "primary_legs",
        "primary_done",
        "journal_done",
        "journal_failed",
        "acknowledged",
        "failed",
        "failed_flushes",
    )

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.used = HEADROOM
        self.entry_count = 0
        self.span = 0
        """At most so many regions are touched."""
        self.pieces: list[Piece] = []
        self.last_write = 0
        self.mid_write = False
        """The last write goes on in the next group."""
        self.repairs = False
        """Some of it goes to the journal only."""
        self.payload = 0
        self.delta_map: DeltaMap | None = None
        """Where its record is."""
        self.waves: list[list[DiskRequest]] = []
        """Legs to the primary that have not been issued; a wave waits for the one before."""
        self.primary_legs = 0
        self.primary_done = False
        self.journal_done = False
        self.journal_failed = False
        self.acknowledged = False
        self.failed: list[DiskRequest] = []
        self.failed_flushes = 0
        """Flushes of the primary that had failed when its first write was issued."""

    def close(self, next_piece: Piece | None) -> None:
        """Nothing is added any more; `next_piece` opens the next group."""
        last = self.pieces[-1].request
        self.payload = -(-(self.used - HEADROOM) // PAGE) * PAGE
        self.last_write = last.number
        self.mid_write = next_piece is not None and next_piece.request is last

    def regions(self, size: int) -> set[int]:
        """The regions of `size` bytes that its writes to the primary touch."""
        regions = set()
        for _, kind, offset, length, _ in self.pieces:
            if kind != REPAIR:
                first, last = offset // size, (offset + length - 1) // size
                if first == last:
                    regions.add(first)
                else:
                    regions.update(range(first, last + 1))
        return regions

    def entries(self, record: int) -> list[EntryFields]:
        """The entries of its record, whose header page lies at byte `record` of the secondary."""
        memory = self.buffer.array
        entries: list[EntryFields] = []
        for request, _, start, length, at in self.pieces:
            number = request.number
            if at < 0:
                entries.append((start // SECTOR, ZEROS, number, length // SECTOR, 0))
                continue
            for done in range(0, length, ENTRY_BYTES):
                size = min(ENTRY_BYTES, length - done)
                crc = crc32c(memory[at + done : at + done + size])
                location = location_of(record, at + done)
                entries.append(((start + done) // SECTOR, location, number, size // SECTOR, crc))
        return entries

    def concerned(self, leg: DiskRequest) -> Iterator[HostRequest]:
        """The requests whose data a leg carried."""
        for piece in self.pieces:
            if piece.offset < leg.offset + leg.length and leg.offset < piece.offset + piece.length:
                yield piece.request


class Gathering:
    """The groups that wait to be committed; the last one takes what comes."""

    def __init__(
        self, pool: BufferPool, memory: int, align: int, region_size: int, span: int
    ) -> None:
        """`memory` and `align` in bytes; a group touches at most `span` regions."""
        self.groups: deque[Group] = deque()
        self._pool = pool
        self._memory = memory
        self._align = align
        self._region_size = region_size
        self._span = span

    def add(self, request: HostRequest) -> None:
        """Take a numbered WRITE, ZERO or REPAIR; its data is copied now."""
        length, data = request.length, request.data
        if data is None:
            request.parts = 1
            group = self._group_for(0, 1, length)
            group.pieces.append(Piece(request, ZERO, request.offset, length, -1))
        elif length <= ENTRY_BYTES and length <= self._memory - HEADROOM:
            request.parts = 1
            self._copy(request, request.offset, length, data)
        else:
            step = min(self._memory - HEADROOM, PIECE)
            request.parts = -(-length // step)
            for at in range(0, length, step):
                part = data[at : at + step]
                self._copy(request, request.offset + at, len(part), part)

    def take(self) -> Group:
        """The oldest group, closed by `close`."""
        return self.groups.popleft()

    def close_oldest(self) -> Group:
        """The oldest group, of which it is now known how much it holds."""
        group = self.groups[0]
        group.close(self.groups[1].pieces[0] if len(self.groups) > 1 else None)
        return group

    def _copy(self, request: HostRequest, offset: int, length: int, data: Data) -> None:
        group = self._group_for(length, -(-length // ENTRY_BYTES), length)
        at = group.used
        group.buffer.view[at : at + length] = data
        group.used = at + -(-length // self._align) * self._align
        group.pieces.append(Piece(request, request.kind, offset, length, at))

    def _group_for(self, payload: int, entries: int, length: int) -> Group:
        """The group that gathers, if it has room for so much more, or a new one."""
        span = length // self._region_size + 2
        if self.groups:
            group = self.groups[-1]
            if (
                group.used + payload <= self._memory
                and group.entry_count + entries <= RECORD_ENTRIES
                and group.span + span <= self._span
            ):
                group.entry_count += entries
                group.span += span
                return group
        group = Group(self._pool.get(self._memory))
        group.entry_count = entries
        group.span = span
        self.groups.append(group)
        return group


def waves(legs: list[DiskRequest]) -> list[list[DiskRequest]]:
    """Legs that overlap, in waves that follow each other; neighbours are joined first."""
    if len(legs) <= 1:
        return [legs] if legs else []
    joined = [legs[0]]
    for leg in legs[1:]:
        last = joined[-1]
        if (
            leg.offset == last.offset + last.length
            and leg.start == last.start + last.length
            and leg.kind == last.kind == WRITE
        ):
            last.length += leg.length
        else:
            joined.append(leg)
    if _disjoint(joined):
        return [joined]
    found: list[list[DiskRequest]] = [[]]
    for leg in joined:
        first, end = leg.offset, leg.offset + leg.length
        if any(first < other.offset + other.length and other.offset < end for other in found[-1]):
            found.append([])
        found[-1].append(leg)
    return found


def _disjoint(legs: list[DiskRequest]) -> bool:
    behind = 0
    for first, end in sorted((leg.offset, leg.offset + leg.length) for leg in legs):
        if first < behind:
            return False
        behind = end
    return True
