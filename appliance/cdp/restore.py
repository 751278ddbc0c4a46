"""Putting a point back (claims 12 and 24): one more writer on the volume.

What changed since the point is read through the point's PIT map and written by
the ordinary path, so a restore is numbered, kept in history, and undone by
restoring to the write before it.  It costs what changed, not the volume's
size.

Invariants:

* From before its first block until its last one is flushed a restore is *owed*:
  the chain names its point, and the intent log on the primary says that there
  is one, whether the secondary is here or not.  The primary's word counts.
* While a restore is owed no host is served: part of the volume is as it was at
  the point, part is newer, and nobody ever had it so.  It goes on, block by
  block, when the service starts and when the secondary comes back; blocks that
  are right already are left alone.
* It is not owed any more once it is done, or once a person gives it up and
  takes the volume as it is.
"""

from dataclasses import dataclass

from appliance.cdp import disk_io
from appliance.cdp.dirty_region_log import DirtyRegionLog
from appliance.cdp.extents import Extents, byte_ranges, in_steps, widen
from appliance.cdp.format import PAGE
from appliance.cdp.history import History
from appliance.cdp.interfaces import BLOCK, SECTOR, WRITE, Disk, HostRequest
from appliance.cdp.jobs import Job
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.point_reader import PointReader
from appliance.cdp.points import Point
from appliance.cdp.retention import reserve
from appliance.cdp.tasks import Ahead, Completion
from appliance.cdp.write_path import WritePath
from appliance.errors import DiskFailed, NoRoom

STEP = 1 << 20
"""Bytes that are read, and written, at once; twice as many if extents are long."""
CRASHES = 4
"""Segments left for what crashes in the middle of a restore cost."""
AHEAD = 4
"""Steps read or written at once."""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What putting the point back would do."""

    point: Point
    extents: Extents
    disconnects_hosts: bool = True

    @property
    def bytes(self) -> int:
        """Bytes that are written."""
        return self.extents.total * SECTOR

    @property
    def blocks(self) -> int:
        """Blocks of 4 KiB that are touched."""
        return widen(self.extents, BLOCK // SECTOR).total * SECTOR // BLOCK


async def plan(history: History, point: Point, sector: int) -> RestorePlan:
    """Which sectors changed since the point."""
    changed = await history.changed_after(point.write)
    return RestorePlan(point, widen(changed, sector // SECTOR) if changed else changed)


def check_room(history: History, planned: RestorePlan) -> None:
    """NoRoom unless history takes the restore without giving up its point.

    What lies below the point can be folded to make room; nothing above it can.
    """
    size = history.superblock.segment_size
    above = sum(len(m.segments) for m in history.chain.maps_after(planned.point.write))
    # A block may take a record of its own, with a header and padding, and records leave
    # segments part empty.
    needed = (planned.bytes + planned.blocks * 2 * PAGE) * 4 // 3 // size + CRASHES
    if above + needed + reserve(history.superblock.segment_count) > history.segments.count:
        raise NoRoom(
            reason=f"the restore writes {planned.bytes} bytes, and the history"
            " cannot take them and keep the point"
        )


async def run(
    history: History,
    path: WritePath,
    log: DirtyRegionLog,
    planned: RestorePlan,
    job: Job,
    again: bool = False,
) -> None:
    """Write the point's data over what changed since.  No host writes meanwhile.

    `again`: it was interrupted; what it had written is left out now, so that
    crash after crash does not fill the history.
    """
    point = planned.point
    hold = history.hold(point.write, None)
    kept, path.reserve = path.reserve, 0
    try:
        if not again:
            history.chain.restoring = (point.write, path.next_write)
            await history.checkpoint()
        job.must_end = True
        await _tell_primary(path, log, True)  # again too: to give it up may have failed half-way
        job.phase = "copying"
        job.bytes_total = planned.bytes
        job.time_anew()
        reader = await history.reader_of(point)
        await _write_all(reader, path, planned.extents, job, again)
        job.phase = "flushing"
        await path.flush_both()
        await end(history, path, log)
    finally:
        if not log.restoring:
            history.chain.restoring = None
        path.reserve = kept
        history.let_go(hold)


async def end(history: History | None, path: WritePath, log: DirtyRegionLog) -> None:
    """No restore is owed any more, durably.  The secondary may be away."""
    await _tell_primary(path, log, False)
    if history is not None:
        history.chain.restoring = None
        await history.checkpoint()


async def _tell_primary(path: WritePath, log: DirtyRegionLog, restoring: bool) -> None:
    log.restoring = restoring
    try:
        await path.write_slot()
    except BaseException:
        log.restoring = True  # nobody knows what the disk says
        raise


async def _write_all(
    reader: PointReader, path: WritePath, wanted: Extents, job: Job, again: bool
) -> None:
    async with Ahead[None](AHEAD) as ahead:  # none goes on writing once the point is let go
        for step in in_steps(wanted, STEP // SECTOR):
            await job.step()
            await ahead.start(_write(reader, path, step, job, again))


async def _write(
    reader: PointReader, path: WritePath, step: Extents, job: Job, again: bool
) -> None:
    """Write some extents as they were at the point."""
    size = step.total * SECTOR
    ranges = byte_ranges(step)
    buffer = await reader.read_extents(step)
    try:
        if again:
            differs = await _differs(path.primary, buffer, ranges, reader.pool)
        else:
            differs = [True] * len(ranges)
        written: Completion[None] = Completion()
        pending = _Pending(differs.count(True), written)
        at = copied = 0
        for (offset, length), wanted in zip(ranges, differs, strict=True):
            if wanted:
                data = buffer.view[at : at + length]
                path.write(HostRequest(WRITE, offset, length, pending.done, data=data))
                copied += length
            at += length
    finally:
        buffer.release()
    if copied:
        await written
    if pending.failed:
        raise DiskFailed(disk=path.primary.identity.id, reason="a restored block was not written")
    job.bytes_total -= size - copied
    job.advance(different=copied, copied=copied)


class _Pending:
    """Counts writes; `finished` when the last is done."""

    def __init__(self, left: int, finished: Completion[None]) -> None:
        self.failed = False
        self._left = left
        self._finished = finished

    def done(self, request: HostRequest) -> None:
        self._left -= 1
        self.failed = self.failed or bool(request.error)
        if not self._left:
            self._finished.succeed(None)


async def _differs(
    primary: Disk, wanted: Buffer, ranges: list[tuple[int, int]], pool: BufferPool
) -> list[bool]:
    """Which ranges does the primary hold otherwise?  What it does not give is healed by a write."""
    try:
        found = await disk_io.read_ranges(primary, pool, ranges)
    except DiskFailed:
        if primary.fenced:
            raise
        return [True] * len(ranges)
    try:
        differs = []
        at = 0
        for _, length in ranges:
            part = slice(at, at + length)
            differs.append(bool((found.array[part] != wanted.array[part]).any()))
            at += length
        return differs
    finally:
        found.release()
