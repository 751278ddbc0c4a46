"""Checking the history on a secondary: its directory, its maps, and the journal's tail."""

from appliance.cdp.chain import Chain
from appliance.cdp.check import findings
from appliance.cdp.check.findings import FindingKind
from appliance.cdp.check.maps import MapCheck, SegmentSource
from appliance.cdp.check.report import Report, raise_if_gone
from appliance.cdp.checkpoint import SLOTS, Checkpoints, Loaded
from appliance.cdp.delta_map import DeltaMap
from appliance.cdp.format import PAGE, Rows
from appliance.cdp.interfaces import Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.pit_map import PitMap
from appliance.cdp.superblock import Superblock
from appliance.errors import DiskFailed, EbbtideError, FormatDamaged

GATHERED = 1 << 20
"""Entries that are gathered before those that newer ones hide are dropped."""


class HistoryCheck:
    """The check of one secondary, without its base image."""

    def __init__(
        self, disk: Disk, superblock: Superblock, pool: BufferPool, report: Report
    ) -> None:
        self.is_whole = False
        """Every record that the newest point is made of was found."""
        self.chain = Chain()
        self._disk = disk
        self._superblock = superblock
        self._checkpoints = Checkpoints(disk, superblock, pool)
        self._report = report
        self._source = SegmentSource(disk, superblock, pool, report)
        self._rows: list[Rows] = []
        self._gathered = 0

    def newest_point(self) -> PitMap:
        """Of everything that was found; what it means if not all was, `is_whole` says."""
        return PitMap(self.chain.newest_write, self._rows)

    async def run(self, generations: set[bytes] | None, stable_write: int) -> None:
        """Check it all.

        `generations` are all that the pair's superblocks know, or None if only
        the secondary is there.  `stable_write` is the write behind which the
        journal was flushed, as the primary says.
        """
        loaded = await self._directory(generations)
        if loaded is None:
            return
        self.chain = chain = loaded.chain
        size = self._superblock.segment_size
        self._report.total += size * sum(len(delta_map.segments) for delta_map in chain.maps)
        self.is_whole = True
        for delta_map in chain.maps:
            rows = await MapCheck(self._source, delta_map).run()
            self._gather(rows)
        await self._tail(loaded)
        if chain.newest_write < stable_write:
            reason = f"it ends at write {chain.newest_write}, and was flushed behind {stable_write}"
            self._tell(findings.JOURNAL_SHORT, "journal", reason)
        self._check_points()

    def _tell(self, kind: FindingKind, what: str, reason: object) -> None:
        self._report(kind, self._disk, what, reason)

    def _gather(self, rows: Rows | None) -> None:
        if rows is None:
            self.is_whole = False
            return
        self._rows.append(rows)
        self._gathered += len(rows)
        if self._gathered > GATHERED:
            self._rows = [PitMap(0, self._rows).rows]
            self._gathered = 0

    # The directory

    async def _directory(self, generations: set[bytes] | None) -> Loaded | None:
        found: dict[int, Loaded] = {}
        damaged: dict[int, object] = {}
        for slot in range(SLOTS):
            try:
                found[slot] = await self._checkpoints.read_slot(slot)
            except (FormatDamaged, DiskFailed) as error:
                raise_if_gone(self._disk, error)
                damaged[slot] = error.fields["reason"]
        kind = findings.CHECKPOINT_SLOT if found else findings.NO_CHECKPOINT
        for slot, reason in damaged.items():
            self._tell_slot(kind, slot, reason)
        if not found:
            return None
        newest = max(found.values(), key=lambda loaded: loaded.number)
        for slot, loaded in found.items():
            due = newest.number - (newest.number - slot) % SLOTS
            if loaded.number != due:
                reason = f"it bears number {loaded.number} where {due} is due"
                self._tell_slot(findings.CHECKPOINT_ORDER, slot, reason)
            if generations is not None and loaded.generation not in generations:
                reason = f"its generation {loaded.generation.hex()} is unknown"
                self._tell_slot(findings.CHECKPOINT_GENERATION, slot, reason)
        return newest

    def _tell_slot(self, kind: FindingKind, slot: int, reason: object) -> None:
        offset, size = self._checkpoints.offset(slot), self._superblock.checkpoint_size
        self._report(kind, self._disk, f"checkpoint slot {slot}", reason, offset, size)

    def _check_points(self) -> None:
        chain = self.chain
        if chain.maps and chain.next_map <= chain.maps[-1].id:
            reason = f"the next delta map is {chain.next_map}, the last one {chain.maps[-1].id}"
            self._tell(findings.DIRECTORY, "checkpoint", reason)
        behind = chain.floor
        for gap in chain.gaps:
            if not behind < gap.from_write <= gap.to_write:
                reason = f"writes {gap.from_write} to {gap.to_write}, behind {behind}"
                self._tell(findings.GAP, "gap", reason)
            behind = max(behind, gap.to_write)
        for snapshot in chain.snapshots.values():
            try:
                chain.check_restorable(snapshot.write, f"write {snapshot.write}")
            except EbbtideError as error:
                self._tell(findings.SNAPSHOT, f"snapshot '{snapshot.name}'", error)
        if chain.incomplete_from:
            reason = f"points from write {chain.incomplete_from} on"
            self._tell(findings.INCOMPLETE, "timeline", reason)

    # The tail

    async def _tail(self, loaded: Loaded) -> None:
        """Follow the journal behind the checkpoint, and look at what lies behind its end."""
        chain = self.chain
        followed = await self._source.stream.follow(loaded.tail, chain.epoch, chain.next_map)
        for delta_map in followed.maps:
            self._gather(delta_map.entries())
            self._report.total += len(delta_map.segments) * self._superblock.segment_size
            self._report.read(len(delta_map.segments) * self._superblock.segment_size)
        chain.maps += followed.maps
        if followed.maps:
            chain.next_map = followed.maps[-1].id + 1
            records = sum(delta_map.records for delta_map in followed.maps)
            reason = f"{records} records behind the checkpoint, up to write {chain.newest_write}"
            self._tell(findings.TAIL, "journal", reason)
        lost_before = self._source.pages_lost
        await self._look_behind(_last_segment(followed.maps, loaded.tail.segment))
        if self._source.pages_lost > lost_before:
            self.is_whole = False  # the journal may have gone on there

    async def _look_behind(self, segment: int) -> None:
        """Records of this life in the segment where the journal ends, or in its successor."""
        for _ in range(2):
            buffer = await self._source.read(segment, findings.BEHIND_TAIL)
            try:
                self._tell_later(buffer.view, segment)
                successor = self._source.stream.segment_header(buffer.view, segment).successor
            except FormatDamaged:
                return
            finally:
                buffer.release()
            if successor >= self._superblock.segment_count:
                return
            segment = successor

    def _tell_later(self, view: memoryview, segment: int) -> None:
        newest = self.chain.newest_write
        pages = []
        last = newest
        for page in range(1, self._superblock.segment_size // PAGE):
            try:
                record = self._source.stream.record(view, segment, page)
            except FormatDamaged:
                continue
            if record.epoch == self.chain.epoch and record.first_write > newest:
                pages.append(page)
                last = max(last, record.last_write)
        if pages:
            reason = f"{len(pages)} records, up to write {last}, lie behind the journal's end"
            length = (pages[-1] + 1 - pages[0]) * PAGE
            self._source.tell(findings.BEHIND_TAIL, segment, pages[0] * PAGE, length, reason)


def _last_segment(maps: list[DeltaMap], tail: int) -> int:
    return maps[-1].record_segments[-1] if maps else tail
