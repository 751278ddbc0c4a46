"""Coming back after a crash: what the secondary holds, and what must be made equal.

1. The last checkpoint names the closed maps; behind it the stream is followed
   to the end of its longest valid prefix.
2. A new epoch and a fresh segment for its stream are made durable: nothing
   that an earlier life left behind the prefix can ever continue it.
3. Write numbers go on behind everything that was perhaps handed out.
4. The primary wins in every region with an intent: what differs is appended as
   a recovery map, before any host attaches.  Regions that are known, or must
   be feared, to differ for longer are left to a resync.

Recovery reads the last checkpoint and the maps behind it; its time does not
depend on how much history there is.
"""

from appliance.cdp.checkpoint import Checkpoints, Tail
from appliance.cdp.delta_map import MapKind, spans
from appliance.cdp.dirty_region_log import CEILING_STEP, DirtyRegionLog
from appliance.cdp.extents import extents
from appliance.cdp.history import History, HistoryOwner
from appliance.cdp.interfaces import SECTOR, Clock, Disk, Post
from appliance.cdp.memory import BufferPool
from appliance.cdp.points import Gap
from appliance.cdp.stream import Stream
from appliance.cdp.superblock import Superblock
from appliance.cdp.synchronise import Synchroniser
from appliance.cdp.write_path import WritePath
from appliance.errors import NoRoom


async def read_history(
    disk: Disk,
    superblock: Superblock,
    post: Post,
    clock: Clock,
    pool: BufferPool,
    owner: HistoryOwner,
) -> History:
    """Steps 1 and 2, up to the checkpoint of the new epoch, which is the first thing to write."""
    checkpoints = Checkpoints(disk, superblock, pool)
    loaded = await checkpoints.load()
    chain = loaded.chain
    followed = await Stream(disk, superblock, pool).follow(loaded.tail, chain.epoch, chain.next_map)
    chain.maps += followed.maps
    chain.next_map += len(followed.maps) + 1
    chain.epoch += 1
    chain.elapsed_ns = max(chain.elapsed_ns, followed.elapsed)
    chain.clock_epoch = max(chain.clock_epoch, followed.clock_epoch)
    for delta_map in followed.maps:
        delta_map.closed = delta_map.closed or clock.wall_ns()
    used = {n for delta_map in chain.maps for n in delta_map.segments}
    fresh = next((n for n in range(superblock.segment_count) if n not in used), None)
    if fresh is None:
        raise NoRoom(reason="every segment of the history is in use")
    history = History(
        disk,
        superblock,
        chain,
        Tail(fresh, 0),
        max(loaded.next_order, followed.next_order),
        checkpoints,
        post,
        clock,
        pool,
        owner,
    )
    history.policies = loaded.policies
    if followed.mid_write:
        # Durable with the map, for no later life reads the end of its stream again.
        cut = chain.newest_write
        chain.add_gap(Gap(cut, cut, "a crash cut this write short", clock.wall_ns()))
    return history


async def take_stock(history: History, log: DirtyRegionLog, log_is_whole: bool) -> None:
    """Make the out-of-sync bitmap cover all that may differ for longer than an intent.

    And make the chain say so: no point behind the prefix counts before a
    resync has ended.
    """
    chain = history.chain
    prefix = chain.newest_write
    if not log_is_whole or prefix < log.stable_write:
        # Retirement, or the log itself, relied on what is not there any more.
        await log.set_out_of_sync(range(history.superblock.regions))
    if not chain.baseline_whole:
        await log.set_out_of_sync(await _forget_chain(history) | set(log.active))
    elif log.out_of_sync() and not chain.incomplete_from:
        chain.incomplete_from = prefix + 1
        await history.checkpoint()


async def settle(
    history: History,
    log: DirtyRegionLog,
    path: WritePath,
    synchroniser: Synchroniser,
) -> None:
    """Steps 3 and 4, for a volume that no host is attached to.

    A bad sector does not keep hosts out: its region is left to a resync.
    """
    chain = history.chain
    prefix = chain.newest_write
    history.journal.close_map(MapKind.RECOVERY)
    path.start_journaling(history.disk, history.journal)
    if chain.baseline_whole:
        dirty = sorted(set(log.active) - set(log.out_of_sync()))
        unreadable = await synchroniser.settle(dirty) if dirty else []
        if unreadable:
            await log.set_out_of_sync(unreadable)
            chain.incomplete_from = chain.incomplete_from or prefix + 1
            await history.checkpoint()
    if not chain.incomplete_from:
        chain.end_gaps()
    await path.flush_both()
    log.active.clear()
    log.stable_write = chain.newest_write
    log.ceiling = max(log.ceiling, path.next_write + CEILING_STEP)
    await log.store_slot()
    history.journal.close_map(MapKind.HOST)


async def _forget_chain(history: History) -> set[int]:
    """Before the baseline's end no point counts: drop the maps; returns the regions they hid."""
    chain = history.chain
    size = history.superblock.region_size // SECTOR
    regions: set[int] = set()
    for delta_map in chain.maps:
        touched = extents(*spans(await history.rows(delta_map)))
        for start, end in zip(touched.starts.tolist(), touched.ends.tolist(), strict=True):
            regions.update(range(start // size, (end - 1) // size + 1))
    chain.floor = max(chain.floor, chain.newest_write)
    history.segments.release(n for delta_map in chain.maps for n in delta_map.segments)
    chain.maps = []
    return regions
