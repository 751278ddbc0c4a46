"""Memory that disks can reach directly: page-aligned, pooled, pinned while in use.

A buffer under I/O must not be given to anyone else, even when its submitter
has lost interest (a disk past its deadline is fenced, but the kernel may still
write to or read from the memory).  So drivers pin a buffer for as long as the
kernel holds it, and a released buffer goes back to its pool only unpinned.
"""

import contextlib
import ctypes
import mmap
from typing import Final

import numpy as np

PAGE: Final = mmap.PAGESIZE
_HUGE_PAGE: Final = 2 << 20
"""Bytes; pinning pages one by one is half of what the kernel does for a large read."""

_memcmp: Final = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Buffer:
    """`size` bytes at a page-aligned `address`, seen through `view`, or as the `array` of bytes."""

    __slots__ = ("address", "view", "array", "size", "pins", "_released", "_pool")

    def __init__(self, size: int, pool: "BufferPool | None" = None) -> None:
        pages = mmap.mmap(-1, -(-size // PAGE) * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size >= _HUGE_PAGE:
            with contextlib.suppress(OSError):  # a kernel without them
                pages.madvise(mmap.MADV_HUGEPAGE)
        self.view = memoryview(pages)
        self.array = np.frombuffer(self.view, np.uint8)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.view))
        self.size = len(self.view)
        self.pins = 0
        self._released = False
        self._pool = pool

    def unpin(self) -> None:
        """The kernel let go of one request's memory."""
        self.pins -= 1
        if self._released and not self.pins:
            self._recycle()

    def release(self) -> None:
        """The owner is finished; the memory is reused once nothing pins it."""
        self._released = True
        if not self.pins:
            self._recycle()

    def _recycle(self) -> None:
        self._released = False
        if self._pool is not None:
            self._pool.put(self)


def equal(one: Buffer, other: Buffer, size: int) -> bool:
    """Are the first `size` bytes of both the same?  At the speed of libc, without a copy."""
    return not _memcmp(one.address, other.address, size)


class BufferPool:
    """Keeps released buffers by size, so that the hot path allocates nothing.

    Sizes are rounded up to a power of two of at least one page.  At most
    `keep` bytes of idle memory are kept.
    """

    def __init__(self, keep: int = 32 << 20) -> None:
        self._idle: dict[int, list[Buffer]] = {}
        self._idle_bytes = 0
        self._keep = keep

    def get(self, size: int) -> Buffer:
        """A buffer of at least `size` bytes; its contents are arbitrary."""
        rounded = PAGE if size <= PAGE else 1 << (size - 1).bit_length()
        idle = self._idle.get(rounded)
        if idle:
            self._idle_bytes -= rounded
            return idle.pop()
        return Buffer(rounded, self)

    def put(self, buffer: Buffer) -> None:
        """Called by the buffer itself."""
        if self._idle_bytes + buffer.size <= self._keep:
            self._idle_bytes += buffer.size
            self._idle.setdefault(buffer.size, []).append(buffer)
