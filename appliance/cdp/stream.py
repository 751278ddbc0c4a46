"""Following the journal's stream over the segments: what is on the disk, and no more.

A record is believed when its header and every payload piece match their CRCs
and it continues the stream exactly: same set, map and epoch, and the CRC of
the record before.  Where a segment's records end, the stream either goes on in
the successor that the segment names, whose header must carry the CRC of the
last record, or it ends there: that is the longest valid prefix.
"""

from dataclasses import dataclass

import numpy as np

from appliance.cdp import disk_io, format
from appliance.cdp.checkpoint import Tail
from appliance.cdp.delta_map import DeltaMap, MapKind, MapOrder
from appliance.cdp.format import (
    ENTRY,
    ENTRY_DTYPE,
    LOST,
    MARK,
    MID_WRITE,
    NUMBER_LIMIT,
    PAGE,
    RECORD_ENTRIES,
    RECORD_HEADER,
    RECORD_MAGIC,
    SEGMENT_HEADER,
    SEGMENT_MAGIC,
    ZEROS,
    Rows,
    crc32c,
)
from appliance.cdp.interfaces import SECTOR, Disk
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.superblock import Superblock
from appliance.errors import DiskFailed, FormatDamaged


@dataclass(frozen=True, slots=True)
class Record:
    """A record whose header is whole and can be.  `payload` is bytes."""

    entries: bytes
    crc: int
    mid_write: bool
    """Its last write goes on in the next record."""
    map_id: int
    epoch: int
    first_write: int
    last_write: int
    order: int
    wall: int
    elapsed: int
    clock_epoch: int
    previous_crc: int
    payload: int


@dataclass(frozen=True, slots=True)
class Followed:
    """A stream's longest valid prefix, cut into maps, which are in memory."""

    maps: list[DeltaMap]
    next_order: int
    elapsed: int
    clock_epoch: int
    mid_write: bool
    """It ends in the middle of a write."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The records of a closed map up to the first that is damaged, or all of them."""

    entries: bytes
    marks: bytes
    records: int
    payload: int
    last_write: int
    mid_write: bool
    """It ends in the middle of a write."""
    wall: int
    """When its last record was made."""
    segments: int
    """How many of the map's segments these records lie in."""


