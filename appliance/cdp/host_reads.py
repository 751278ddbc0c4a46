"""The way of a host's read: from the primary, and from the secondary where that does not answer.

An error is turned to the secondary at once.  Silence is, after PATIENCE: a
primary that has answered no read at all for so long may come back or be
fenced later; a host that only reads need not wait for either.

Invariants:

* A request is answered once, by whoever of the two is first.
* The memory that the primary was given is the primary's until it has answered,
  however late: it may still be waiting for its turn, and not be pinned yet.
* The secondary is asked only for what no write is on its way to: one that is
  may be on the primary already, and read there.  So no block answers old after
  it has answered new.
"""

from collections.abc import Awaitable, Callable, Coroutine
from errno import EIO
from typing import Any, Final

from appliance.cdp.interfaces import READ, Disk, DiskRequest, HostRequest, Post
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.tasks import Task

PATIENCE: Final = 0.5
"""Seconds without any answer to a read until the secondary is asked; at most twice as many pass."""


async def _nowhere(_offset: int, _length: int) -> Buffer | None:
    return None


class HostReads:
    """The reads of one volume.  `rescue` and `elsewhere` bring bytes from the secondary, or None:
    after an error of the primary, and while it is silent."""

    def __init__(self, primary: Disk, post: Post, pool: BufferPool) -> None:
        self.rescue: Callable[[int, int], Awaitable[Buffer | None]] = _nowhere
        self.elsewhere: Callable[[int, int], Awaitable[Buffer | None]] = _nowhere
        self._primary = primary
        self._post = post
        self._pool = pool
        self._gathered: list[DiskRequest] = []
        self._waiting: dict[DiskRequest, bool] = {}
        """What the primary owes hosts, oldest first; whether the secondary is being asked."""
        self._overdue: list[DiskRequest] = []
        """What it owed at the last look."""
        self._late = 0
        """Answers of the primary that nobody waits for any more."""
        self._heard = False
        self._watching = False

    @property
    def busy(self) -> bool:
        """Does a host wait for the primary right now?"""
        return bool(self._waiting)

    def read(self, request: HostRequest) -> None:
        """Take an aligned READ; answered in a later turn."""
        if self._late:
            self._post.post(lambda: self._start(self._read_elsewhere(request)))
        else:
            self._ask_primary(request)

    def read_without_primary(self, request: HostRequest) -> None:
        """The same where the primary answers nothing but errors."""
        self._post.post(lambda: self._start(self._rescue(request)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        Task(work)

    def _ask_primary(self, request: HostRequest) -> None:
        request.buffer = buffer = self._pool.get(request.length)
        if not self._gathered:
            self._post.post(self._submit)
        self._gathered.append(
            DiskRequest(READ, request.offset, request.length, buffer, 0, self._done, owner=request)
        )

    def _submit(self) -> None:
        reads, self._gathered = self._gathered, []
        for leg in reads:
            self._waiting[leg] = False
        self._primary.submit(reads)
        if not self._watching:
            self._watching = True
            self._post.after(PATIENCE, self._look)

    def _done(self, leg: DiskRequest) -> None:
        self._heard = True
        request = leg.owner
        assert isinstance(request, HostRequest)
        if self._waiting.pop(leg, None) is None:
            self._late -= 1
            assert leg.buffer is not None
            leg.buffer.release()
        elif leg.error is not None:
            request.release()
            Task(self._rescue(request))
        else:
            request.done(request)

    async def _rescue(self, request: HostRequest) -> None:
        """The primary does not give it: the secondary does, where the two are in sync."""
        request.buffer = await self.rescue(request.offset, request.length)
        if request.buffer is None:
            request.error = EIO
        request.done(request)

    # While the primary is silent

    def _look(self) -> None:
        """Time has passed: ask the secondary for what has been owed since the last look."""
        if not self._heard:
            for leg in self._overdue:
                if self._waiting.get(leg) is False:
                    self._waiting[leg] = True
                    Task(self._pass_over(leg))
        self._heard = False
        self._overdue = list(self._waiting)
        self._watching = bool(self._waiting)
        if self._watching:
            self._post.after(PATIENCE, self._look)

    async def _pass_over(self, leg: DiskRequest) -> None:
        request = leg.owner
        assert isinstance(request, HostRequest)
        buffer = await self.elsewhere(request.offset, request.length)
        if buffer is None:
            if leg in self._waiting:
                self._waiting[leg] = False
        elif self._waiting.pop(leg, None) is None:
            buffer.release()  # the primary was faster
        else:
            self._late += 1
            request.buffer = buffer
            request.done(request)

    async def _read_elsewhere(self, request: HostRequest) -> None:
        request.buffer = await self.elsewhere(request.offset, request.length)
        if request.buffer is None:
            self._ask_primary(request)
        else:
            request.done(request)
