"""Making the secondary equal to the primary where it is known, or feared, to differ.

*Resync* compares the regions that are out of sync while hosts write, and
journals what differs, so that the past is kept and the newest point becomes
what the primary holds (claims 5 and 6).  Recovery does the same before hosts
attach, for the regions that a crash left unsettled.

*Baseline* copies the primary into the base image in place, while host writes
go into the journal on top of it, which hides whatever the copy caught half
written.  No point before its end is restorable.

The scans of everything are `full_scan`'s.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial

from appliance.cdp import disk_io
from appliance.cdp.comparison import Comparison
from appliance.cdp.delta_map import MapKind
from appliance.cdp.dirty_region_log import DirtyRegionLog
from appliance.cdp.extents import Extents, extents
from appliance.cdp.full_scan import FullScan
from appliance.cdp.history import History
from appliance.cdp.interfaces import BLOCK, SECTOR, WRITE, Disk
from appliance.cdp.jobs import Job
from appliance.cdp.memory import BufferPool
from appliance.cdp.pace import GENTLE, FullSpeed, Pacing
from appliance.cdp.sync_progress import SyncProgress
from appliance.cdp.tasks import Ahead
from appliance.cdp.write_path import WritePath
from appliance.errors import DiskFailed

STEP = 2 << 20
"""Bytes of the baseline that one request reads or writes, at most."""
AHEAD = 4
"""Such requests that are under way at once, as far as the pace allows."""
CLEAR_AT = 256
"""Regions whose bits are cleared with one flush, at most."""
CLEAR_NS = 1_000_000_000
"""A crash repeats about so much of the work, however slow that is."""
CLEAR_SHARE = 8
"""But so many times as long as a flush takes goes by before the next one, at least."""


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

    def _region(self, number: int) -> tuple[int, int]:
        """First byte and length of a region; the last one may be short."""
        offset = number * self._region_size
        return offset, min(self._region_size, self._size - offset)

    async def _begin(self, gives_up: bool = False) -> Comparison:
        return await Comparison.begin(
            self._primary, self._history, self._path, self._pool, gives_up
        )

    # Comparing

    async def settle(self, regions: list[int]) -> list[int]:
        """Repair what a crash left different, before hosts attach.

        Returns the regions that a bad sector of the primary kept from it;
        DiskFailed only if a disk is lost altogether.
        """
        comparison = await self._begin()
        try:
            ranges = [self._region(number) for number in regions]
            compare = await comparison.scan(ranges, FullSpeed(), lambda size, found: None)
            await comparison.revise(compare, FullSpeed(), True, lambda size, differing: None)
            return self._regions_of(comparison.unreadable)
        finally:
            comparison.end()

    async def resync(self, job: Job, pace: Pacing) -> None:
        """Make every region that is out of sync equal, and clear its bit behind a flush.

        DiskFailed in the end if the primary did not give all of it: those
        regions stay out of sync.
        """
        regions = self._take()
        self._history.journal.cut(MapKind.FIX_UP)
        comparison = await self._begin()

        def scanned(size: int, found: int) -> None:
            job.bytes_total += found  # looked at again and copied at once
            job.advance(scanned=size)

        def revised(size: int, blocks: Extents) -> None:
            differing = blocks.total * SECTOR
            job.bytes_total -= size - differing
            job.advance(different=differing, copied=differing)

        async def repair(regions: Iterable[int]) -> list[int]:
            job.phase = "scanning"
            ranges = (self._region(number) for number in regions)
            compare = await comparison.scan(ranges, pace, scanned)
            job.phase = "copying"
            await comparison.revise(compare, pace, True, revised)
            return self._regions_of(comparison.unreadable)

        try:
            await self._in_batches(job, regions, repair)
        finally:
            comparison.end()
        self.raise_unreadable(comparison.unreadable)

    async def scan(self, scan: SyncProgress, job: Job, pace: Pacing) -> FullScan:
        """Compare everything, and copy what differs if the scan is for that; see `FullScan`."""
        begin = partial(self._begin, gives_up=True)
        full_scan = FullScan(self._history, scan, begin, self._out_of_sync, job, pace)
        await full_scan.run()
        return full_scan

    def _out_of_sync(self) -> Extents:
        """What is known to differ, and explained by that."""
        ranges = [self._region(number) for number in self._log.out_of_sync()]
        return extents(
            [offset // SECTOR for offset, _ in ranges],
            [(offset + length) // SECTOR for offset, length in ranges],
        )

    def _regions_of(self, unreadable: Extents) -> list[int]:
        size = self._region_size // SECTOR
        return sorted(
            {
                region
                for start, end in zip(
                    unreadable.starts.tolist(), unreadable.ends.tolist(), strict=True
                )
                for region in range(start // size, (end - 1) // size + 1)
            }
        )

    def raise_unreadable(self, unreadable: Extents) -> None:
        """DiskFailed unless there is nothing of it."""
        if unreadable:
            reason = f"{unreadable.total * SECTOR} bytes of it cannot be read"
            raise DiskFailed(disk=self._primary.identity.id, reason=reason)

    # Baseline

    async def baseline(self, job: Job, pace: Pacing) -> None:
        """Copy every region that is out of sync into the base image."""
        job.phase = "copying"

        async def copy(regions: Iterable[int]) -> list[int]:
            for offset, length in self._runs(regions, pace):
                at, end = offset, offset + length
                while at < end:
                    size = pace.fitting(min(AHEAD * STEP, end - at), AHEAD)
                    await pace(size)
                    await self._copy_at_once(at, size, job)
                    at += size
            return []

        await self._in_batches(job, self._take(), copy)

    def _runs(self, regions: Iterable[int], pace: Pacing) -> Iterator[tuple[int, int]]:
        """Offset and size of neighbouring regions together, as many as the pace allows at once."""
        begin = behind = most = 0
        for number in regions:
            offset, length = self._region(number)
            if offset != behind or behind - begin >= most:
                if behind > begin:
                    yield begin, behind - begin
                begin, most = offset, pace.fitting(AHEAD * STEP, AHEAD)
            behind = offset + length
        if behind > begin:
            yield begin, behind - begin

    async def _copy_at_once(self, offset: int, size: int, job: Job) -> None:
        """In parts, so that one disk is read while the other is written."""
        part = min(STEP, max(GENTLE, -(-size // (AHEAD * BLOCK)) * BLOCK))
        # Not beside a fold, which may bring a newer version from the journal.
        await self._history.base_turn.take()
        try:
            async with Ahead[None](AHEAD) as ahead:
                for at in range(offset, offset + size, part):
                    await ahead.start(self._copy(at, min(part, offset + size - at), job))
        finally:
            self._history.base_turn.give()

    async def _copy(self, offset: int, length: int, job: Job) -> None:
        buffer = await disk_io.read(self._primary, self._pool, offset, length)
        try:
            target = self._history.superblock.base_offset + offset
            await disk_io.start(self._history.disk, WRITE, target, length, buffer)
        finally:
            buffer.release()
        job.advance(copied=length)

    def _take(self) -> list[int]:
        """The regions that are out of sync; what is marked from now on stays so.

        Before a comparison begins: what it watches counts as equal, and a write that fails on the
        primary is not.
        """
        regions = self._log.out_of_sync()
        self._log.marked.difference_update(regions)
        return regions

    async def _in_batches(
        self, job: Job, regions: list[int], work: Callable[[Iterable[int]], Awaitable[list[int]]]
    ) -> None:
        """Work on these regions; `work` returns those that must stay out of sync.

        It takes each region as it gets to it, and all those that it has taken are a batch.
        """
        job.bytes_total = bytes_left = sum(self._region(number)[1] for number in regions)
        job.time_anew()
        left = deque(regions)
        taken: list[int] = []
        clock, length_ns = job.clock, CLEAR_NS

        def batch(begun_ns: int) -> Iterator[int]:
            while left and len(taken) < CLEAR_AT:
                if taken and clock.monotonic_ns() - begun_ns > length_ns:
                    return
                taken.append(left.popleft())
                yield taken[-1]

        while left:
            taken.clear()
            kept = await work(batch(clock.monotonic_ns()))
            bytes_left -= sum(self._region(number)[1] for number in taken)
            job.bytes_total = job.bytes_done + bytes_left  # hosts have written the rest
            ended_ns = clock.monotonic_ns()
            journaled = min(self._path.completed_write, self._history.journal.newest_write)
            # The primary too: what was copied from it while it was only tracked has no intent,
            # and could still be lost to a power cut.
            await self._flush_or_fail()
            # A secondary without these records must not be taken for this one.
            await self._path.promise(journaled)
            # What was marked again meanwhile may have changed behind the copy.
            done = set(taken) - self._log.marked - set(kept)
            await self._log.clear_out_of_sync(done)
            length_ns = max(CLEAR_NS, CLEAR_SHARE * (clock.monotonic_ns() - ended_ns))

    async def _flush_or_fail(self) -> None:
        """DiskFailed if either disk does not flush.

        `WritePath.flush_both` would go on without the secondary, and so does not tell whether it
        has what was repaired.  Of the primary the path hears: it tells hosts.
        """
        flushed = self._path.flush_primary()
        await disk_io.flush(self._history.disk)
        if not await flushed:
            raise DiskFailed(disk=self._primary.identity.id, reason="its flush failed")
