"""The history of a volume: everything that lies on the secondary, and how it is read.

Here the chain, the free segments, the checkpoints and the journal's stream
come together.  The write path appends through `journal`; views, restores and
synchronisations read through `pit_map` and `reader`; retention folds.

A *hold* keeps a point restorable while someone reads it: whoever wants to move
the floor past it either makes the holder give up or leaves the floor alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from appliance.cdp import disk_io, format
from appliance.cdp.chain import Chain
from appliance.cdp.checkpoint import Checkpoints, Tail
from appliance.cdp.delta_map import DeltaMap, from_write, spans, up_to
from appliance.cdp.extents import EMPTY, Extents, extents
from appliance.cdp.format import Rows
from appliance.cdp.interfaces import Clock, Disk, Post
from appliance.cdp.journal import Journal
from appliance.cdp.memory import BufferPool
from appliance.cdp.pit_map import PitMap
from appliance.cdp.point_reader import PointReader
from appliance.cdp.policies import Policies
from appliance.cdp.segments import Segments
from appliance.cdp.stream import Stream, as_rows
from appliance.cdp.superblock import Superblock
from appliance.cdp.tasks import Turn


@dataclass(slots=True, eq=False)
class Hold:
    """Keeps `write` restorable; `give_up` is None for what must not be pushed out."""

    write: int
    give_up: Callable[[], None] | None


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
    ) -> None:
        self.disk = disk
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
        """The base image has taken every write up to this in this life of the service."""
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
        finally:
            self._turn.give()

    # Reading the past

    async def rows(self, delta_map: DeltaMap) -> Rows:
        """The entries of a map, in the order of their writes."""
        if delta_map.in_memory:
            return delta_map.entries()
        entries, _ = await self.stream.load(delta_map)
        return as_rows(entries)

    async def pit_map(self, write: int, maps: list[DeltaMap] | None = None) -> PitMap:
        """The newest version of everything up to a write, from the whole chain or some maps."""
        wanted = self.chain.maps_up_to(write) if maps is None else maps
        hold = self.hold(write, None)
        try:
            rows = [up_to(await self.rows(delta_map), write) for delta_map in wanted]
            return await self.post.offload(lambda: PitMap(write, rows))
        finally:
            self.let_go(hold)

    def reader(self, pit_map: PitMap) -> PointReader:
        """Reads a point; hold its write meanwhile."""
        return PointReader(self.disk, self.superblock, self.pool, pit_map, lambda: self.base_write)

    async def changed_after(self, write: int) -> Extents:
        """What any write behind that point has touched."""
        hold = self.hold(write, None)
        try:
            rows = [
                from_write(await self.rows(delta_map), write + 1)
                for delta_map in self.chain.maps_after(write)
            ]
        finally:
            self.let_go(hold)
        if not rows:
            return EMPTY
        return await self.post.offload(lambda: extents(*spans(np.concatenate(rows))))

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
        size = self.superblock.segment_size
        needed = -(-len(raw) // size)
        if self.segments.free - needed < self.superblock.segment_count // 4:
            return False
        taken = [segment for _ in range(needed) if (segment := self.segments.take()) is not None]
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