class Stream:
    """Reads the segments of one secondary."""

    def __init__(self, disk: Disk, superblock: Superblock, pool: BufferPool) -> None:
        self._disk = disk
        self._superblock = superblock
        self._pool = pool

    async def follow(self, tail: Tail, epoch: int, next_map: int) -> Followed:
        """From a checkpoint's tail to where the stream ends."""
        maps: list[DeltaMap] = []
        crc = tail.crc
        segment = tail.segment
        seen: set[int] = set()
        order = elapsed = clock_epoch = 0
        mid_write = False
        while segment < self._superblock.segment_count and segment not in seen:
            seen.add(segment)
            buffer, _ = await self.salvage(segment)
            try:
                try:
                    header = self.segment_header(buffer.view, segment)
                except FormatDamaged:
                    break
                if header.epoch != epoch or header.previous_crc != crc:
                    break
                if not maps or header.map_id != maps[-1].id:
                    if header.map_id != (maps[-1].id + 1 if maps else next_map):
                        break
                    maps.append(header.new_map())
                current = maps[-1]
                current.record_segments.append(segment)
                for record in self.records(
                    buffer.view,
                    segment,
                    current.id,
                    epoch,
                    crc,
                    current.last_write,
                    with_payload=True,
                ):
                    current.append(
                        record.entries,
                        record.last_write,
                        record.wall,
                        record.clock_epoch,
                        record.payload,
                    )
                    current.closed = record.wall
                    crc, order, elapsed = record.crc, record.order, record.elapsed
                    clock_epoch, mid_write = record.clock_epoch, record.mid_write
                segment = header.successor
            finally:
                buffer.release()
        whole = [delta_map for delta_map in maps if delta_map.records]
        return Followed(whole, order + 1, elapsed, clock_epoch, mid_write)

    async def load(self, delta_map: DeltaMap) -> tuple[bytes, bytes]:
        """Entries and marks of a closed map, from its index or else from its records.

        FormatDamaged if neither holds all of it.
        """
        if delta_map.indexed:
            try:
                return await self.load_index(delta_map)
            except (FormatDamaged, DiskFailed) as error:
                if self._disk.fenced:
                    raise
                if delta_map.order is MapOrder.BLOCK:
                    what = f"the index of delta map {delta_map.id}"
                    raise FormatDamaged(what=what, reason=str(error)) from error
        found = await self.prefix(delta_map)
        if found.records != delta_map.records:
            raise FormatDamaged(
                what=f"delta map {delta_map.id}",
                reason=f"only {found.records} of its {delta_map.records} records can be read",
            )
        return found.entries, found.marks

    async def prefix(self, delta_map: DeltaMap) -> Prefix:
        """What the records of a closed map still tell without a hole.

        DiskFailed only if the disk is gone.
        """
        entries = bytearray()
        marks = bytearray()
        crc, write, count = delta_map.before_crc, 0, 0
        payload = wall = segments = 0
        mid_write = False
        for number, segment in enumerate(delta_map.record_segments):
            buffer, _ = await self.salvage(segment)
            try:
                for record in self.records(
                    buffer.view,
                    segment,
                    delta_map.id,
                    delta_map.epoch,
                    crc,
                    write,
                    with_payload=False,
                ):
                    if count == delta_map.records:
                        break
                    entries += record.entries
                    marks += MARK.pack(record.last_write, record.wall, record.clock_epoch)
                    crc, write, count = record.crc, record.last_write, count + 1
                    payload, wall, segments = payload + record.payload, record.wall, number + 1
                    mid_write = record.mid_write
            finally:
                buffer.release()
        return Prefix(
            bytes(entries), bytes(marks), count, payload, write, mid_write, wall, segments
        )

    async def load_index(self, delta_map: DeltaMap) -> tuple[bytes, bytes]:
        """Entries and marks; FormatDamaged unless the index is whole."""
        split = delta_map.entry_count * ENTRY.size
        left = split + delta_map.mark_count * MARK.size
        raw = bytearray()
        for segment in delta_map.index_segments:
            size = min(left, self._superblock.segment_size)
            offset = self._superblock.segment_offset(segment)
            raw += await disk_io.read_bytes(self._disk, self._pool, offset, format.pages(size))
            del raw[len(raw) - (format.pages(size) - size) :]
            left -= size
        what = f"the index of delta map {delta_map.id}"
        if left or crc32c(bytes(raw)) != delta_map.index_crc:
            raise FormatDamaged(what=what, reason="its checksum is wrong")
        entries = bytes(raw[:split])
        begin = self._superblock.history_offset
        end = self._superblock.segment_offset(self._superblock.segment_count)
        lost_too = delta_map.order is MapOrder.BLOCK
        check_rows(self._superblock, as_rows(entries), begin, end, what, lost_too=lost_too)
        return entries, bytes(raw[split:])

    async def read_segment(self, segment: int) -> Buffer:
        """All of a segment; the caller releases it."""
        offset = self._superblock.segment_offset(segment)
        return await disk_io.read(self._disk, self._pool, offset, self._superblock.segment_size)

    async def salvage(self, segment: int) -> tuple[Buffer, dict[int, DiskFailed]]:
        """All that the disk gives of a segment; the caller releases it.

        Pages that cannot be read are zeros, and named with the reason.
        DiskFailed only if the disk is gone.
        """
        try:
            return await self.read_segment(segment), {}
        except DiskFailed:
            if self._disk.fenced:
                raise
        lost: dict[int, DiskFailed] = {}
        buffer = self._pool.get(self._superblock.segment_size)
        begin = self._superblock.segment_offset(segment)
        try:
            for at in range(0, self._superblock.segment_size, PAGE):
                try:
                    raw = await disk_io.read_bytes(self._disk, self._pool, begin + at, PAGE)
                except DiskFailed as error:
                    if self._disk.fenced:
                        raise
                    lost[at // PAGE] = error
                    raw = bytes(PAGE)
                buffer.view[at : at + PAGE] = raw
        except BaseException:
            buffer.release()
            raise
        return buffer, lost

    def segment_header(self, view: memoryview, segment: int) -> "SegmentHeader":
        """FormatDamaged if it cannot be believed."""
        what = f"the header of segment {segment}"
        format.check_envelope(view[:PAGE], SEGMENT_MAGIC, what)
        fields = SEGMENT_HEADER.unpack_from(view)
        header = SegmentHeader(*fields[4:])
        if fields[3] != self._superblock.set_id:
            raise FormatDamaged(what=what, reason="it belongs to another volume")
        if header.segment != segment:
            raise FormatDamaged(what=what, reason=f"it is segment {header.segment}'s")
        if header.kind not in list(MapKind):
            raise FormatDamaged(what=what, reason=f"maps of kind {header.kind} do not exist")
        if max(header.map_id, header.epoch, header.first_write) >= NUMBER_LIMIT:
            raise FormatDamaged(what=what, reason="its numbers cannot be")
        return header

    def records(
        self,
        view: memoryview,
        segment: int,
        map_id: int,
        epoch: int,
        crc: int,
        write: int,
        *,
        with_payload: bool,
    ) -> list[Record]:
        """The records of a segment, as far as they continue the stream behind `crc` and `write`.

        A long write may be spread over several records.  `with_payload`: a
        record whose payload is damaged ends them, as at the journal's tail; in
        a closed map only the points that need the payload suffer from that.
        """
        found = []
        page = 1
        while page < self._superblock.segment_size // PAGE:
            try:
                record = self.record(view, segment, page)
            except FormatDamaged:
                break
            own = (record.map_id, record.epoch, record.previous_crc)
            if own != (map_id, epoch, crc) or record.first_write < write:
                break
            if with_payload and self.damaged_payload(view, segment, record):
                break
            found.append(record)
            crc, write = record.crc, record.last_write
            page += 1 + record.payload // PAGE
        return found

    def record(self, view: memoryview, segment: int, page: int) -> Record:
        """The record whose header is a page of a segment; FormatDamaged if it cannot be."""
        header = view[page * PAGE : (page + 1) * PAGE]
        what = f"the record at page {page} of segment {segment}"
        format.check_envelope(header, RECORD_MAGIC, what)
        fields = RECORD_HEADER.unpack_from(header)
        own_crc, set_id, payload, count = fields[1], fields[3], fields[13], fields[14]
        size = self._superblock.segment_size
        if set_id != self._superblock.set_id:
            raise FormatDamaged(what=what, reason="it belongs to another volume")
        if payload % PAGE or (page + 1) * PAGE + payload > size:
            raise FormatDamaged(what=what, reason=f"a payload of {payload} bytes does not fit")
        if not 0 < count <= RECORD_ENTRIES:
            raise FormatDamaged(what=what, reason=f"it counts {count} entries")
        if max(*fields[4:9], fields[10]) >= NUMBER_LIMIT:
            raise FormatDamaged(what=what, reason="its numbers cannot be")
        raw = bytes(header[RECORD_HEADER.size : RECORD_HEADER.size + count * ENTRY.size])
        begin = self._superblock.segment_offset(segment) + (page + 1) * PAGE
        rows = as_rows(raw)
        check_rows(self._superblock, rows, begin, begin + payload, what)
        if (rows["write"][0], rows["write"][-1]) != (fields[6], fields[7]):
            raise FormatDamaged(what=what, reason="its writes are not those of its entries")
        return Record(raw, own_crc, bool(fields[15] & MID_WRITE), *fields[4:14])

    def damaged_payload(self, view: memoryview, segment: int, record: Record) -> list[int]:
        """Which entries of a record fail their CRC; `view` is the whole segment."""
        base = self._superblock.segment_offset(segment) // SECTOR
        payloads = np.frombuffer(view, np.uint8)
        damaged = []
        for number, (_, location, _, length, crc) in enumerate(ENTRY.iter_unpack(record.entries)):
            if location != ZEROS:
                at = (location - base) * SECTOR
                if crc32c(payloads[at : at + length * SECTOR]) != crc:
                    damaged.append(number)
        return damaged


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """A believed header of a segment."""

    map_id: int
    epoch: int
    first_write: int
    opened: int
    kind: int
    segment: int
    successor: int
    previous_crc: int

    def new_map(self) -> DeltaMap:
        return DeltaMap(
            id=self.map_id,
            kind=MapKind(self.kind),
            epoch=self.epoch,
            first_write=self.first_write,
            last_write=self.first_write,
            opened=self.opened,
            before_crc=self.previous_crc,
        )


def as_rows(entries: bytes) -> Rows:
    """Packed entries as an array."""
    return np.frombuffer(entries, ENTRY_DTYPE)


def check_rows(
    superblock: Superblock, rows: Rows, begin: int, end: int, what: str, *, lost_too: bool = False
) -> None:
    """FormatDamaged unless entries lie on the volume, their data from byte `begin` to `end` of
    the secondary, and their writes ascend; `lost_too`: or their data is lost."""
    volume = superblock.volume_size // SECTOR
    starts, lengths, writes = rows["start"], rows["length"].astype(np.uint64), rows["write"]
    if (lengths == 0).any() or (lengths > volume).any() or (starts > volume - lengths).any():
        raise FormatDamaged(what=what, reason="an entry reaches outside the volume")
    if (writes[1:] < writes[:-1]).any():
        raise FormatDamaged(what=what, reason="its writes are out of order")
    kept = rows["location"] < LOST if lost_too else rows["location"] != ZEROS
    locations, lengths = rows["location"][kept], lengths[kept]
    first, behind = begin // SECTOR, end // SECTOR
    if (locations < first).any() or (locations > behind).any():
        raise FormatDamaged(what=what, reason="an entry's data lies elsewhere")
    if (lengths > behind - locations).any():
        raise FormatDamaged(what=what, reason="an entry's data lies elsewhere")
