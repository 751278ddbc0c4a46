"""Checking one delta map: every segment, record and payload, and its index.

A damaged record does not end the walk: it goes on with the next record that
belongs to the map, and only what lies between is named.  Where the records of
a segment end, the header of the next one tells whether any were lost.
"""

from appliance.cdp.check import findings
from appliance.cdp.check.findings import FindingKind
from appliance.cdp.check.report import Report, raise_if_gone
from appliance.cdp.delta_map import DeltaMap, MapOrder
from appliance.cdp.format import ENTRY, PAGE, Rows
from appliance.cdp.interfaces import SECTOR, Disk
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.stream import Record, SegmentHeader, Stream, as_rows
from appliance.cdp.superblock import Superblock
from appliance.errors import DiskFailed, FormatDamaged


class SegmentSource:
    """Segments, as far as the disk gives them."""

    def __init__(
        self, disk: Disk, superblock: Superblock, pool: BufferPool, report: Report
    ) -> None:
        self.stream = Stream(disk, superblock, pool)
        self.disk = disk
        self.superblock = superblock
        self.report = report
        self.pages_lost = 0
        """Pages that the disk did not give."""

    async def read(self, segment: int, kind: FindingKind) -> Buffer:
        """All of a segment, which the caller releases; what cannot be read is zeros, and told."""
        self.report.read(self.superblock.segment_size)
        buffer, lost = await self.stream.salvage(segment)
        self.pages_lost += len(lost)
        for page, error in lost.items():
            self.tell(kind, segment, page * PAGE, PAGE, error.fields["reason"])
        return buffer

    def tell(self, kind: FindingKind, segment: int, at: int, length: int, reason: object) -> None:
        """A finding about bytes of a segment."""
        offset = self.superblock.segment_offset(segment) + at
        self.report(kind, self.disk, f"segment {segment}", reason, offset, length)


