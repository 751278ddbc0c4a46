"""A raw disk, driven from the loop without ever waiting for it.

Reads, writes and flushes go through kernel AIO, a batch in one system call;
what kernel AIO has not (zeroing, discarding, and everything on a file system
that refuses direct I/O) goes through lanes, a few threads of this disk's own.

Invariants:

* A request is split into pieces of at most a mebibyte.  A piece waits in the
  driver's own queue until the kernel can take it at once: io_submit would
  otherwise wait, and the whole loop with it.
* Every piece that the kernel has is in `_in_flight`, oldest first, or, after a
  fence, in `_abandoned`; its memory is pinned for exactly that long.
* A request completes when its last piece has, or at the fence, never twice: the
  fence moves all pieces to `_abandoned`, where completions only unpin.
* Requests are completed from the loop, never from inside `submit` or `close`.
"""

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol, Self

from appliance.cdp.interfaces import FLUSH, READ, DiskIdentity, DiskRequest, Post, Timer
from appliance.drivers.device import Device, open_device
from appliance.drivers.kernel_aio import FLUSH as AIO_FLUSH
from appliance.drivers.kernel_aio import READ as AIO_READ
from appliance.drivers.kernel_aio import WRITE as AIO_WRITE
from appliance.drivers.kernel_aio import KernelAio
from appliance.drivers.lane import Lanes
from appliance.errors import DiskFailed

DEADLINE: Final = 30.0
"""Seconds after which a disk that has not answered is taken for hung."""
LARGEST_PIECE: Final = 1 << 20
LARGEST_LANE_PIECE: Final = 64 << 20
"""Zeroing is cheap or slow; in either case a piece of this size stays far from the deadline."""
LANES: Final = 2
LANES_IF_BUFFERED: Final = 8

_GONE: Final = (errno.ENODEV, errno.ENXIO)


class DiskLoop(Post, Protocol):
    """What a disk needs of the loop.

    In a turn, callbacks of descriptors run before timers: a loop that was held
    up sees what the disk completed meanwhile before it sees the deadline.
    """

    def register(self, fd: int, on_readable: Callable[[], None] | None) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def report(self, error: Exception) -> None: ...


class _Transfer:
    """A request of several pieces: how many are not back yet, and the first error."""

    __slots__ = ("remaining", "error")

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining
        self.error: OSError | None = None


Piece = tuple[DiskRequest, int, int, _Transfer | None, int]
"""Of which request; from which byte of it; how many bytes; with which others; and how many places
in the kernel's queue it takes (0: it goes through a lane)."""


