"""Folding: when history runs full, its oldest maps go into the base image.

The order is what makes it safe.  The floor moves first, durably: points below
are refused from then on, and their readers have given up.  Then the newest
versions in the maps are copied into the base in the order of the volume, whole
blocks gathered before they are written; the base is flushed; and only then do
the maps leave the chain.  After a crash in between, the maps are still there,
hide the half-written base, and are folded again.

What history has lost to its medium is taken from the primary instead.  If a
host has written over it since, no point before that write can be told truly
any more, and the floor moves on to it.
"""

from collections.abc import Awaitable, Callable
from functools import reduce

import numpy as np

from appliance.cdp import disk_io
from appliance.cdp.delta_map import DeltaMap, from_write, spans
from appliance.cdp.extents import EMPTY, Extents, byte_ranges, in_steps, union, widen
from appliance.cdp.format import PAGE
from appliance.cdp.history import History
from appliance.cdp.interfaces import SECTOR, Disk
from appliance.cdp.memory import Buffer
from appliance.cdp.tasks import Cancelled, Task, gather
from appliance.errors import DiskFailed, FormatDamaged

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


async def fold(
    history: History,
    primary: Disk,
    on_damage: Callable[[str], None],
    settled: Callable[[int], Awaitable[None]],
) -> bool:
    """Fold the oldest maps, until enough segments come free; False if that cannot be done now.

    `on_damage` is told in words what could not be read; `settled` waits until
    a write, and all before it, are complete on both disks.
    """
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
        lost = await _copy_into_base(history, oldest, last)
        if lost:
            if chain.incomplete_from:
                return False  # the primary has writes that no map tells of yet
            on_damage(f"{lost.total * SECTOR} bytes of write {last} or before cannot be read")
            await _mend(history, primary, lost, last, settled)
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


async def _copy_into_base(history: History, maps: list[DeltaMap], last: int) -> Extents:
    """Returns what history does not give any more."""
    pit_map = await history.pit_map(last, maps)
    reader = history.reader(pit_map)
    blocks = widen(pit_map.extents, PAGE // SECTOR)
    running: list[Task[None]] = []
    lost: list[Extents] = []

    async def copy(step: Extents) -> None:
        try:
            buffer = await reader.read_extents(step)
        except (FormatDamaged, DiskFailed):
            if history.disk.fenced:
                raise
            if len(step.starts) == 1:
                lost.append(step)
                return
            for at in range(len(step.starts)):
                await copy(Extents(step.starts[at : at + 1], step.ends[at : at + 1]))
            return
        await _write_base(history, step, buffer)

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
    return reduce(union, lost, EMPTY)


async def _mend(
    history: History,
    primary: Disk,
    lost: Extents,
    last: int,
    settled: Callable[[int], Awaitable[None]],
) -> None:
    """Put into the base what the primary holds, and give up the points that this is too new for.

    Whatever reached the primary before it was read is in a map by then: the
    writes that are looked for afterwards are all that can have changed it.
    The floor has moved behind them, durably, before the base is touched.
    """
    for step in in_steps(lost, STEP // SECTOR):
        buffer = await disk_io.read_ranges(primary, history.pool, byte_ranges(step))
        try:
            newest = await _last_write_to(history, step, last)
            if newest > history.chain.floor:
                await settled(newest)
                if not history.clear_holds_below(newest):
                    raise FormatDamaged(what="history", reason="a point in use cannot be kept")
                history.chain.raise_floor(newest, history.journal.wall_ns())
                await history.checkpoint()
        except BaseException:
            buffer.release()
            raise
        await _write_base(history, step, buffer)


async def _last_write_to(history: History, step: Extents, last: int) -> int:
    """The newest write behind `last` that touched any of the extents, or `last`."""
    newest = last
    for delta_map in history.chain.maps_after(last):
        rows = from_write(await history.rows(delta_map), last + 1)
        starts, ends = spans(rows)
        after = np.searchsorted(step.ends, starts, side="right")
        hit = (after < len(step.ends)) & (np.append(step.starts, 0)[after] < ends)
        if hit.any():
            newest = max(newest, int(rows["write"][hit].max()))
    return newest


async def _write_base(history: History, step: Extents, buffer: Buffer) -> None:
    """Write a buffer to its places in the base, and release it."""
    try:
        ranges = byte_ranges(step, history.superblock.base_offset)
        await disk_io.write_ranges(history.disk, buffer, ranges)
    finally:
        buffer.release()
