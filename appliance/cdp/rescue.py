"""When the primary does not give a block: the secondary does, where both are known to agree.

They are, outside the out-of-sync bitmap and of suspect blocks, once no write to the block is under
way: everything acknowledged is on both.  While the primary still serves, what
was read is put back on it by an ordered write, under the range's lock, so that
a drive can map the bad sector away.
"""

from appliance import events
from appliance.cdp import disk_io
from appliance.cdp.extents import extents, intersect
from appliance.cdp.history import History
from appliance.cdp.interfaces import BLOCK, READ, SECTOR, WRITE, HostRequest
from appliance.cdp.memory import Buffer
from appliance.cdp.point_reader import PointReader
from appliance.cdp.tasks import Completion, Task
from appliance.cdp.volume import Volume
from appliance.errors import DiskFailed, EbbtideError


class Rescue:
    """Reads of one volume that its primary does not give."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._newest: tuple[History, int, Task[PointReader]] | None = None
        """A reader of the newest point, kept as long as nothing was written since."""

    async def read(self, offset: int, length: int) -> Buffer | None:
        """The bytes as the host last wrote them, or None if nobody can say."""
        volume = self._volume
        path = volume.path
        if path is None or not self._is_in_sync(offset, length):
            return None
        if volume.primary.fenced:
            return await self._read(offset, length)
        await path.lock(offset, length)
        try:
            buffer = await self._read(offset, length)
            if buffer is not None:
                await _put_back(volume, buffer, offset, length)
            return buffer
        finally:
            path.unlock(offset, length)

    async def read_past_silence(self, offset: int, length: int) -> Buffer | None:
        """The same while the primary neither gives it nor fails; None also while a write to it is
        under way."""
        path = self._volume.path
        if path is None or path.writes_to(offset, length) or not self._is_in_sync(offset, length):
            return None
        try:
            buffer = await (await self._newest_reader()).read(offset, length)
        except EbbtideError:
            return None  # the primary may give it yet
        return self._if_still_in_sync(buffer, offset, length)

    def _is_in_sync(self, offset: int, length: int) -> bool:
        volume = self._volume
        if volume.history is None or not volume.history.chain.baseline_whole:
            return False
        asked = extents([offset // SECTOR], [(offset + length) // SECTOR])
        if intersect(asked, volume.history.chain.suspects.open):
            return False
        first = offset // volume.superblock.region_size
        last = (offset + length - 1) // volume.superblock.region_size
        return not any(volume.log.is_out_of_sync(region) for region in range(first, last + 1))

    async def _read(self, offset: int, length: int) -> Buffer | None:
        volume = self._volume
        if volume.history is None:
            return None  # lost since it was looked at
        try:
            buffer = await (await self._newest_reader()).read(offset, length)
        except EbbtideError:
            volume.emit(events.READ_LOST, volume=volume.name, offset=offset, length=length)
            return None
        return self._if_still_in_sync(buffer, offset, length)

    def _if_still_in_sync(self, buffer: Buffer, offset: int, length: int) -> Buffer | None:
        """The read itself may have brought damage to light."""
        if self._is_in_sync(offset, length):
            return buffer
        buffer.release()
        return None

    async def _newest_reader(self) -> PointReader:
        """Made once for all that ask at a time: it may take seconds and a gibibyte."""
        history = self._volume.history
        assert history is not None
        write = history.chain.newest_write
        kept = self._newest
        if kept is None or kept[0] is not history or kept[1] != write:
            kept = self._newest = (history, write, Task(_make_reader(history, write)))
        try:
            return await kept[2]
        except EbbtideError:
            self._newest = None
            raise


async def _make_reader(history: History, write: int) -> PointReader:
    return history.reader(await history.pit_map(write))


async def _put_back(volume: Volume, good: Buffer, offset: int, length: int) -> None:
    """Write what the primary cannot read, block by block, so that what it can stays its own."""
    path = volume.path
    assert path is not None
    for at in range(0, length, BLOCK):
        size = min(BLOCK, length - at)
        scratch = volume.pool.get(size)
        try:
            await disk_io.start(volume.primary, READ, offset + at, size, scratch)
        except DiskFailed:
            written: Completion[HostRequest] = Completion()
            request = HostRequest(
                WRITE, offset + at, size, written.succeed, data=good.view[at : at + size]
            )
            path.write(request, inside_lock=True)
            await written
            volume.emit(events.READ_REPAIRED, volume=volume.name, offset=offset + at, length=size)
        finally:
            scratch.release()
