"""Folding: when history runs full, its oldest maps go into the base image.

The order is what makes it safe.  The floor moves first, durably: points below
are refused from then on, and their readers have given up.  Then the newest
versions in the maps are copied into the base in the order of the volume, whole
blocks gathered before they are written; the base is flushed; and only then do
the maps leave the chain.  After a crash in between, the maps are still there,
hide the half-written base, and are folded again.
"""

from appliance.cdp import disk_io
from appliance.cdp.delta_map import DeltaMap
from appliance.cdp.extents import Extents, in_steps, widen
from appliance.cdp.format import PAGE
from appliance.cdp.history import History
from appliance.cdp.interfaces import SECTOR
from appliance.cdp.tasks import Cancelled, Task, gather

STEP = 1 << 20
"""Bytes that one read and write of a fold take at most."""
AHEAD = 4
"""Steps that are under way at once."""


def reserve(segment_count: int) -> int:
    """Segments that host writes leave to restores and synchronisations."""
    return max(2, segment_count * 4 // 64)


def is_low(history: History) -> bool:
    """Should the oldest maps be folded?"""
    count = history.superblock.segment_count
    segments = history.segments
    return segments.free + segments.coming < reserve(count) + max(2, count * 4 // 64)


async def fold(history: History) -> bool:
    """Fold the oldest maps, until enough segments come free; False if that cannot be done now."""
    chain = history.chain
    if not chain.maps:
        if chain.present is None or not chain.present.records or history.journal.mid_write:
            return False
        history.journal.close_map()
    wanted = max(2, history.superblock.segment_count * 2 // 64)
    oldest: list[DeltaMap] = []
    for delta_map in chain.settled:
        if chain.restoring is not None and delta_map.last_write > chain.restoring[0]:
            break
        oldest.append(delta_map)
        wanted -= len(delta_map.segments)
        if wanted <= 0:
            break
    if not oldest:
        return False
    last = oldest[-1].last_write
    if not history.clear_holds_below(last):
        return False
    chain.raise_floor(last, oldest[-1].closed)
    await history.checkpoint()
    await history.base_turn.take()
    try:
        await _copy_into_base(history, oldest, last)
    finally:
        history.base_turn.give()
    await disk_io.flush(history.disk)
    history.base_write = last
    chain.maps = chain.maps[len(oldest) :]
    history.segments.release(n for delta_map in oldest for n in delta_map.segments)
    # Two: segments given up by the first are reused once the second is durable.
    await history.checkpoint()
    await history.checkpoint()
    return True


async def _copy_into_base(history: History, maps: list[DeltaMap], last: int) -> None:
    pit_map = await history.pit_map(last, maps)
    reader = history.reader(pit_map)
    blocks = widen(pit_map.extents, PAGE // SECTOR)
    running: list[Task[None]] = []

    async def copy(step: Extents) -> None:
        buffer = await reader.read_extents(step)
        base = history.superblock.base_offset
        ranges = [
            (base + start * SECTOR, (end - start) * SECTOR)
            for start, end in zip(step.starts.tolist(), step.ends.tolist(), strict=True)
        ]
        try:
            await disk_io.write_ranges(history.disk, buffer, ranges)
        finally:
            buffer.release()

    try:
        for step in in_steps(blocks, STEP // SECTOR):
            running.append(Task(copy(step)))
            if len(running) >= AHEAD:
                await running[0]
                del running[0]
        await gather(running)
    except (Exception, Cancelled):
        for task in running:
            task.cancel()
        raise
