"""Folding: when history runs full, its oldest maps go into the base image.

The order is what makes it safe.  The floor moves first, durably: points below
are refused from then on, and their readers have given up.  Then the newest
versions in the maps are copied into the base in the order of the volume, whole
blocks gathered before they are written; the base is flushed; and only then do
the maps leave the chain.  After a crash in between, the maps are still there,
hide the half-written base, and are folded again.

What history has lost to its medium is taken from the primary instead, if
nobody has written to it since.  Else nobody knows it any more: a block-ordered
map says so in place of those that were folded, so that points which need the
block answer with an error there until a newer version hides it, and its region
is out of sync, so that the newest point gets one.

A map that a pinned snapshot lies in is folded only when it is the oldest.
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from appliance.cdp import disk_io
from appliance.cdp.delta_map import DeltaMap, MapKind, MapOrder, from_write, spans
from appliance.cdp.extents import (
    EMPTY,
    Extents,
    byte_ranges,
    extents,
    in_steps,
    subtract,
    union,
    widen,
)
from appliance.cdp.format import ENTRY_DTYPE, LOST, PAGE
from appliance.cdp.history import History
from appliance.cdp.interfaces import SECTOR, Disk
from appliance.cdp.memory import Buffer
from appliance.cdp.pit_map import PitMap
from appliance.cdp.point_reader import PointReader
from appliance.cdp.tasks import Ahead
from appliance.errors import DiskFailed, FormatDamaged

STEP = 1 << 20
"""Bytes that one read and write of a fold take at most."""
AHEAD = 4
"""Steps that are under way at once."""


def reserve(segment_count: int) -> int:
    """Segments that host writes leave to restores and synchronisations."""
    return max(2, segment_count * 4 // 64)


def is_low(history: History) -> bool:
    """Should segments come free?"""
    count = history.superblock.segment_count
    return history.segments.free < reserve(count) + max(2, count * 4 // 64)


async def free_some(history: History, primary: Disk) -> bool:
    """A step on the way to free segments; False if nothing can be done now."""
    if history.segments.coming:
        await history.checkpoint()
        return True
    return await fold(history, primary)


async def fold(history: History, primary: Disk) -> bool:
    """Fold the oldest maps, until enough segments come free; False if that cannot be done now."""
    chain = history.chain
    if not chain.maps:
        busy = history.journal.mid_write or history.journal.promised
        if chain.present is None or not chain.present.records or busy:
            return False
        history.journal.close_map()
    oldest = _oldest(history)
    if not oldest:
        return False
    last = oldest[-1].last_write
    cuts = history.cuts
    pit_map = await history.pit_map(last, oldest)
    reader = history.reader(pit_map)
    if history.cuts != cuts:
        return True  # the oldest maps are not what they were: look again
    if not history.clear_holds_below(last):
        return False
    for snapshot in chain.raise_floor(last, oldest[-1].closed):
        history.owner.snapshot_dropped(snapshot)
    await history.checkpoint()
    residue: DeltaMap | None = None
    await history.base_turn.take()
    try:
        lost = await _copy_into_base(history, reader, pit_map)
        if lost and history.cuts == cuts:
            lost = await _mend(history, primary, pit_map, lost)
        if lost and history.cuts == cuts:
            residue = await _residue(history, oldest[-1], lost)
            if residue is None:
                return False
    finally:
        history.base_turn.give()
    await disk_io.flush(history.disk)
    if history.cuts != cuts:
        if residue is not None:
            history.segments.release(residue.segments)
        return True  # what was folded is not what the chain says: once more
    history.base_lost = lost
    history.base_write = last
    chain.maps = [*([residue] if residue is not None else []), *chain.maps[len(oldest) :]]
    history.segments.release(n for delta_map in oldest for n in delta_map.segments)
    # Two: segments given up by the first are reused once the second is durable.
    await history.checkpoint()
    await history.checkpoint()
    return True


def _oldest(history: History) -> list[DeltaMap]:
    """The maps to fold next."""
    chain = history.chain
    wanted = max(2, history.superblock.segment_count * 2 // 64)
    pins = [snapshot.write for snapshot in chain.snapshots.values() if snapshot.pinned]
    oldest: list[DeltaMap] = []
    for delta_map in chain.settled:
        if chain.restoring is not None and delta_map.last_write > chain.restoring[0]:
            break
        frees = any(behind.records for behind in oldest)  # what tells of lost blocks comes again
        if frees and any(pin < delta_map.last_write for pin in pins):
            break
        oldest.append(delta_map)
        wanted -= len(delta_map.segments)
        if wanted <= 0:
            break
    return oldest


async def _copy_into_base(history: History, reader: PointReader, pit_map: PitMap) -> Extents:
    """Returns what history does not give any more, in blocks."""
    blocks = widen(pit_map.extents, PAGE // SECTOR)
    lost: list[Extents] = []

    async def copy(step: Extents) -> None:
        try:
            buffer = await reader.read_extents(step)
        except (FormatDamaged, DiskFailed):
            if history.disk.fenced:
                raise
            if step.total * SECTOR <= PAGE:
                lost.append(step)
                return
            for block in in_steps(step, PAGE // SECTOR):
                await copy(block)
            return
        await _write_base(history, step, buffer)

    async with Ahead[None](AHEAD) as ahead:
        for step in in_steps(blocks, STEP // SECTOR):
            await ahead.start(copy(step))
    return reduce(union, lost, EMPTY)


async def _mend(history: History, primary: Disk, pit_map: PitMap, lost: Extents) -> Extents:
    """Put into the base what the primary still holds; returns what is lost for good.

    Whatever reached the primary before it was read is in a map by then: the
    writes that are looked for afterwards are all that can have changed it.
    """
    known = _lost_before(pit_map, lost)
    fresh = subtract(lost, known)
    if fresh:
        size = fresh.total * SECTOR
        reason = f"{size} bytes of write {pit_map.write} or before cannot be read"
        history.owner.history_damaged(history.disk.identity.id, reason)
    gone: list[Extents] = []
    for block in in_steps(lost, PAGE // SECTOR):
        # While writes are missing in history, the primary may hold newer data than any map says.
        held = not history.chain.incomplete_from
        if not held or not await _take_from_primary(history, primary, pit_map.write, block):
            gone.append(block)
    left = reduce(union, gone, EMPTY)
    doubted = subtract(left, known)
    if doubted:
        await history.owner.doubt(doubted)
    return left


def _lost_before(pit_map: PitMap, lost: Extents) -> Extents:
    """What an earlier fold has not found on either disk, and nobody has written since.

    What somebody has written there since is lost only now, with the rest of its block.
    """
    before = [p for p in pit_map.pieces_of(lost) if p.entry is not None and p.entry.is_lost]
    return extents([piece.start for piece in before], [piece.end for piece in before])


async def _take_from_primary(history: History, primary: Disk, last: int, block: Extents) -> bool:
    """Copy a block to the base if the primary gives it as it was at write `last`."""
    try:
        buffer = await disk_io.read_ranges(primary, history.pool, byte_ranges(block))
    except DiskFailed:
        if primary.fenced:
            raise
        return False
    try:
        written = await _was_written_after(history, block, last)
    except BaseException:
        buffer.release()
        raise
    if written:
        buffer.release()
        return False
    await _write_base(history, block, buffer)
    return True


async def _was_written_after(history: History, block: Extents, last: int) -> bool:
    """Has any write behind `last` touched it?"""
    for delta_map in history.chain.maps_after(last):
        starts, ends = spans(from_write(await history.rows(delta_map), last + 1))
        after = np.searchsorted(block.ends, starts, side="right")
        if ((after < len(block.ends)) & (np.append(block.starts, 0)[after] < ends)).any():
            return True
    return bool(history.chain.incomplete_from)  # or does nobody know, as has just come to light?


async def _residue(history: History, folded: DeltaMap, lost: Extents) -> DeltaMap | None:
    """A map that takes the place of the folded ones, to say what is lost; None without room."""
    blocks: Sequence[Extents] = list(in_steps(lost, PAGE // SECTOR))
    rows = np.zeros(sum(len(block.starts) for block in blocks), ENTRY_DTYPE)
    rows["start"] = np.concatenate([block.starts for block in blocks])
    rows["length"] = np.concatenate([block.ends - block.starts for block in blocks])
    rows["location"] = LOST
    rows["write"] = folded.last_write
    residue = DeltaMap(
        id=folded.id,
        kind=MapKind.HOST,
        epoch=folded.epoch,
        first_write=folded.last_write,
        last_write=folded.last_write,
        opened=folded.opened,
        closed=folded.closed,
        before_crc=0,
        order=MapOrder.BLOCK,
        entry_count=len(rows),
    )
    residue.forget()
    stored = await history.store_index(residue, rows.tobytes(), history.segments.take_last)
    return residue if stored else None


async def _write_base(history: History, step: Extents, buffer: Buffer) -> None:
    """Write a buffer to its places in the base, and release it."""
    try:
        ranges = byte_ranges(step, history.superblock.base_offset)
        await disk_io.write_ranges(history.disk, buffer, ranges)
    finally:
        buffer.release()
