"""The same blocks of both disks of a volume, side by side: which of their sectors differ now.

Both disks are read at once, and what they give is compared where it lies.  What the
secondary does not give, or has lost, differs; what the primary does not give is noted as
`unreadable`, and counts as equal until it does.

A look at everything gives a disk up that does not give more than a mebibyte: each read of a
bad sector may take its drive seconds, and a scan has to end.  Repairing what is known to
differ never does: it ends with the regions, and what the secondary does not give is written anew.

Most of a volume has nothing above the base image: `look_at` reads that without more ado.
A scan is bound by processors as soon as its disks are fast, so each call there counts.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np

from appliance.cdp import disk_io
from appliance.cdp.extents import (
    EMPTY,
    Extents,
    Sectors,
    by_window,
    byte_ranges,
    extents,
    one,
    union,
)
from appliance.cdp.history import History
from appliance.cdp.interfaces import BLOCK, READ, SECTOR, Disk
from appliance.cdp.memory import Buffer, BufferPool, equal
from appliance.cdp.pit_map import PitMap
from appliance.cdp.tasks import Task, gather
from appliance.errors import DiskFailed, DiskUnreadable, FormatDamaged

SECTORS = BLOCK // SECTOR
LONG = 2 << 20
"""Bytes from which on the comparison runs beside the loop: hosts would wait for it, and where
processors are few the kernel finds one for it that is idle.  A short one is over sooner; and what
is looked at under a range lock is shorter, so that no host waits for the loop's threads."""
MOST_UNREADABLE = 1 << 20
"""Bytes that a disk may not give, before a look at everything is given up."""

_NOTHING = np.empty(0, np.int64)


class SideBySide:
    """A primary, and its history as of one point."""

    def __init__(
        self, primary: Disk, history: History, pit_map: PitMap, pool: BufferPool, gives_up: bool
    ) -> None:
        """`gives_up`: DiskUnreadable once a disk does not give too much."""
        self.write = pit_map.write
        """The write that the history is looked at as of."""
        self.unreadable = EMPTY
        """Blocks that the primary does not give."""
        self._not_given = EMPTY
        """Blocks that the secondary does not give."""
        self._gives_up = gives_up
        self._primary = primary
        self._history = history
        self._cuts = history.cuts
        """If they grow, the history may not hold any more what the PIT map names."""
        self._reader = history.reader(pit_map)
        self._pool = pool

    @property
    def misses(self) -> bool:
        """Is there anything that one of the disks did not give?"""
        return bool(self.unreadable or self._not_given)

    async def look_at(self, offset: int, size: int) -> Extents:
        """The sectors of a range of whole blocks (bytes) that differ now.

        DiskFailed or FormatDamaged if a disk, or the history as it was, is lost altogether.
        """
        base = self._reader.in_base(offset, size)
        if base is None:
            return await self.look(_blocks(offset, size))
        reading = self._read_base(offset, base, size)
        return await self._look(reading, size, lambda: _blocks(offset, size))

    async def look(self, blocks: Extents) -> Extents:
        """The same for any whole blocks."""
        return await self._look(self._read_both(blocks), blocks.total * SECTOR, lambda: blocks)

    async def _look(
        self,
        reading: Awaitable[tuple[Buffer, Buffer]],
        size: int,
        blocks: Callable[[], Extents],
    ) -> Extents:
        try:
            ours, theirs = await reading
        except (DiskFailed, FormatDamaged) as error:
            failure = error
        else:
            try:
                found = await self._differing(ours, theirs, size)
            finally:
                ours.release()
                theirs.release()
            return placed(found, blocks()) if len(found) else EMPTY
        return await self._look_closer(blocks(), failure)

    async def _look_closer(self, blocks: Extents, error: DiskFailed | FormatDamaged) -> Extents:
        """Block by block: with such an error a disk did not give all of them at once."""
        if self._primary.fenced or self._reader.disk.fenced or self._history.cuts != self._cuts:
            raise error
        if blocks.total > SECTORS:
            found = EMPTY
            for block in by_window(blocks, SECTORS):
                found = union(found, await self.look(block))
            return found
        if await self._primary_gives(blocks):
            if error.fields.get("disk") == self._reader.disk.identity.id:
                self._not_given = union(self._not_given, blocks)
                self._require(self._reader.disk, self._not_given)
            return blocks
        self.unreadable = union(self.unreadable, blocks)
        self._require(self._primary, self.unreadable)
        return EMPTY

    async def _read_base(self, offset: int, base: int, size: int) -> tuple[Buffer, Buffer]:
        ours, theirs = self._pool.get(size), self._pool.get(size)
        try:
            await gather(
                [
                    disk_io.start(self._reader.disk, READ, base, size, theirs),
                    disk_io.start(self._primary, READ, offset, size, ours),
                ]
            )
        except BaseException:
            ours.release()
            theirs.release()
            raise
        return ours, theirs

    async def _read_both(self, blocks: Extents) -> tuple[Buffer, Buffer]:
        ours = Task(disk_io.read_ranges(self._primary, self._pool, byte_ranges(blocks)))
        try:
            theirs = await self._reader.read_extents(blocks, checked=False)
        except BaseException:
            ours.cancel()
            raise
        try:
            return await ours, theirs
        except BaseException:
            ours.cancel()
            theirs.release()
            raise

    async def _differing(self, ours: Buffer, theirs: Buffer, size: int) -> Sectors:
        # A look that is given up gives its buffers back while this still reads them: that does no
        # harm, for it holds the memory, writes nothing, and nobody hears what it has found.
        compare = partial(differing, ours, theirs, size)
        return compare() if size < LONG else await self._history.post.offload(compare)

    def _require(self, disk: Disk, missing: Extents) -> None:
        if self._gives_up and missing.total * SECTOR > MOST_UNREADABLE:
            reason = f"more than {MOST_UNREADABLE >> 20} MiB of it in one scan"
            raise DiskUnreadable(disk=disk.identity.id, reason=reason)

    async def _primary_gives(self, blocks: Extents) -> bool:
        try:
            buffer = await disk_io.read_ranges(self._primary, self._pool, byte_ranges(blocks))
        except DiskFailed:
            if self._primary.fenced:
                raise
            return False
        buffer.release()
        return True


def _blocks(offset: int, size: int) -> Extents:
    return one(offset // SECTOR, (offset + size) // SECTOR)


def differing(ours: Buffer, theirs: Buffer, size: int) -> Sectors:
    """The numbers, in the buffers, of the sectors that differ among the first `size` bytes.

    Those are whole blocks.  Where not all is equal, rows of a block each are compared first,
    as words.
    """
    if equal(ours, theirs, size):
        return _NOTHING
    a = ours.array[:size].view(np.uint64)
    b = theirs.array[:size].view(np.uint64)
    words = (-1, BLOCK // 8)
    rows = np.flatnonzero((a.reshape(words) != b.reshape(words)).any(axis=1))
    shape = (-1, SECTORS, SECTOR // 8)
    unequal = (a.reshape(words)[rows].reshape(shape) != b.reshape(words)[rows].reshape(shape)).any(
        axis=2
    )
    row, sector = np.nonzero(unequal)
    return np.asarray(rows[row] * SECTORS + sector, np.int64)


def placed(numbers: Sectors, blocks: Extents) -> Extents:
    """Sectors of buffers that hold some blocks, one behind the other, as extents of the volume."""
    lengths = blocks.ends - blocks.starts
    behind = np.cumsum(lengths)
    extent = np.searchsorted(behind, numbers, side="right")
    first = blocks.starts[extent] + numbers - (behind - lengths)[extent]
    return extents(first, first + 1)
