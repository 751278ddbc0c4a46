"""Comparing the two disks of a volume while hosts write (claims 1–9).

A comparison begins with a moment: the writes up to it are complete on both
disks, and the PIT map of it tells where each block lies on the secondary.
What the journal takes from then on is watched, so that at any later time

* a sector that is watched is equal on both disks as soon as its write is
  complete: both legs were written from one copy of the payload (if the primary
  fails its leg, the region is marked out of sync, and a later comparison's);
* any other sector has not been written since, and is compared with the
  secondary through the PIT map.

Scanning takes no lock and reads far ahead.  It may therefore find blocks
different that a host was just writing: `revise` takes out what is watched,
sector by sector, and looks at the rest again under its range lock.
"""

from collections.abc import Awaitable, Callable, Iterable

from appliance.cdp import disk_io
from appliance.cdp.changes import Changes
from appliance.cdp.commit_group import REPAIR
from appliance.cdp.extents import (
    EMPTY,
    Extents,
    by_window,
    byte_ranges,
    subtract,
    union,
    union_all,
    widen,
)
from appliance.cdp.history import History
from appliance.cdp.interfaces import SECTOR, Disk, HostRequest
from appliance.cdp.memory import BufferPool
from appliance.cdp.pace import Pacing
from appliance.cdp.side_by_side import SECTORS, SideBySide
from appliance.cdp.tasks import Ahead, Completion, gather
from appliance.cdp.write_path import WritePath
from appliance.errors import VolumeNotReady

STEP = 4 << 20
"""Bytes that are read at once from each disk, and compared, as far as the pace allows."""
AHEAD = 3
"""Steps that are under way at once: one is compared while both disks read the next ones."""
WINDOW = 1 << 20
"""Bytes whose host writes may have to wait while they are looked at again."""

Looked = Callable[[int, Extents], Awaitable[None]]
"""Told of a step that is over: its bytes, and which of its sectors were read different."""


class Comparison:
    """Of one primary with its history, as of the write `write`.  `end` it."""

    def __init__(
        self, primary: Disk, path: WritePath, pool: BufferPool, disks: SideBySide, since: Changes
    ) -> None:
        self.write = disks.write
        self.since = since
        """The scan delta map, and later the host change delta map: what was written since."""
        self._primary = primary
        self._path = path
        self._pool = pool
        self._disks = disks

    @classmethod
    async def begin(
        cls, primary: Disk, history: History, path: WritePath, pool: BufferPool, gives_up: bool
    ) -> "Comparison":
        """DiskFailed or FormatDamaged if the PIT map cannot be made.

        `gives_up`: the scan ends with DiskUnreadable once a disk does not give too much.
        """
        since = history.journal.watch(history.post)
        try:
            await path.settled(path.next_write - 1)
            pit_map = await history.pit_map(history.chain.newest_write)
        except BaseException:
            since.end()
            raise
        disks = SideBySide(primary, history, pit_map, pool, gives_up)
        return cls(primary, path, pool, disks, since)

    @property
    def unreadable(self) -> Extents:
        """Blocks that the primary does not give; they count as equal until it does."""
        return self._disks.unreadable

    @property
    def misses(self) -> bool:
        """Is there anything that one of the disks does not give?"""
        return self._disks.misses

    def end(self) -> None:
        """Idempotent."""
        self.since.end()

    # Scanning

    async def scan(
        self, ranges: Iterable[tuple[int, int]], pace: Pacing, scanned: Callable[[int, int], None]
    ) -> Extents:
        """The compare delta map of some ranges: `scan_on` to their end.

        `scanned` is told the bytes of each step that is over, and how many are to look at again.
        """
        found: list[Extents] = []

        async def looked(size: int, different: Extents) -> None:
            found.append(different)
            scanned(size, bytes_of_blocks(different))

        await self.scan_on(ranges, pace, looked)
        return union_all(found)

    async def scan_on(
        self, ranges: Iterable[tuple[int, int]], pace: Pacing, looked: Looked
    ) -> None:
        """Read ranges (offset, length) of both disks, and tell `looked` of each step in its turn.

        What hosts have written since is not taken out yet.  A range is asked for while steps of
        those before it are under way.
        """

        async def look(offset: int, size: int) -> tuple[int, Extents]:
            return size, await self._disks.look_at(offset, size)

        async with Ahead[tuple[int, Extents]](AHEAD, lambda step: looked(*step)) as ahead:
            for offset, length in ranges:
                at, end = offset, offset + length
                while at < end:
                    size = pace.fitting(min(STEP, end - at))
                    await pace(size)
                    await ahead.start(look(at, size))
                    at += size

    # Revising and copying

    async def revise(
        self, compare: Extents, pace: Pacing, copy: bool, revised: Callable[[int, Extents], None]
    ) -> Extents:
        """The revised compare delta map: blocks that differ, for sure, under their range locks.

        With `copy` they are copied to the secondary right there.  `revised` is
        told how many bytes were looked at, and the blocks of them that differed.
        """
        different = EMPTY
        left = subtract(compare, await self.since.all())
        for part in by_window(widen(left, SECTORS), WINDOW // SECTOR):
            await pace(part.total * SECTOR)
            async with _Locked(self._path, part):
                found = subtract(await self._disks.look(part), self._fresh(part))
                blocks = widen(found, SECTORS)
                if copy and blocks:
                    await self._journal(blocks)
            if blocks:
                different = union(different, blocks)
            revised(part.total * SECTOR, blocks)
        return different

    async def copy(self, revised: Extents, pace: Pacing, copied: Callable[[int], None]) -> None:
        """Copy what was found different, but for what hosts have written since.

        Whole blocks are copied, and so they are locked: a part of one may have been revised away.
        """
        for part in by_window(revised, WINDOW // SECTOR):
            await pace(part.total * SECTOR)
            async with _Locked(self._path, widen(part, SECTORS)):
                blocks = widen(subtract(part, self._fresh(part)), SECTORS)
                if blocks:
                    await self._journal(blocks)
                    copied(blocks.total * SECTOR)

    def _fresh(self, part: Extents) -> Extents:
        return self.since.within(int(part.starts[0]), int(part.ends[-1]))

    async def _journal(self, blocks: Extents) -> None:
        """Give the primary's data of some blocks a place in the journal; they are locked."""
        buffer = await disk_io.read_ranges(self._primary, self._pool, byte_ranges(blocks))
        try:
            at = 0
            written = []
            for offset, length in byte_ranges(blocks):
                completion: Completion[HostRequest] = Completion()
                data = buffer.view[at : at + length]
                request = HostRequest(REPAIR, offset, length, completion.succeed, data=data)
                self._path.write(request, inside_lock=True)
                written.append(completion)
                at += length
        finally:
            buffer.release()  # the path has its own copy
        if any(request.error for request in await gather(written)):
            raise VolumeNotReady(volume="", state="tracking", reason="the secondary went away")


def bytes_of_blocks(different: Extents) -> int:
    """How many bytes are looked at again, or copied, for some sectors: those of whole blocks."""
    return widen(different, SECTORS).total * SECTOR if different else 0


class _Locked:
    """The range locks around some extents."""

    def __init__(self, path: WritePath, part: Extents) -> None:
        self._path = path
        self._offset = int(part.starts[0]) * SECTOR
        self._length = int(part.ends[-1]) * SECTOR - self._offset

    async def __aenter__(self) -> None:
        await self._path.lock(self._offset, self._length)

    async def __aexit__(self, *_: object) -> None:
        self._path.unlock(self._offset, self._length)
