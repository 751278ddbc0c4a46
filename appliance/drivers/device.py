"""Opening a disk and learning what it is; and its operations one by one, as plain calls.

Everything here may wait for the disk: it belongs on a lane of that disk, or on
the loop's thread only while the disk is being taken into service.
"""

import ctypes
import errno
import fcntl
import os
import stat
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.cdp.interfaces import DISCARD, FLUSH, READ, WRITE, ZERO, DiskRequest
from appliance.cdp.memory import Buffer
from appliance.errors import DiskFailed, DiskInUse, DiskNotFound

# From linux/fs.h and linux/falloc.h.
_BLKSSZGET: Final = 0x1268
_BLKPBSZGET: Final = 0x127B
_BLKGETSIZE64: Final = 0x80081272
_BLKDISCARD: Final = 0x1277
_BLKZEROOUT: Final = 0x127F
_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02

_UNSUPPORTED: Final = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS)
_ZEROS: Final = Buffer(1 << 20)

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@dataclass(slots=True)
class Device:
    """An open disk.  Sizes are bytes.

    `queue_depth` requests, each of at most `largest_request` bytes, can be
    with the kernel without the next one having to wait.
    """

    fd: int
    is_block: bool
    direct: bool
    size: int
    logical_block: int
    physical_block: int
    cheap_zero: bool
    queue_depth: int
    largest_request: int

    def perform(self, request: DiskRequest, at: int, length: int) -> int:
        """Do `length` bytes of `request` from its byte `at` on, and return how many were done.

        Raises OSError.
        """
        offset = request.offset + at
        if request.kind == FLUSH:
            os.fdatasync(self.fd)
        elif request.kind == ZERO:
            self._zero(offset, length)
        elif request.kind == DISCARD:
            self._discard(offset, length)
        else:
            assert request.buffer is not None
            start = request.start + at
            memory = request.buffer.view[start : start + length]
            if request.kind == READ:
                return os.preadv(self.fd, [memory], offset)
            assert request.kind == WRITE
            return os.pwritev(self.fd, [memory], offset, os.RWF_DSYNC if request.durable else 0)
        return length

    def was_pulled(self) -> bool:
        """The disk is not there any more: the kernel then shows it with no size."""
        return self.is_block and _block_size(self.fd) == 0

    def close(self) -> None:
        os.close(self.fd)

    def _zero(self, offset: int, length: int) -> None:
        try:
            if self.is_block:
                fcntl.ioctl(self.fd, _BLKZEROOUT, struct.pack("=QQ", offset, length))
            else:
                _punch_hole(self.fd, offset, length)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._write_zeros(offset, length)

    def _write_zeros(self, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            written = os.pwritev(self.fd, [_ZEROS.view[: min(_ZEROS.size, end - offset)]], offset)
            offset += written - written % self.logical_block
            if written < self.logical_block:
                raise OSError(errno.EIO, "nothing was written")

    def _discard(self, offset: int, length: int) -> None:
        try:
            if self.is_block:
                fcntl.ioctl(self.fd, _BLKDISCARD, struct.pack("=QQ", offset, length))
            else:
                _punch_hole(self.fd, offset, length)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise  # else the disk keeps what was not needed: allowed


def open_device(path: Path, name: str, logical_block: int = 512, read_only: bool = False) -> Device:
    """Take the disk at `path` for ourselves alone: a block device or a regular file.

    `name` is what errors call it; `logical_block` is the least that a regular
    file shall have; writes to a `read_only` one fail.  Raises DiskNotFound,
    DiskInUse or DiskFailed.
    """
    try:
        is_block = stat.S_ISBLK(path.stat().st_mode)
        access = os.O_RDONLY if read_only else os.O_RDWR
        fd, direct = _open(path, access | (os.O_EXCL if is_block else 0))
        try:
            if not is_block:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _examine(fd, direct, is_block, logical_block)
        except BaseException:
            os.close(fd)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.ENOENT:
            raise DiskNotFound(disk=name) from error
        if error.errno == errno.EBUSY:
            raise DiskInUse(disk=name, reason="mounted, or part of something") from error
        if error.errno == errno.EWOULDBLOCK:
            raise DiskInUse(disk=name, reason="another process has locked it") from error
        raise DiskFailed(disk=name, reason=reason) from error


def _open(path: Path, flags: int) -> tuple[int, bool]:
    """A descriptor, and whether it goes past the page cache."""
    flags |= os.O_CLOEXEC | os.O_NOCTTY
    try:
        return os.open(path, flags | os.O_DIRECT), True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags), False


def _examine(fd: int, direct: bool, is_block: bool, logical_block: int) -> Device:
    status = os.fstat(fd)
    if is_block:
        queue = _queue(status.st_rdev)
        size = _block_size(fd)
        logical_block = _ioctl_int(fd, _BLKSSZGET)
        physical_block = _ioctl_int(fd, _BLKPBSZGET)
        cheap_zero = _attribute(queue, "write_zeroes_max_bytes", 0) > 0
    elif stat.S_ISREG(status.st_mode):
        queue = _queue(status.st_dev)
        if direct:
            logical_block = max(logical_block, _least_direct_read(fd))
        physical_block = 4096
        size = status.st_size // logical_block * logical_block
        cheap_zero = _can_punch_holes(fd, status.st_size)
    else:
        raise OSError(errno.ENOTBLK, "neither a block device nor a regular file")
    depth = min(_attribute(queue, "nr_requests", 64), 128)
    # A request is cut further by its count of pages, which need not lie side by side.
    largest = min(
        _attribute(queue, "max_sectors_kb", 512) << 10, _attribute(queue, "max_segments", 128) << 12
    )
    return Device(
        fd,
        is_block,
        direct,
        size,
        logical_block,
        max(physical_block, logical_block),
        cheap_zero,
        # Some places stay free for others who ask the disk: udev's probes, SMART.
        max(1, depth - max(2, depth // 8)),
        max(4096, largest),
    )


def _ioctl_int(fd: int, number: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, number, bytes(4)), sys.byteorder)


def _block_size(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)), sys.byteorder)


def _queue(device_number: int) -> Path | None:
    """The kernel's description of a disk's queue; None where no single disk lies below."""
    place = Path(f"/sys/dev/block/{os.major(device_number)}:{os.minor(device_number)}")
    if not place.exists():
        return None
    queue = place.resolve() / "queue"
    return queue if queue.exists() else queue.parent.parent / "queue"  # of a partition


def _attribute(queue: Path | None, name: str, default: int) -> int:
    try:
        return default if queue is None else int((queue / name).read_text())
    except (OSError, ValueError):
        return default


def _least_direct_read(fd: int) -> int:
    """The logical block of the disk under a file, found by what it lets us read."""
    try:
        os.preadv(fd, [Buffer(4096).view[:512]], 512)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return 4096
        raise
    return 512


def _can_punch_holes(fd: int, size: int) -> bool:
    try:
        _punch_hole(fd, size, 4096)  # behind the end, where there is nothing to lose
    except OSError:
        return False
    return True


def _punch_hole(fd: int, offset: int, length: int) -> None:
    if _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
