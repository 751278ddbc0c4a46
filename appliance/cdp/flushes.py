"""Flushes of one volume: who waits for which, and what a failed one means.

Invariants:

* A flush answers for what had completed on both disks when it was submitted,
  and `stable_write` rises to that only if both disks took it.
* While one flush is under way the next gathers everyone who asks.
* After a failed flush of the primary every connection's next FLUSH fails, and so
  does whoever had asked by then: the disk may have dropped what they ask for, and
  the next flush would succeed without it.
* After a failed flush of the journal the answer waits until tracking is
  durable, and is good then: the primary has it.
"""

from collections.abc import Callable
from errno import EIO

from appliance.cdp.interfaces import FLUSH, Disk, DiskRequest, HostRequest, Post
from appliance.cdp.route import Route

Waiter = Callable[[bool], None]


class _Flush:
    """A flush under way."""

    __slots__ = ("waiters", "covers", "disks", "pending", "primary_failed", "journal_failed")

    def __init__(self, waiters: list[Waiter], covers: int, disks: int) -> None:
        self.waiters = waiters
        self.covers = covers
        self.disks = self.pending = disks
        self.primary_failed = False
        self.journal_failed = False


class Flushes:
    """`completed_write` tells up to where both legs are complete."""

    def __init__(
        self,
        route: Route,
        post: Post,
        stable_write: int,
        completed_write: Callable[[], int],
    ) -> None:
        self.stable_write = stable_write
        """Everything up to here is on both media."""
        self._route = route
        self._post = post
        self._completed_write = completed_write
        self._flushing = False
        self._waiters: list[Waiter] = []
        self._also_journal = False
        """One of those who wait needs the journal flushed too."""
        self._held: list[Waiter] = []
        self.failures = 0
        """Flushes of the primary that failed."""
        self._told: dict[object, int] = {}

    def answer(self, request: HostRequest, also_journal: bool) -> None:
        """A host's FLUSH."""
        if self.failures > self._told.get(request.host, 0):
            self._told[request.host] = self.failures
            self._post.post(lambda: finish([request], False))
        else:
            self.flush(also_journal, lambda ok: self._answered(request, ok))

    def _answered(self, request: HostRequest, ok: bool) -> None:
        if not ok:
            self._told[request.host] = self.failures
        finish([request], ok)

    def flush(self, also_journal: bool, done: Waiter) -> None:
        """Make what is complete durable, on the primary or on both disks."""
        self._waiters.append(done)
        self._also_journal |= also_journal
        if not self._flushing:
            self._submit()

    def flush_both(self, done: Waiter) -> None:
        """Make what is complete on both disks durable, whatever the policy."""
        self.flush(True, done)

    def release_held(self, ok: bool) -> None:
        """Tracking is durable (`ok`), or the primary is lost too."""
        held, self._held = self._held, []
        for waiter in held:
            waiter(ok)

    def _submit(self) -> None:
        waiters, self._waiters = self._waiters, []
        also_journal, self._also_journal = self._also_journal, False
        disks = [self._route.primary]
        if also_journal and self._route.secondary is not None:
            disks.append(self._route.secondary)
        flush = _Flush(waiters, self._completed_write(), len(disks))
        self._flushing = True
        for disk in disks:
            disk.submit([DiskRequest(FLUSH, 0, 0, None, 0, self._flushed, owner=(flush, disk))])

    def _flushed(self, request: DiskRequest) -> None:
        owner = request.owner
        assert isinstance(owner, tuple)
        flush, disk = owner
        flush.pending -= 1
        if request.error is not None:
            self._failed(flush, disk, request.error)
        if flush.pending:
            return
        self._flushing = False
        if flush.primary_failed:
            flush.waiters += self._waiters
            self._waiters = []
        if flush.disks == 2 and not flush.primary_failed and not flush.journal_failed:
            self.stable_write = max(self.stable_write, flush.covers)
        if self._waiters:
            self._submit()
        if flush.journal_failed and not flush.primary_failed and self._route.lost:
            self._held += flush.waiters
            return
        for waiter in flush.waiters:
            waiter(not flush.primary_failed)

    def _failed(self, flush: _Flush, disk: Disk, error: OSError) -> None:
        if disk is self._route.primary:
            flush.primary_failed = True
            self.failures += 1
            self._route.watcher.primary_failed(error, 0, 0)
        else:
            flush.journal_failed = True
            self._route.lose_secondary(error)


def finish(requests: list[HostRequest], ok: bool) -> None:
    """Answer requests that waited for a flush."""
    for request in requests:
        if not ok:
            request.error = EIO
        request.done(request)
