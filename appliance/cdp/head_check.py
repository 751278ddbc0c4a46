"""Do a primary and a history belong together, or was one of them elsewhere meanwhile?

A secondary may be an old copy of itself: then its history ends before what the
primary was promised of it.  And a primary stays an ordinary disk: someone may
have mounted it in another box, or brought back an old clone of it.  The
superblock cannot tell; the blocks that were written last can.  Those of them
that no intent excuses are compared with the head of the history.

Only as many of the newest maps are read as tell of enough blocks: what it
costs does not depend on how much history there is.
"""

from collections.abc import Callable

import numpy as np

from appliance import events
from appliance.cdp import disk_io
from appliance.cdp.delta_map import spans
from appliance.cdp.history import History
from appliance.cdp.interfaces import SECTOR, Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.pit_map import PitMap
from appliance.cdp.point_reader import PointReader
from appliance.cdp.tasks import Task, gather
from appliance.cdp.volume import Volume
from appliance.errors import DiskFailed, FormatDamaged

LAST_BLOCKS = 256
LARGEST = 64 << 10
"""Bytes of one write that are looked at."""
MOST_ENTRIES = 256 * LAST_BLOCKS
"""Where a few blocks are written over and over, no older map is read behind so many entries."""


async def belong_together(history: History, volume: Volume) -> bool:
    """Is this history the past of this primary, as both are now?

    If not, that is told, and all is compared, whatever the log says.
    """
    log = volume.log
    newest = history.chain.newest_write
    if newest < log.stable_write:
        disk = history.disk.identity.id
        volume.emit(events.SECONDARY_STALE, volume=volume.name, disk=disk)
        return False
    if not history.chain.baseline_whole:
        return True

    def excused() -> set[int]:
        return {*log.active, *log.out_of_sync()}

    # Numbers that were never given out here are another primary's.
    ours = newest < max(1, log.ceiling)
    if ours and await agrees_with_head(history, volume.primary, volume.pool, excused):
        return True
    volume.emit(events.WRITTEN_ELSEWHERE, volume=volume.name)
    return False


async def agrees_with_head(
    history: History, primary: Disk, pool: BufferPool, excused: Callable[[], set[int]]
) -> bool:
    """Does the primary hold what was last written to it, outside the `excused` regions?

    Hosts may write meanwhile, to regions that are excused by then.  What
    cannot be read counts as agreeing: that is for others to find.
    """
    cuts = history.cuts
    head = await _head(history)
    if head is None or history.cuts != cuts:
        return True  # what was written last is not known, and everything is compared
    starts, ends = spans(head.rows[-LAST_BLOCKS:])
    size = history.superblock.region_size // SECTOR
    reader, known = history.reader(head), excused()
    regions: list[range] = []
    looks = []
    for start, end in zip(
        starts.tolist(), np.minimum(ends, starts + LARGEST // SECTOR).tolist(), strict=True
    ):
        touched = range(start // size, (end - 1) // size + 1)
        if known.isdisjoint(touched):
            regions.append(touched)
            looks.append(Task(_agrees(reader, primary, pool, start, end)))
    agreed: list[bool] = await gather(looks)
    written = excused()
    return all(
        fine or not written.isdisjoint(touched)
        for fine, touched in zip(agreed, regions, strict=True)
    )


async def _head(history: History) -> PitMap | None:
    """A PIT map of the newest maps alone: it knows nothing of what they do not touch."""
    write = history.chain.newest_write
    maps = history.chain.maps_up_to(write)
    head: PitMap | None = None
    count = 0
    while count < len(maps):
        count = min(max(1, 2 * count), len(maps))
        newest = maps[-count:]
        try:
            head = await history.pit_map(write, newest)
        except (DiskFailed, FormatDamaged):
            break
        entries = sum(delta_map.entry_count for delta_map in newest)
        if len(head.rows) >= LAST_BLOCKS or entries >= MOST_ENTRIES:
            break
    return head


async def _agrees(
    reader: PointReader, primary: Disk, pool: BufferPool, start: int, end: int
) -> bool:
    """Sectors that the reader's own maps tell of; those around them, in a block, may be older."""
    block = max(1, primary.logical_block // SECTOR)
    first, last = start // block * block, -(-end // block) * block
    try:
        theirs = await reader.read(start * SECTOR, (end - start) * SECTOR)
    except (DiskFailed, FormatDamaged):
        return True
    try:
        ours = await disk_io.read(primary, pool, first * SECTOR, (last - first) * SECTOR)
    except DiskFailed:
        theirs.release()
        return True
    seen = ours.array[(start - first) * SECTOR : (end - first) * SECTOR]
    equal = bool(np.array_equal(seen, theirs.array[: (end - start) * SECTOR]))
    ours.release()
    theirs.release()
    return equal
