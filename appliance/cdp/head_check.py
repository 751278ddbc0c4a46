"""Was the primary written elsewhere while we were away?

A primary stays an ordinary disk: someone may have mounted it in another box,
or brought back an old clone of it.  The superblock cannot tell; the blocks
that were written last can.  Those of them that no intent excuses are compared
with the head of the history.
"""

import numpy as np

from appliance.cdp import disk_io
from appliance.cdp.delta_map import spans
from appliance.cdp.history import History
from appliance.cdp.interfaces import SECTOR, Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.point_reader import PointReader
from appliance.cdp.tasks import Task, gather
from appliance.errors import DiskFailed, FormatDamaged

LAST_BLOCKS = 256
LARGEST = 64 << 10
"""Bytes of one write that are looked at."""


async def agrees_with_head(
    history: History, primary: Disk, pool: BufferPool, excused: set[int]
) -> bool:
    """Does the primary hold what was last written to it, outside the `excused` regions?

    What cannot be read counts as agreeing: that is for others to find.
    """
    cuts = history.cuts
    pit_map = await history.pit_map(history.chain.newest_write)
    if history.cuts != cuts:
        return True  # what was written last is not known, and everything is compared
    starts, ends = spans(pit_map.rows[-LAST_BLOCKS:])
    block = max(1, primary.logical_block // SECTOR)
    starts, ends = starts // block * block, -(-ends // block) * block
    size = history.superblock.region_size // SECTOR
    reader = history.reader(pit_map)
    looks = [
        Task(_agrees(reader, primary, pool, start * SECTOR, (end - start) * SECTOR))
        for start, end in zip(
            starts.tolist(), np.minimum(ends, starts + LARGEST // SECTOR).tolist(), strict=True
        )
        if excused.isdisjoint(range(start // size, (end - 1) // size + 1))
    ]
    agreed: list[bool] = await gather(looks)
    return all(agreed)


async def _agrees(
    reader: PointReader, primary: Disk, pool: BufferPool, offset: int, length: int
) -> bool:
    try:
        theirs = await reader.read(offset, length)
    except (DiskFailed, FormatDamaged):
        return True
    try:
        ours = await disk_io.read(primary, pool, offset, length)
    except DiskFailed:
        theirs.release()
        return True
    equal = bool(np.array_equal(ours.array[:length], theirs.array[:length]))
    ours.release()
    theirs.release()
    return equal
