"""When the primary does not give a block: the secondary does, where both are known to agree.

They are, outside the out-of-sync bitmap, once no write to the block is under
way: everything acknowledged is on both.  While the primary still serves, what
was read is put back on it by an ordered write, under the range's lock, so that
a drive can map the bad sector away.
"""

from appliance import events
from appliance.cdp import disk_io
from appliance.cdp.interfaces import BLOCK, READ, WRITE, HostRequest
from appliance.cdp.memory import Buffer
from appliance.cdp.point_reader import PointReader
from appliance.cdp.tasks import Completion
from appliance.cdp.volume import Volume
from appliance.errors import DiskFailed, EbbtideError


async def read_from_secondary(volume: Volume, offset: int, length: int) -> Buffer | None:
    """The bytes as the host last wrote them, or None if nobody can say."""
    path, history = volume.path, volume.history
    if path is None or history is None:
        return None
    if not _agree(volume, offset, length) or not history.chain.baseline_whole:
        return None
    if volume.primary.fenced:
        return await _read(volume, offset, length)
    await path.lock(offset, length)
    try:
        buffer = await _read(volume, offset, length)
        if buffer is not None:
            await _put_back(volume, buffer, offset, length)
        return buffer
    finally:
        path.unlock(offset, length)


def _agree(volume: Volume, offset: int, length: int) -> bool:
    """Are both disks known to agree on these bytes?"""
    first = offset // volume.superblock.region_size
    last = (offset + length - 1) // volume.superblock.region_size
    return not any(volume.log.is_out_of_sync(region) for region in range(first, last + 1))


async def _read(volume: Volume, offset: int, length: int) -> Buffer | None:
    if volume.history is None:
        return None  # lost since it was looked at
    try:
        buffer = await (await _newest(volume)).read(offset, length)
        if _agree(volume, offset, length):  # still: the read may have brought damage to light
            return buffer
        buffer.release()
        return None
    except EbbtideError:
        volume.emit(events.READ_LOST, volume=volume.name, offset=offset, length=length)
        return None


async def _newest(volume: Volume) -> PointReader:
    """A reader of the newest point, kept as long as nothing was written since."""
    history = volume.history
    assert history is not None
    write = history.chain.newest_write
    kept = volume.newest_reader
    if kept is None or kept.pit_map.write != write:
        kept = history.reader(await history.pit_map(write))
        volume.newest_reader = kept
    return kept


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
