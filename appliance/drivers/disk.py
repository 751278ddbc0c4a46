"""A raw disk, driven from the loop without ever waiting for it.

Reads, writes and flushes go through kernel AIO, with those of the other disks
on the loop; what kernel AIO has not (zeroing, discarding, and everything on a
file system that refuses direct I/O) goes through lanes, a few threads of this
disk's own.

Invariants:

* A request is split into pieces of at most four mebibytes.  A piece waits in the
  driver's own queue until the kernel can take it at once: io_submit would
  otherwise wait, and the whole loop with it.
* A piece's memory is pinned from `submit` until the kernel has given it back, also while it waits
  in the queue: who has asked for it may have lost interest.
* Every piece that the kernel has is in `_in_flight`, oldest first, or, after a
  fence, in `_abandoned`.
* A request completes when its last piece has, or at the fence, never twice: the
  fence moves all pieces to `_abandoned`, where completions only unpin.
* Requests are completed from the loop, never from inside `submit` or `close`.
"""

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Self

from appliance.cdp.interfaces import FLUSH, READ, DiskIdentity, DiskRequest, Timer
from appliance.drivers.device import Device, open_device
from appliance.drivers.kernel_aio import FLUSH as AIO_FLUSH
from appliance.drivers.kernel_aio import READ as AIO_READ
from appliance.drivers.kernel_aio import WRITE as AIO_WRITE
from appliance.drivers.kernel_aio import Batch
from appliance.drivers.kernel_queue import KernelQueue
from appliance.drivers.lane import Lanes
from appliance.errors import DiskFailed

DEADLINE: Final = 30.0
"""Seconds after which a disk that has not answered is taken for hung."""
LARGEST_PIECE: Final = 4 << 20
"""Each costs a completion to be told of."""
LARGEST_BIO: Final = 1 << 20
"""What the kernel hands down at once where pages are scattered: it cuts each of these by itself."""
SHARE: Final = 8
"""A piece above LARGEST_BIO takes about an eighth of the queue at most: until so many places are
free, all that comes behind it waits."""
LARGEST_LANE_PIECE: Final = 64 << 20
"""Zeroing is cheap or slow; in either case a piece of this size stays far from the deadline."""
RECENT_SECONDS: Final = 60.0
LANES: Final = 2
LANES_IF_BUFFERED: Final = 8

_GONE: Final = (errno.ENODEV, errno.ENXIO)


class _Transfer:
    """A request of several pieces: how many are not back yet, and the first error."""

    __slots__ = ("remaining", "error")

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining
        self.error: OSError | None = None


