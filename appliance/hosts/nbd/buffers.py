"""What a session received and has not parsed, and what it has not sent."""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

from appliance.cdp.interfaces import HostRequest
from appliance.cdp.memory import BufferPool
from appliance.hosts.nbd.budget import Account

RING: Final = 256 << 10
CHUNKS_AT_ONCE: Final = 128
"""Buffers given to one send; the kernel takes 1024 at most."""
MAX_BACKLOG: Final = 8 << 20
"""Bytes to send from which on nothing more is parsed."""

Chunk = bytes | bytearray | memoryview


class Inbox:
    """Received bytes: `view[start:end]` is to be parsed in place.

    What stays unparsed between two calls of `space` must fit into half the ring.
    """

    __slots__ = ("view", "start", "end", "_buffer", "_skip", "_then")

    def __init__(self, pool: BufferPool) -> None:
        self._buffer = pool.get(RING)
        self.view = self._buffer.view
        self.start = self.end = 0
        self._skip = 0
        self._then: Callable[[], None] | None = None

    def space(self) -> memoryview:
        """Where to receive: at least half the ring."""
        start, end = self.start, self.end
        if start == end:
            self.start = self.end = 0
            return self.view
        if start and end > RING // 2:
            self.view[: end - start] = self.view[start:end]
            self.start, self.end = 0, end - start
        return self.view[self.end :]

    def skip(self, length: int, then: Callable[[], None]) -> None:
        """Drop the next `length` bytes, as they arrive, and call `then` after them."""
        self._skip, self._then = length, then

    def skipped(self) -> bool:
        """Go on with skipping; True if there is none left to do."""
        if self._then is None:
            return True
        count = min(self._skip, self.end - self.start)
        self.start += count
        self._skip -= count
        if self._skip:
            return False
        then, self._then = self._then, None
        then()
        return True

    def release(self) -> None:
        """Nothing is received any more; call once."""
        self.start = self.end = 0
        self.view = memoryview(b"")
        self._buffer.release()


class Outbox:
    """Bytes to send, and the READs whose answers are among them.

    `tail` takes short replies; `rouse` is to be called after adding to it.  It
    calls `wake`, at most once until `output` was called.
    """

    __slots__ = ("tail", "awake", "_queue", "_queued", "_account", "_wake")

    def __init__(self, account: Account, wake: Callable[[], None]) -> None:
        self.tail = bytearray()
        self.awake = False
        self._queue: deque[tuple[Chunk, HostRequest | None]] = deque()
        self._queued = 0
        self._account = account
        self._wake = wake

    @property
    def empty(self) -> bool:
        return not (self._queue or self.tail)

    @property
    def backlogged(self) -> bool:
        """The host does not take its answers fast enough to be asked for more."""
        return self._queued + len(self.tail) > MAX_BACKLOG

    def rouse(self) -> None:
        if not self.awake:
            self.awake = True
            self._wake()

    def say(self, data: bytes) -> None:
        self.tail += data
        self.rouse()

    def add_answer(self, request: HostRequest) -> None:
        """Send the answer of a READ behind the tail, from where it lies."""
        self._queue_tail()
        self._queue.append((request.answer(), request))
        self._queued += request.length

    def output(self) -> list[Chunk]:
        """What to send next, in order; the buffers stay unchanged until `sent`."""
        self.awake = False
        if self.tail:
            self._queue_tail()
        return [chunk for chunk, _ in islice(self._queue, CHUNKS_AT_ONCE)]

    def sent(self, count: int) -> None:
        """`count` bytes of `output()` have left."""
        self._queued -= count
        queue = self._queue
        while count:
            chunk, request = queue[0]
            if count < len(chunk):
                queue[0] = (memoryview(chunk)[count:], request)
                break
            count -= len(chunk)
            queue.popleft()
            if request is not None:
                self._release(request)

    def clear(self) -> None:
        """Nothing will be sent any more."""
        self.tail.clear()
        queue, self._queue = self._queue, deque()
        self._queued = 0
        for _, request in queue:
            if request is not None:
                self._release(request)

    def _release(self, request: HostRequest) -> None:
        request.release()
        self._account.give_back(request.length)

    def _queue_tail(self) -> None:
        self._queue.append((self.tail, None))
        self._queued += len(self.tail)
        self.tail = bytearray()