class MapCheck:
    """The check of one closed map."""

    def __init__(self, source: SegmentSource, delta_map: DeltaMap) -> None:
        self._source = source
        self._map = delta_map
        self._name = f"delta map {delta_map.id}"
        self._crc = delta_map.before_crc
        self._write = 0
        self._first_write = 0
        self._count = 0
        self._payload = 0
        self._entries = bytearray()
        self._is_broken = False
        self._suspicion: tuple[int, int, FormatDamaged] | None = None
        """Segment and page where its records ended, which may be damage."""

    async def run(self) -> Rows | None:
        """The entries of the map; None if neither its records nor its index hold them all."""
        if self._map.order is MapOrder.BLOCK:
            return await self._run_indexed()
        segments = self._map.record_segments
        for number, segment in enumerate(segments):
            successor = segments[number + 1] if number + 1 < len(segments) else None
            buffer = await self._source.read(segment, findings.PAYLOAD)
            try:
                self._walk(buffer.view, segment, successor)
            finally:
                buffer.release()
        self._compare_totals()
        index = await self._index() if self._map.indexed else None
        whole = not self._is_broken and self._count == self._map.records
        if whole:
            if index is not None and index != bytes(self._entries):
                self._tell(findings.INDEX_CONTRADICTION, "its index differs from its records")
            return as_rows(bytes(self._entries))
        return as_rows(index) if index is not None else None

    async def _run_indexed(self) -> Rows | None:
        """A block-ordered map has no records."""
        index = await self._index()
        if index is None:
            self._tell(findings.RECORD_COUNT, "its index is all that there was of it")
            return None
        return as_rows(index)

    def _tell(self, kind: FindingKind, reason: object) -> None:
        self._source.report(kind, self._source.disk, self._name, reason)

    # Records

    def _walk(self, view: memoryview, segment: int, successor: int | None) -> None:
        try:
            header = self._source.stream.segment_header(view, segment)
            self._check_header(header, segment, successor)
        except FormatDamaged as error:
            self._source.tell(findings.SEGMENT_HEADER, segment, 0, PAGE, error.fields["reason"])
            self._is_broken = True
        page = 1
        pages = self._source.superblock.segment_size // PAGE
        while page < pages and self._count < self._map.records:
            try:
                record = self._own_record(view, segment, page)
            except FormatDamaged as error:
                following = self._next_own(view, segment, page + 1)
                if following is None:
                    self._suspicion = (segment, page, error)
                    return
                self._lost(segment, page, following - page, error)
                page = following
                self._crc = self._own_record(view, segment, page).previous_crc
                continue
            self._take(view, segment, page, record)
            page += 1 + record.payload // PAGE

    def _check_header(self, header: SegmentHeader, segment: int, successor: int | None) -> None:
        """FormatDamaged if it is not the one that belongs here."""
        what = f"segment {segment}"
        if (header.map_id, header.epoch) != (self._map.id, self._map.epoch):
            raise FormatDamaged(what=what, reason=f"it belongs to delta map {header.map_id}")
        if header.previous_crc != self._crc:
            if self._suspicion is not None:
                self._lost(*self._suspicion[:2], 1, self._suspicion[2])
            elif not self._is_broken:
                raise FormatDamaged(what=what, reason="it does not continue the segment before")
            self._crc = header.previous_crc
        self._suspicion = None
        if successor is not None and header.successor != successor:
            reason = f"it names segment {header.successor} as its successor, not {successor}"
            raise FormatDamaged(what=what, reason=reason)

    def _own_record(self, view: memoryview, segment: int, page: int) -> Record:
        """FormatDamaged if there is none of this map."""
        record = self._source.stream.record(view, segment, page)
        if (record.map_id, record.epoch) != (self._map.id, self._map.epoch):
            what = f"the record at page {page} of segment {segment}"
            raise FormatDamaged(what=what, reason=f"it belongs to delta map {record.map_id}")
        return record

    def _next_own(self, view: memoryview, segment: int, page: int) -> int | None:
        for candidate in range(page, self._source.superblock.segment_size // PAGE):
            try:
                record = self._own_record(view, segment, candidate)
            except FormatDamaged:
                continue
            if record.first_write >= self._write:
                return candidate
        return None

    def _lost(self, segment: int, page: int, pages: int, error: FormatDamaged) -> None:
        reason = f"the record at its page {page} is lost: {error.fields['reason']}"
        self._source.tell(findings.RECORD_HEADER, segment, page * PAGE, pages * PAGE, reason)
        self._is_broken = True

    def _take(self, view: memoryview, segment: int, page: int, record: Record) -> None:
        if record.previous_crc != self._crc or record.first_write < self._write:
            reason = f"the record at its page {page} does not continue the one before"
            self._source.tell(findings.RECORD_HEADER, segment, page * PAGE, PAGE, reason)
            self._is_broken = True
        rows = as_rows(record.entries)
        for number in self._source.stream.damaged_payload(view, segment, record):
            row = rows[number]
            begin = self._source.superblock.segment_offset(segment)
            at = int(row["location"]) * SECTOR - begin
            reason = (
                f"data of write {row['write']} for byte {int(row['start']) * SECTOR}"
                " of the volume fails its checksum"
            )
            self._source.tell(findings.PAYLOAD, segment, at, int(row["length"]) * SECTOR, reason)
        self._crc, self._write = record.crc, record.last_write
        self._first_write = self._first_write or record.first_write
        self._count += 1
        self._payload += record.payload
        self._entries += record.entries

    def _compare_totals(self) -> None:
        expected = self._map
        if self._count < expected.records:
            reason = f"only {self._count} of its {expected.records} records can be read"
            if self._suspicion is not None and not self._is_broken:
                segment, page, error = self._suspicion
                self._lost(segment, page, 1, error)
            self._tell(findings.RECORD_COUNT, reason)
            return
        if self._is_broken:
            return
        for name, found, said in (
            ("entries", len(self._entries) // ENTRY.size, expected.entry_count),
            ("records' times", self._count, expected.mark_count),
            ("bytes", self._payload, expected.payload_bytes),
            ("first write", self._first_write, expected.first_write),
            ("last write", self._write, expected.last_write),
        ):
            if found != said:
                reason = f"{name}: the directory says {said}, the records say {found}"
                self._tell(findings.MAP_TOTALS, reason)

    # The index

    async def _index(self) -> bytes | None:
        """Its entries; None if it is damaged, which is told."""
        source = self._source
        source.report.read(len(self._map.index_segments) * source.superblock.segment_size)
        try:
            entries, _ = await source.stream.load_index(self._map)
        except (FormatDamaged, DiskFailed) as error:
            raise_if_gone(source.disk, error)
            self._tell(findings.INDEX_DAMAGED, error.fields["reason"])
            return None
        return entries
