"""Making the secondary equal to the primary: after a crash, after an absence, and first of all.

*Repair* compares a region of the primary with what the PIT map of the newest
point names on the secondary, by block, and appends what differs to the journal
as writes of the appliance, so that the past is kept and the newest point
becomes what the primary holds.  Recovery repairs before hosts attach; a resync
does it while they write, with the region locked for the moment of the
comparison.  Sectors that were journaled since the PIT map was made are equal by
construction and left out, exactly.

*Baseline* copies the primary into the base image in place, while host writes
go into the journal on top of it, which hides whatever the copy caught half
written.  No point before its end is restorable.
"""

from contextlib import suppress

import numpy as np

from appliance.cdp import disk_io
from appliance.cdp.commit_group import REPAIR
from appliance.cdp.delta_map import from_write, spans
from appliance.cdp.dirty_region_log import DirtyRegionLog
from appliance.cdp.extents import EMPTY, Extents, extents, intersect, subtract, union
from appliance.cdp.history import History
from appliance.cdp.interfaces import BLOCK, SECTOR, WRITE, Disk, HostRequest
from appliance.cdp.jobs import Job
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.point_reader import PointReader
from appliance.cdp.tasks import Completion, Task, gather
from appliance.cdp.write_path import WritePath
from appliance.errors import DiskFailed, FormatDamaged, VolumeNotReady

STEP = 1 << 20
STALE = 16 << 10
"""Entries behind a PIT map that are looked through for each step."""
CLEAR_AT = 256
"""Regions whose bits are cleared with one flush."""


