"""The history of a volume: everything that lies on the secondary, and how it is read.

Here the chain, the free segments, the checkpoints and the journal's stream
come together.  The write path appends through `journal`; views, restores and
synchronisations read through `pit_map` and `reader`; retention folds.

A *hold* keeps a point restorable while someone reads it: whoever wants to move
the floor past it either makes the holder give up or leaves the floor alone.

When the medium has lost entries of a closed map, which blocks they overwrote is
not known any more.  The map is *cut* before them, wherever that comes to light.
Points before the cut are as good as ever; none behind it counts until a resync
has compared everything with the primary, which makes the newest one true again.
The regions are out of sync, durably, before the chain says less than it did.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from appliance.cdp import disk_io, format
from appliance.cdp.chain import Chain
from appliance.cdp.checkpoint import SLOTS, Checkpoints, Tail
from appliance.cdp.delta_map import DeltaMap, MapOrder, from_write, spans, up_to
from appliance.cdp.extents import EMPTY, Extents, extents
from appliance.cdp.format import ENTRY, MARK_DTYPE, Rows
from appliance.cdp.interfaces import SECTOR, Clock, Disk, Post
from appliance.cdp.journal import Journal
from appliance.cdp.memory import BufferPool
from appliance.cdp.pit_map import PitMap
from appliance.cdp.point_reader import PointReader
from appliance.cdp.points import Point, Snapshot
from appliance.cdp.policies import Policies
from appliance.cdp.segments import Segments
from appliance.cdp.stream import Prefix, Stream, as_rows
from appliance.cdp.superblock import Superblock
from appliance.cdp.tasks import Turn
from appliance.errors import DiskFailed, FormatDamaged


@dataclass(slots=True, eq=False)
class Hold:
    """Keeps `write` restorable; `give_up` is None for what must not be pushed out."""

    write: int
    give_up: Callable[[], None] | None


class HistoryOwner(Protocol):
    """Whose history it is: told what is lost, and marks what the loss leaves in doubt."""

    def history_damaged(self, disk: str, reason: str) -> None:
        """`disk` is the id of the secondary."""
        ...

    def snapshot_dropped(self, snapshot: Snapshot) -> None:
        """Its point is given up, now."""
        ...

    async def doubt(self, doubted: Extents) -> None:
        """The disks may differ there; durably out of sync when this returns."""
        ...


class History:
    """One secondary in service."""

    def __init__(
        self,
        disk: Disk,
        superblock: Superblock,
        chain: Chain,
        tail: Tail,
        next_order: int,
        checkpoints: Checkpoints,
        post: Post,
        clock: Clock,
        pool: BufferPool,
        owner: HistoryOwner,
    ) -> None:
        self.disk = disk
        self.owner = owner
        self.superblock = superblock
        self.chain = chain
        self.next_order = next_order
        self.policies = Policies()
        self.segments = Segments(
            superblock.segment_count,
            [tail.segment, *(n for delta_map in chain.all_maps for n in delta_map.segments)],
        )
        self.journal = Journal(superblock, chain, self.segments, clock, tail)
        self.stream = Stream(disk, superblock, pool)
        self.base_write = 0
        """The base image has taken every write up to this in this life of the service ..."""
        self.base_lost = EMPTY
        """... but for what could not be read any more."""
        self._cuts = 0
        self._cut_from = 0
        """The first write that any cut of this life has lost."""
        self._checkpoints = checkpoints
        self.base_turn = Turn()
        """Whoever writes to the base image from what it has read elsewhere: baseline or fold."""
        self._turn = Turn()
        self._holds: set[Hold] = set()
        self.post = post
        self.pool = pool

    @property
    def capacity_bytes(self) -> int:
        return self.superblock.segment_count * self.superblock.segment_size

    @property
    def used_bytes(self) -> int:
        """Bytes that no new write can use now."""
        return self.capacity_bytes - self.segments.free * self.superblock.segment_size

    async def checkpoint(self) -> None:
        """Make the chain as it is now durable, and everything it names."""
        await self._turn.take()
        try:
            await self._store_checkpoint()
        finally:
            self._turn.give()

    async def _store_checkpoint(self) -> None:
        """In one's turn."""
        released = self.segments.begin_checkpoint()
        self.chain.elapsed_ns = self.journal.elapsed_ns()
        try:
            await self._checkpoints.store(
                self.chain, self.journal.tail, self.next_order, self.policies
            )
        except BaseException:
            self.segments.release(released)
            raise
        self.segments.checkpoint_durable(released)

    # Reading the past

    async def rows(self, delta_map: DeltaMap) -> Rows:
        """The entries of a map, in the order of their writes; it may be cut for that."""
        if delta_map.in_memory:
            return delta_map.entries()
        entries, _ = await self._load(delta_map)
        return as_rows(entries)

    async def marks(self, delta_map: DeltaMap) -> Rows:
        """The times of a map's records; it may be cut for that."""
        if delta_map.in_memory:
            return delta_map.marks()
        _, marks = await self._load(delta_map)
        return np.frombuffer(marks, MARK_DTYPE)

    async def pit_map(self, write: int, maps: list[DeltaMap] | None = None) -> PitMap:
        """The newest version of everything up to a write, from the whole chain or some maps.

        That is all that is known, whether or not the write is a point: `reader_of`
        a point makes sure of that.
        """
        hold = self.hold(write, None)
        try:
            while True:
                cuts = self.cuts
                wanted = self.chain.maps_up_to(write) if maps is None else maps
                rows = [up_to(await self.rows(delta_map), write) for delta_map in wanted]
                pit_map = await self.post.offload(partial(PitMap, write, rows))
                if self.cuts == cuts:
                    return pit_map
        finally:
            self.let_go(hold)

    @property
    def cuts(self) -> int:
        """How many cuts there were in this life."""
        return self._cuts

    def reader(self, pit_map: PitMap) -> PointReader:
        """Reads a PIT map that was just made; hold its write meanwhile."""
        made_after = self._cuts

        def base_write() -> int:
            if self._cuts != made_after and pit_map.write >= self._cut_from:
                # What it names beyond the cut is not folded like the rest, but given up.
                raise FormatDamaged(what="history", reason="it was cut while it was being read")
            return self.base_write

        return PointReader(
            self.disk, self.superblock, self.pool, pit_map, base_write, lambda: self.base_lost
        )

    async def reader_of(self, point: Point) -> PointReader:
        """Reads a point, which is to be held.

        PointInGap or PointOutsideWindow if it is lost, perhaps as this comes to light.
        """
        pit_map = await self.pit_map(point.write)
        self.chain.check_restorable(point.write, point.text)
        return self.reader(pit_map)

    async def changed_after(self, write: int) -> Extents:
        """What any write behind that point has touched; everything while that is not known."""
        hold = self.hold(write, None)
        try:
            rows = [
                from_write(await self.rows(delta_map), write + 1)
                for delta_map in self.chain.maps_after(write)
            ]
        finally:
            self.let_go(hold)
        if self.chain.incomplete_from:
            return self._everything
        if not rows:
            return EMPTY
        return await self.post.offload(lambda: extents(*spans(np.concatenate(rows))))

    @property
    def _everything(self) -> Extents:
        return extents([0], [self.superblock.volume_size // SECTOR])

    # What the medium has lost

    async def _load(self, delta_map: DeltaMap) -> tuple[bytes, bytes]:
        """Entries and marks of a closed map, up to the first that is lost.

        Nothing of a map that has left the chain: the base image has it.
        """
        while True:
            try:
                return await self.stream.load(delta_map)
            except FormatDamaged as error:
                await self._cut(delta_map, str(error))
                if not any(known is delta_map for known in self.chain.maps):
                    return b"", b""

    async def _cut(self, delta_map: DeltaMap, reason: str) -> None:
        """Keep of a map what comes before its first lost record, if another look agrees."""
        await self._turn.take()
        try:
            found = await self.stream.prefix(delta_map)
            known = any(known is delta_map for known in self.chain.maps)
            if not known or await self._is_whole(delta_map, found):
                return
            # A disk that does not even give its directory is in trouble as a whole.
            await self._checkpoints.read_slot(self._checkpoints.number % SLOTS)
            self.owner.history_damaged(self.disk.identity.id, reason)
            await self.owner.doubt(self._everything)
            self._take_away(delta_map, found)
            await self._store_checkpoint()
        finally:
            self._turn.give()

    async def _is_whole(self, delta_map: DeltaMap, found: Prefix) -> bool:
        if delta_map.order is MapOrder.TIME:
            return found.records == delta_map.records
        try:
            await self.stream.load_index(delta_map)
        except (FormatDamaged, DiskFailed):
            return False
        return True

    def _take_away(self, delta_map: DeltaMap, found: Prefix) -> None:
        chain = self.chain
        newest = chain.newest_write
        lost_from = delta_map.first_write
        if found.records:
            lost_from = found.last_write + (not found.mid_write)
        gone = delta_map.cut(
            len(found.entries) // ENTRY.size,
            found.records,
            found.last_write,
            found.payload,
            found.wall,
            found.segments,
        )
        if not found.records:
            chain.maps = [known for known in chain.maps if known is not delta_map]
        self.segments.release(gone)
        self._cut_from = min(self._cut_from, lost_from) if self._cuts else lost_from
        self._cuts += 1
        for hold in [hold for hold in self._holds if hold.write >= lost_from]:
            if hold.give_up is not None:
                self._holds.discard(hold)
                hold.give_up()
        for snapshot in chain.lose_from(lost_from, newest, self.journal.wall_ns()):
            self.owner.snapshot_dropped(snapshot)

    def hold(self, write: int, give_up: Callable[[], None] | None) -> Hold:
        """Keep a point restorable until `let_go`, or until `give_up` is called."""
        hold = Hold(write, give_up)
        self._holds.add(hold)
        return hold

    def let_go(self, hold: Hold) -> None:
        """Idempotent."""
        self._holds.discard(hold)

    def clear_holds_below(self, write: int) -> bool:
        """Make the holders of points before `write` give up; False if one must not."""
        below = [hold for hold in self._holds if hold.write < write]
        if any(hold.give_up is None for hold in below):
            return False
        for hold in below:
            self._holds.discard(hold)
            if hold.give_up is not None:
                hold.give_up()
        return True

    # Indexing closed maps

    async def write_indexes(self) -> None:
        """Give every closed map that has none its index, and let its entries leave memory.

        Skipped while free segments are scarce: the records say the same.
        """
        pending = [m for m in self.chain.settled if m.in_memory and not m.indexed]
        written = [delta_map for delta_map in pending if await self._write_index(delta_map)]
        if written:
            await self.checkpoint()
            for delta_map in written:
                delta_map.forget()

    async def _write_index(self, delta_map: DeltaMap) -> bool:
        raw = delta_map.entries().tobytes() + delta_map.marks().tobytes()
        needed = -(-len(raw) // self.superblock.segment_size)
        if self.segments.free - needed < self.superblock.segment_count // 4:
            return False
        return await self.store_index(delta_map, raw, self.segments.take)

    async def store_index(
        self, delta_map: DeltaMap, raw: bytes, take: Callable[[], int | None]
    ) -> bool:
        """Write entries and marks as a map's index; False without room.

        Durable with the next checkpoint.
        """
        size = self.superblock.segment_size
        needed = -(-len(raw) // size)
        taken = [segment for _ in range(needed) if (segment := take()) is not None]
        if len(taken) < needed:
            self.segments.release(taken)
            return False
        for at, segment in enumerate(taken):
            part = raw[at * size : (at + 1) * size]
            await disk_io.write_bytes(
                self.disk,
                self.pool,
                self.superblock.segment_offset(segment),
                part.ljust(format.pages(len(part)), b"\0"),
            )
        delta_map.index_segments = taken
        delta_map.index_crc = format.crc32c(raw)
        delta_map.indexed = True
        return True