class RawDisk:
    """A `Disk` on a block device or a regular file.  See the module."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        identity: DiskIdentity,
        loop: DiskLoop,
        deadline: float = DEADLINE,
        logical_block: int = 512,
        read_only: bool = False,
    ) -> Self:
        """The disk at `path`, ours alone until closed; may wait for it.

        `logical_block` is for regular files.  Writes to a `read_only` disk
        fail.  Raises DiskNotFound, DiskInUse or DiskFailed.
        """
        device = open_device(Path(path), identity.id, logical_block, read_only)
        return cls(device, identity, loop, deadline)

    def __init__(
        self, device: Device, identity: DiskIdentity, loop: DiskLoop, deadline: float = DEADLINE
    ) -> None:
        """Drive `device`, which is closed with this.  `deadline` is in seconds."""
        self.identity = identity
        self.size = device.size
        self.logical_block = device.logical_block
        self.physical_block = device.physical_block
        self.cheap_zero = device.cheap_zero
        self.direct = device.direct
        self.closed = False
        """The descriptor is given back, and the disk can be opened again."""
        self._device = device
        self._loop = loop
        self._deadline = deadline
        self._places = device.queue_depth
        self._largest_request = device.largest_request
        self._largest_piece = min(LARGEST_PIECE, device.queue_depth * device.largest_request)
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._aio = KernelAio(device.queue_depth, self._eventfd)
        except OSError as error:
            device.close()
            os.close(self._eventfd)
            raise DiskFailed(disk=identity.id, reason=f"no kernel AIO: {error}") from error
        self._lanes = Lanes(
            f"disk {identity.id}", LANES if device.direct else LANES_IF_BUFFERED, self._eventfd
        )
        self._idle_lanes = self._lanes.count
        self._token = 0
        self._in_flight: dict[int, tuple[float, Piece]] = {}
        """By token, oldest first: when it was given to the kernel (monotonic seconds), and what."""
        self._abandoned: dict[int, Piece] = {}
        self._waiting: deque[Piece] = deque()
        self._waiting_for_lane: deque[Piece] = deque()
        self._watch: Timer | None = None
        self._fence_errno = 0
        self._closing = False
        loop.register(self._eventfd, self._on_completions)

    @property
    def fenced(self) -> bool:
        return self._fence_errno != 0

    @property
    def outstanding(self) -> int:
        """Pieces of requests that the kernel, or a lane, still has."""
        return len(self._in_flight) + len(self._abandoned)

    def submit(self, requests: Sequence[DiskRequest]) -> None:
        if self._fence_errno:
            self._fail_later(requests, self._fence_errno)
            return
        largest = min(self._largest_request, self._largest_piece)
        direct = self.direct
        waiting = self._waiting
        for request in requests:
            length = request.length
            if request.offset + length > self.size:
                self._fail_later([request], errno.EINVAL)
            elif direct and length <= largest and request.kind <= FLUSH:
                waiting.append((request, 0, length, None, 1))
            else:
                self._split(request)
        self._start_waiting()
        if self._watch is None:
            self._watch_deadline()

    def close(self) -> None:
        """Fence the disk, and let go of it once nothing is outstanding; idempotent."""
        self._fence(errno.ENODEV)
        if not self._closing:
            self._closing = True
            self._loop.post(self._let_go)

    def _split(self, request: DiskRequest) -> None:
        through_lane = request.kind > FLUSH or not self.direct
        waiting = self._waiting_for_lane if through_lane else self._waiting
        longest = LARGEST_LANE_PIECE if request.kind > FLUSH else self._largest_piece
        length = request.length
        count = -(-length // longest)
        transfer = _Transfer(count) if count > 1 else None
        for at in range(0, length or 1, longest):
            size = min(longest, length - at)
            cost = 0 if through_lane else -(-size // self._largest_request)
            waiting.append((request, at, size, transfer, cost))

    def _start_waiting(self) -> None:
        """Give the kernel and the lanes what they can take without waiting."""
        if self._waiting_for_lane:
            self._start_lanes()
        waiting = self._waiting
        if not waiting:
            return
        aio, fd, in_flight, token = self._aio, self._device.fd, self._in_flight, self._token
        places, slot, now = self._places, 0, time.monotonic()
        while waiting and waiting[0][4] <= places:
            piece = waiting.popleft()
            request, at, length, _, cost = piece
            places -= cost
            token += 1
            in_flight[token] = (now, piece)
            if (buffer := request.buffer) is not None:
                buffer.pins += 1
                aio.fill(
                    slot,
                    token,
                    AIO_READ if request.kind == READ else AIO_WRITE,
                    fd,
                    buffer.address + request.start + at,
                    length,
                    request.offset + at,
                    request.durable,
                )
            else:
                aio.fill(slot, token, AIO_FLUSH, fd, 0, 0, 0, False)
            slot += 1
        first_token = self._token + 1
        self._places, self._token = places, token
        if slot:
            self._give_to_kernel(first_token, slot)

    def _give_to_kernel(self, first_token: int, count: int) -> None:
        taken = 0
        while taken < count:
            try:
                taken += self._aio.submit(taken, count - taken)
            except OSError as error:
                # The kernel refuses only the first of what it is given; the rest is tried on.
                refused, number = first_token + taken, -(error.errno or errno.EIO)
                self._loop.post(partial(self._on_result, refused, number))
                taken += 1

    def _start_lanes(self) -> None:
        while self._idle_lanes and self._waiting_for_lane:
            piece = self._waiting_for_lane.popleft()
            request, at, length, _, _ = piece
            self._idle_lanes -= 1
            self._token += 1
            self._in_flight[self._token] = (time.monotonic(), piece)
            if request.buffer is not None:
                request.buffer.pins += 1
            self._lanes.start(self._token, partial(self._device.perform, request, at, length))

    def _on_completions(self) -> None:
        os.eventfd_read(self._eventfd)
        for token, result in self._aio.completions():
            self._on_result(token, result)
        if self._idle_lanes < self._lanes.count:
            for token, result in self._lanes.results():
                self._on_result(token, result)
        if self._waiting or self._waiting_for_lane:
            self._start_waiting()

    def _on_result(self, token: int, result: int) -> None:
        entry = self._in_flight.pop(token, None)
        piece = entry[1] if entry is not None else self._abandoned.pop(token)
        request, _, length, transfer, cost = piece
        if cost:
            self._places += cost
        else:
            self._idle_lanes += 1
        if request.buffer is not None:
            request.buffer.unpin()
        if entry is None:
            self._let_go()
            return
        if transfer is not None or result != length:
            self._settle(piece, result)
        else:
            self._complete(request, None)

    def _settle(self, piece: Piece, result: int) -> None:
        """A piece that came back short or with an error, or one of several."""
        request, at, length, transfer, cost = piece
        error: OSError | None = None
        if 0 <= result < length and request.kind != FLUSH:
            moved = result - result % self.logical_block
            if moved:
                rest = (request, at + moved, length - moved, transfer, cost)
                (self._waiting if cost else self._waiting_for_lane).appendleft(rest)
                self._start_waiting()
                return
            result = -errno.EIO  # the end, where there should be none
        if result < 0:
            number = errno.ENODEV if self._device.was_pulled() else -result
            error = _error(number)
        if transfer is not None:
            transfer.remaining -= 1
            transfer.error = transfer.error or error
            if transfer.remaining:
                return
            error = transfer.error
        self._complete(request, error)
        if error is not None and error.errno in _GONE:
            self._fence(errno.ENODEV)

    def _complete(self, request: DiskRequest, error: OSError | None) -> None:
        request.error = error
        try:
            request.done(request)
        except Exception as bug:
            self._loop.report(bug)

    def _watch_deadline(self) -> None:
        """Fence the disk if its oldest piece is too old, else look again when it would be."""
        self._watch = None
        if not self._in_flight:
            return
        oldest = next(iter(self._in_flight.values()))[0]
        left = oldest + self._deadline - time.monotonic()
        if left <= 0:
            self._fence(errno.ETIMEDOUT)
        else:
            self._watch = self._loop.after(left, self._watch_deadline)

    def _fence(self, number: int) -> None:
        if self._fence_errno:
            return
        self._fence_errno = number
        pieces = [piece for _, piece in self._in_flight.values()]
        self._abandoned.update((token, piece) for token, (_, piece) in self._in_flight.items())
        self._in_flight = {}
        pieces += self._waiting
        pieces += self._waiting_for_lane
        self._waiting.clear()
        self._waiting_for_lane.clear()
        if self._watch is not None:
            self._watch.cancel()
        # Several pieces, one request: each once, in the order of submission.
        self._fail_later(dict.fromkeys(piece[0] for piece in pieces), number)

    def _fail_later(self, requests: Iterable[DiskRequest], number: int) -> None:
        def fail() -> None:
            for request in failed:
                self._complete(request, _error(number))

        failed = list(requests)
        self._loop.post(fail)

    def _let_go(self) -> None:
        """Close what a closed disk has open, once the kernel has given everything back."""
        if self._closing and not self.closed and not self.outstanding:
            self.closed = True
            self._loop.unregister(self._eventfd)
            self._device.close()
            threading.Thread(target=self._bury, daemon=True).start()

    def _bury(self) -> None:
        """What remains to be given back takes the kernel tens of milliseconds."""
        self._lanes.end()
        self._aio.destroy()
        os.close(self._eventfd)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
