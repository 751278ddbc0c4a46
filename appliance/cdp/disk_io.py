"""Disk operations that a coroutine can await; errors are `DiskFailed`.

For recovery, jobs and metadata; the paths of host reads and writes submit
their requests themselves.
"""

from collections.abc import Sequence

from appliance.cdp.interfaces import FLUSH, READ, WRITE, ZERO, Disk, DiskRequest
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.tasks import Completion, gather
from appliance.errors import DiskFailed

TRANSFER = 1 << 20
"""Bytes in one request of a bulk transfer."""


def _settle(completion: Completion[None], disk: Disk, request: DiskRequest) -> None:
    if request.error is None:
        completion.succeed(None)
    else:
        completion.fail(DiskFailed(disk=disk.identity.id, reason=str(request.error)))


def start(
    disk: Disk,
    kind: int,
    offset: int = 0,
    length: int = 0,
    buffer: Buffer | None = None,
    at: int = 0,
    durable: bool = False,
) -> Completion[None]:
    """Submit one request; the completion fails with DiskFailed."""
    completion: Completion[None] = Completion(holds=kind != READ)
    disk.submit(
        [
            DiskRequest(
                kind,
                offset,
                length,
                buffer,
                at,
                lambda request: _settle(completion, disk, request),
                durable,
            )
        ]
    )
    return completion


async def read(disk: Disk, pool: BufferPool, offset: int, length: int) -> Buffer:
    """Read bytes into a buffer of the pool, which the caller releases."""
    buffer = pool.get(length)
    parts = [
        start(disk, READ, offset + at, min(TRANSFER, length - at), buffer, at)
        for at in range(0, length, TRANSFER)
    ]
    try:
        await gather(parts)
    except BaseException:
        buffer.release()
        raise
    return buffer


async def read_ranges(disk: Disk, pool: BufferPool, ranges: Sequence[tuple[int, int]]) -> Buffer:
    """Read ranges (offset, length), submitted at once, into one buffer, one behind the other.

    The caller releases it.
    """
    buffer = pool.get(sum(length for _, length in ranges))
    try:
        await _move_ranges(disk, READ, buffer, ranges)
    except BaseException:
        buffer.release()
        raise
    return buffer


async def write_ranges(disk: Disk, buffer: Buffer, ranges: Sequence[tuple[int, int]]) -> None:
    """Write a buffer, cut as `read_ranges` would have filled it, submitted at once."""
    await _move_ranges(disk, WRITE, buffer, ranges)


async def _move_ranges(
    disk: Disk, kind: int, buffer: Buffer, ranges: Sequence[tuple[int, int]]
) -> None:
    finished: Completion[None] = Completion(holds=kind != READ)
    left = len(ranges)
    failure: OSError | None = None

    def done(request: DiskRequest) -> None:
        nonlocal left, failure
        left -= 1
        failure = failure or request.error
        if not left:
            finished.succeed(None)

    requests = []
    at = 0
    for offset, length in ranges:
        requests.append(DiskRequest(kind, offset, length, buffer, at, done))
        at += length
    disk.submit(requests)
    if requests:
        await finished
    if failure is not None:
        raise DiskFailed(disk=disk.identity.id, reason=str(failure)) from failure


async def read_bytes(disk: Disk, pool: BufferPool, offset: int, length: int) -> bytes:
    """Read a small structure."""
    buffer = await read(disk, pool, offset, length)
    try:
        return bytes(buffer.view[:length])
    finally:
        buffer.release()


async def write_bytes(
    disk: Disk, pool: BufferPool, offset: int, raw: bytes, durable: bool = False
) -> None:
    """Write a structure, a multiple of the disk's logical block."""
    buffer = pool.get(len(raw))
    try:
        buffer.view[: len(raw)] = raw
        await gather(
            [
                start(
                    disk,
                    WRITE,
                    offset + at,
                    min(TRANSFER, len(raw) - at),
                    buffer,
                    at,
                    durable,
                )
                for at in range(0, len(raw), TRANSFER)
            ]
        )
    finally:
        buffer.release()


async def flush(*disks: Disk) -> None:
    """Flush the disks, at once."""
    await gather([start(disk, FLUSH) for disk in disks])


async def zero(disk: Disk, offset: int, length: int) -> None:
    """Make the range read as zeros."""
    await start(disk, ZERO, offset, length)