class Synchroniser:
    """Compares and copies between the two disks of one volume."""

    def __init__(
        self,
        primary: Disk,
        history: History,
        region_log: DirtyRegionLog,
        write_path: WritePath,
        pool: BufferPool,
    ) -> None:
        self._primary = primary
        self._history = history
        self._log = region_log
        self._path = write_path
        self._pool = pool
        self._size = history.superblock.volume_size
        self._region_size = history.superblock.region_size

    def region(self, number: int) -> tuple[int, int]:
        """First byte and length of a region; the last one may be short."""
        offset = number * self._region_size
        return offset, min(self._region_size, self._size - offset)

    # Repair

    async def scan(self, job: Job, only_report: bool) -> None:
        """Compare everything; repair what differs unless only a report is wanted."""
        job.phase = "scanning"
        job.bytes_total = self._size
        regions = list(range(self._history.superblock.regions))
        await self.repair(regions, job, only_report)
        await disk_io.flush(self._history.disk)

    async def repair_readable(self, regions: list[int]) -> list[int]:
        """Repair before hosts attach; returns the regions that a bad sector kept from it.

        DiskFailed only if a disk is lost altogether.
        """
        unreadable: list[int] = []
        await self.repair(regions, unreadable=unreadable)
        return unreadable

    async def repair(
        self,
        regions: list[int],
        job: Job | None = None,
        only_report: bool = False,
        unreadable: list[int] | None = None,
    ) -> None:
        """Make the newest point equal to the primary in these regions.

        With a job, hosts may write meanwhile, and it counts bytes.  Regions that
        cannot be read go into `unreadable` if that is given.
        """
        reader = await self._newest()
        for number in regions:
            offset, length = self.region(number)
            if job is not None:
                await job.step()
            if self._is_stale(reader):
                reader = await self._newest()
            if job is not None:
                await self._path.lock(offset, length)
            try:
                for at in range(offset, offset + length, STEP):
                    size = min(STEP, offset + length - at)
                    different = await self._repair_range(reader, at, size, only_report)
                    if job is not None:
                        copied = 0 if only_report else different
                        job.advance(scanned=size, different=different, copied=copied)
            except DiskFailed:
                lost = self._primary.fenced or self._history.disk.fenced
                if unreadable is None or lost:
                    raise
                unreadable.append(number)
            finally:
                if job is not None:
                    self._path.unlock(offset, length)

    async def _newest(self) -> PointReader:
        history = self._history
        return history.reader(await history.pit_map(history.chain.newest_write))

    def _is_stale(self, reader: PointReader) -> bool:
        """Has so much been journaled since that a new PIT map is cheaper?"""
        since = self._history.chain.maps_after(reader.pit_map.write)
        return any(not m.in_memory for m in since) or sum(m.entry_count for m in since) > STALE

    async def _repair_range(
        self, reader: PointReader, offset: int, length: int, only_report: bool
    ) -> int:
        """Returns the bytes that differed.

        Where history cannot be read, or does not match its checksums,
        everything differs: the primary's data is journaled once more, which
        mends the newest point.
        """
        reading = Task(disk_io.read(self._primary, self._pool, offset, length))
        theirs: Buffer | None = None
        try:
            theirs = await reader.read(offset, length)
        except (FormatDamaged, DiskFailed):
            if self._history.disk.fenced:
                reading.when_finished(lambda: _let_go(reading))
                raise
        try:
            ours = await reading
        except DiskFailed:
            if theirs is not None:
                theirs.release()
            raise
        try:
            different = extents([offset // SECTOR], [(offset + length) // SECTOR])
            if theirs is not None:
                different = differing(ours, theirs, offset, length)
            if not different:
                return 0
            fresh = await self._journaled_since(reader.pit_map.write, offset, length)
            different = subtract(different, fresh)
            if only_report:
                return different.total * SECTOR
            await gather(
                [
                    self._journal(start * SECTOR, (end - start) * SECTOR, ours, offset)
                    for start, end in zip(
                        different.starts.tolist(), different.ends.tolist(), strict=True
                    )
                ]
            )
            return different.total * SECTOR
        finally:
            ours.release()
            if theirs is not None:
                theirs.release()

    async def _journaled_since(self, write: int, offset: int, length: int) -> Extents:
        """Sectors of the range that entered the journal behind the PIT map.

        What was folded meanwhile is left out: to repair it again does no harm.
        """
        wanted = extents([offset // SECTOR], [(offset + length) // SECTOR])
        found = EMPTY
        for delta_map in self._history.chain.maps_after(write):
            try:
                rows = from_write(await self._history.rows(delta_map), write + 1)
            except FormatDamaged:
                continue
            found = union(found, extents(*spans(rows)))
        return intersect(found, wanted)

    def _journal(self, offset: int, length: int, buffer: Buffer, base: int) -> Completion[None]:
        completion: Completion[None] = Completion()

        def done(request: HostRequest) -> None:
            if request.error:
                completion.fail(
                    VolumeNotReady(volume="", state="tracking", reason="the secondary went away")
                )
            else:
                completion.succeed(None)

        at = offset - base
        data = buffer.view[at : at + length]
        self._path.write(HostRequest(REPAIR, offset, length, done, data=data), inside_lock=True)
        return completion

    async def resync(self, job: Job) -> None:
        """Repair every region that is out of sync; clear the bits behind flushes."""
        job.phase = "copying"
        await self._in_batches(job, lambda regions: self.repair(regions, job))

    # Baseline

    async def baseline(self, job: Job) -> None:
        """Copy every region that is out of sync into the base image."""
        job.phase = "copying"
        await self._in_batches(job, lambda regions: self._copy_regions(regions, job))

    async def _copy_regions(self, regions: list[int], job: Job) -> None:
        for number in regions:
            await job.step()
            offset, length = self.region(number)
            for at in range(offset, offset + length, STEP):
                size = min(STEP, offset + length - at)
                # Not beside a fold, which may bring a newer version from the journal.
                await self._history.base_turn.take()
                try:
                    await self._copy(at, size)
                finally:
                    self._history.base_turn.give()
                job.advance(scanned=size, copied=size)

    async def _copy(self, offset: int, length: int) -> None:
        buffer = await disk_io.read(self._primary, self._pool, offset, length)
        try:
            target = self._history.superblock.base_offset + offset
            await disk_io.start(self._history.disk, WRITE, target, length, buffer)
        finally:
            buffer.release()

    async def _in_batches(self, job: Job, work: object) -> None:
        regions = self._log.out_of_sync()
        job.bytes_total = sum(self.region(number)[1] for number in regions)
        for at in range(0, len(regions), CLEAR_AT):
            batch = regions[at : at + CLEAR_AT]
            self._log.marked.difference_update(batch)
            await work(batch)  # type: ignore[operator]
            # The primary too: what was copied from it while it was only tracked has no intent,
            # and could still be lost to a power cut.
            await self._flush_both()
            # What was marked again meanwhile may have changed behind the copy.
            await self._log.clear_out_of_sync(set(batch) - self._log.marked)

    async def _flush_both(self) -> None:
        """The primary by way of its path, which tells hosts of a failure."""
        flushed: Completion[bool] = Completion()
        self._path.flush_primary(flushed.succeed)
        await disk_io.flush(self._history.disk)
        if not await flushed:
            raise DiskFailed(disk=self._primary.identity.id, reason="its flush failed")


def _let_go(reading: Task[Buffer]) -> None:
    """Nobody waits for this read any more."""
    with suppress(DiskFailed):
        reading.result().release()


def differing(ours: Buffer, theirs: Buffer, offset: int, length: int) -> Extents:
    """The sectors that differ, as extents of the volume.

    Rows of a block each are compared by NumPy first: ten times as fast as
    memoryview's own comparison.
    """
    whole = length // BLOCK * BLOCK
    a, b = ours.array[:whole].reshape(-1, BLOCK), theirs.array[:whole].reshape(-1, BLOCK)
    blocks = np.flatnonzero((a.view(np.uint64) != b.view(np.uint64)).any(axis=1))
    shape = (len(blocks), BLOCK // SECTOR, SECTOR)
    row, sector = np.nonzero((a[blocks].reshape(shape) != b[blocks].reshape(shape)).any(axis=2))
    at = blocks[row] * (BLOCK // SECTOR) + sector
    if whole < length:
        rest = (-1, SECTOR)
        a, b = ours.array[whole:length].reshape(rest), theirs.array[whole:length].reshape(rest)
        at = np.append(at, whole // SECTOR + np.flatnonzero((a != b).any(axis=1)))
    first = offset // SECTOR
    return extents(first + at, first + at + 1)