class _Given(NamedTuple):
    """When a lane was given its piece (monotonic seconds)."""

    given: float


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
        queue: KernelQueue,
        deadline: float = DEADLINE,
        logical_block: int = 512,
        read_only: bool = False,
    ) -> Self:
        """The disk at `path`, ours alone until closed; may wait for it.

        `logical_block` is for regular files.  Writes to a `read_only` disk
        fail.  Raises DiskNotFound, DiskInUse or DiskFailed.
        """
        device = open_device(Path(path), identity.id, logical_block, read_only)
        return cls(device, identity, queue, deadline)

    def __init__(
        self,
        device: Device,
        identity: DiskIdentity,
        queue: KernelQueue,
        deadline: float = DEADLINE,
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
        self._queue = queue
        self._loop = queue.loop
        self._deadline = deadline
        self._places = device.queue_depth
        self._largest_request = min(device.largest_request, LARGEST_BIO)
        most = min(LARGEST_PIECE, device.queue_depth // SHARE * self._largest_request)
        whole = device.queue_depth * self._largest_request
        self._largest_piece = min(max(most, LARGEST_BIO), whole)
        self._largest_whole = min(self._largest_request, self._largest_piece)
        """Of a request that takes one place in the kernel's queue."""
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Tells of the lanes' results."""
        try:
            self._first_token = queue.join(device.queue_depth, self._on_result)
        except OSError as error:
            device.close()
            os.close(self._eventfd)
            raise DiskFailed(disk=identity.id, reason=f"no kernel AIO: {error}") from error
        self._lanes = Lanes(
            f"disk {identity.id}", LANES if device.direct else LANES_IF_BUFFERED, self._eventfd
        )
        self._idle_lanes = self._lanes.count
        self._token = self._first_token
        self._in_flight: dict[int, tuple[Batch | _Given, Piece]] = {}
        """By token, oldest first."""
        self._abandoned: dict[int, Piece] = {}
        self._waiting: deque[Piece] = deque()
        self._waiting_for_lane: deque[Piece] = deque()
        self._watch: Timer | None = None
        self._fence_errno = 0
        self._fault: tuple[float, str] | None = None
        """When (monotonic seconds) it last answered with an error, and with which."""
        self._closing = False
        self._loop.register(self._eventfd, self._on_lane_results)

    @property
    def fenced(self) -> bool:
        return self._fence_errno != 0

    @property
    def silent(self) -> bool:
        """Was it fenced because it did not answer before its deadline?"""
        return self._fence_errno == errno.ETIMEDOUT

    @property
    def fault(self) -> str:
        """In words, the error that it answered with not long ago; nothing if there was none."""
        if self._fault is None or time.monotonic() - self._fault[0] > RECENT_SECONDS:
            return ""
        return self._fault[1]

    @property
    def outstanding(self) -> int:
        """Pieces of requests that the kernel, or a lane, still has."""
        return len(self._in_flight) + len(self._abandoned)

    @property
    def oldest(self) -> int | None:
        """A number for the oldest piece that has neither completed nor been given up; None if there
        is none.  No other piece of any disk of this queue ever has it."""
        waiting = self._waiting or self._waiting_for_lane
        return next(iter(self._in_flight), self._token + 1 if waiting else None)

    def submit(self, requests: Sequence[DiskRequest]) -> None:
        if self._fence_errno:
            self._fail_later(requests, self._fence_errno)
            return
        direct, largest, waiting = self.direct, self._largest_whole, self._waiting
        for request in requests:
            length = request.length
            if request.offset + length > self.size:
                self._fail_later([request], errno.EINVAL)
            elif direct and length <= largest and request.kind <= FLUSH:
                waiting.append((request, 0, length, None, 1))
                if request.buffer is not None:
                    request.buffer.pins += 1
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
            cost = 0 if through_lane else self._places_for(size)
            waiting.append((request, at, size, transfer, cost))
        if request.buffer is not None:
            request.buffer.pins += count

    def _places_for(self, size: int) -> int:
        """How many requests the kernel may make of so many bytes."""
        whole, rest = divmod(size, LARGEST_BIO)
        largest = self._largest_request
        return whole * -(-LARGEST_BIO // largest) + -(-rest // largest)

    def _start_waiting(self) -> None:
        """Give the kernel and the lanes what they can take without waiting."""
        if self._waiting_for_lane:
            self._start_lanes()
        waiting = self._waiting
        if not waiting or waiting[0][4] > self._places:
            return
        batch = self._queue.batch()
        add, fd, in_flight = batch.add, self._device.fd, self._in_flight
        places, token = self._places, self._token
        while waiting and waiting[0][4] <= places:
            piece = waiting.popleft()
            request, at, length, _, cost = piece
            places -= cost
            token += 1
            in_flight[token] = (batch, piece)
            if (buffer := request.buffer) is not None:
                opcode = AIO_READ if request.kind == READ else AIO_WRITE
                address = buffer.address + request.start + at
                add(token, opcode, fd, address, length, request.offset + at, request.durable)
            else:
                add(token, AIO_FLUSH, fd, 0, 0, 0, False)
        self._places, self._token = places, token
        self._queue.added(batch)

    def _start_lanes(self) -> None:
        while self._idle_lanes and self._waiting_for_lane:
            piece = self._waiting_for_lane.popleft()
            request, at, length, _, _ = piece
            self._idle_lanes -= 1
            self._token += 1
            self._in_flight[self._token] = (_Given(time.monotonic()), piece)
            self._lanes.start(self._token, partial(self._device.perform, request, at, length))

    def _on_lane_results(self) -> None:
        os.eventfd_read(self._eventfd)
        for token, result in self._lanes.results():
            self._on_result(token, result)

    def _on_result(self, token: int, result: int) -> None:
        entry = self._in_flight.pop(token, None)
        piece = entry[1] if entry is not None else self._abandoned.pop(token)
        request, _, length, transfer, cost = piece
        if cost:
            self._places += cost
        else:
            self._idle_lanes += 1
        if entry is None:
            _unpin(request)
            self._let_go()
            return
        if transfer is None and result == length:
            if request.buffer is not None:
                request.buffer.unpin()
            try:
                request.done(request)
            except Exception as bug:
                self._loop.report(bug)
        else:
            self._settle(piece, result)
        if self._waiting or self._waiting_for_lane:
            self._start_waiting()

    def _settle(self, piece: Piece, result: int) -> None:
        """A piece that came back short or with an error, or one of several."""
        request, at, length, transfer, cost = piece
        error: OSError | None = None
        if 0 <= result < length and request.kind != FLUSH:
            moved = result - result % self.logical_block
            if moved:
                rest = (request, at + moved, length - moved, transfer, cost)
                (self._waiting if cost else self._waiting_for_lane).appendleft(rest)
                return
            result = -errno.EIO  # the end, where there should be none
        _unpin(request)
        if result < 0:
            number = errno.ENODEV if self._device.was_pulled() else -result
            error = _error(number)
            if number not in _GONE:
                self._fault = time.monotonic(), os.strerror(number)
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

    def _watch_deadline(self, overdue: int | None = None) -> None:
        """Fence the disk if its oldest piece is too old, else look again when it would be.

        One that seems too old has another turn, in which completions come first: it may be this
        process that was late.  `overdue` is the token of the one that has had it.
        """
        self._watch = None
        if not self._in_flight:
            return
        token, (oldest, _) = next(iter(self._in_flight.items()))
        left = min(oldest.given - time.monotonic(), 0) + self._deadline
        if left > 0:
            self._watch = self._loop.after(left, self._watch_deadline)
        elif token != overdue:
            self._watch = self._loop.after(0, partial(self._watch_deadline, token))
        else:
            self._fence(errno.ETIMEDOUT)

    def _fence(self, number: int) -> None:
        if self._fence_errno:
            return
        self._fence_errno = number
        pieces = [piece for _, piece in self._in_flight.values()]
        for request, *_ in (*self._waiting, *self._waiting_for_lane):
            _unpin(request)
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
            self._queue.leave(self._first_token)
            threading.Thread(target=self._bury, daemon=True).start()

    def _bury(self) -> None:
        """A thread of a lane may take a moment to go."""
        self._lanes.end()
        os.close(self._eventfd)


def _unpin(request: DiskRequest) -> None:
    if request.buffer is not None:
        request.buffer.unpin()


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
