"""The way of a write: batch → number → intent → primary ∥ journal → ack → present delta map.

One commit group per volume is in flight while the next gathers
(`commit_group`).  A group goes through `intents`, which make its regions
durable, and on to `legs`, which issue it to both disks and answer the hosts;
`flushes` make that last.  What they share is the `route`: where writes go now.

Here is what comes before a group starts, and what the volume asks of its path.
Write numbers are given in the order of arrival, and groups follow each other.
"""

from collections.abc import Callable
from typing import Final

from appliance.cdp.commit_group import REPAIR, Gathering
from appliance.cdp.dirty_region_log import DirtyRegionLog
from appliance.cdp.flushes import Flushes
from appliance.cdp.intents import Intents
from appliance.cdp.interfaces import Disk, HostRequest, Post
from appliance.cdp.journal import Journal
from appliance.cdp.legs import Legs
from appliance.cdp.memory import BufferPool
from appliance.cdp.policies import Ack
from appliance.cdp.range_locks import RangeLocks
from appliance.cdp.route import Mode, Route, Watcher
from appliance.cdp.tasks import Completion
from appliance.errors import DiskFailed

LAG: Final = 64 << 20
"""Payload that the journal may be behind the primary under PRIMARY."""

# Looking up a member of an enumeration takes a fifth of a microsecond.
_JOURNALING, _PAUSED, _TRACKING = Mode
_BOTH = Ack.BOTH


class WritePath:
    """The writes and flushes of one volume.

    While `mode` is PAUSED, as it is in the beginning, writes gather and nothing starts.
    """

    def __init__(
        self,
        primary: Disk,
        region_log: DirtyRegionLog,
        region_size: int,
        next_write: int,
        group_memory: int,
        align: int,
        post: Post,
        pool: BufferPool,
        next_order: Callable[[], int],
        watcher: Watcher,
    ) -> None:
        self.primary = primary
        self.reserve = 0
        """Segments that host writes leave alone."""
        self.next_write = next_write
        self._post = post
        self._route = route = Route(primary, watcher)
        self._gathering = Gathering(
            pool, group_memory, align, region_size, region_log.capacity // 2
        )
        self._flushes = Flushes(route, post, next_write - 1, lambda: self._legs.completed_write)
        self._legs = Legs(route, self._flushes, next_write - 1, next_order, self.wake)
        self._intents = Intents(
            region_log,
            region_size,
            route,
            self._flushes,
            self._legs,
            post,
            lambda: self.next_write,
            self.wake,
        )
        self._region_size = region_size
        self._posted = False
        self._rested: Completion[None] | None = None
        """Somebody waits for a rest, as soon as no write is half journaled."""
        self._at_rest = False
        self._locks = RangeLocks()
        self._drained: list[Completion[None]] = []

    @property
    def mode(self) -> Mode:
        return self._route.mode

    @property
    def journal(self) -> Journal | None:
        """Where writes go, besides the primary."""
        return self._route.journal

    @property
    def ack(self) -> Ack:
        return self._route.ack

    @ack.setter
    def ack(self, ack: Ack) -> None:
        self._route.ack = ack

    @property
    def completed_write(self) -> int:
        """Everything up to here is complete on both legs."""
        return self._legs.completed_write

    @property
    def waiting(self) -> int:
        """Writes of hosts that have a number and no answer yet."""
        return self._legs.waiting

    def write(self, request: HostRequest, inside_lock: bool = False) -> None:
        """Take a WRITE, ZERO or REPAIR; its data is copied before this returns.

        `inside_lock`: from whoever holds the lock of these bytes.
        """
        if inside_lock:
            assert self._locks.covers(request), "what is read and written under a lock is locked"
        elif self._locks.locked and self._locks.holds_back(request):
            return
        request.number = number = self.next_write
        self.next_write = number + 1
        if request.kind != REPAIR:
            self._legs.waiting += 1
        self._gathering.add(request)
        if not self._posted:
            self._posted = True
            self._post.post(self._start_next)

    # Starting: one group at a time

    def wake(self) -> None:
        """Look in this turn whether a group can start."""
        if not self._posted:
            self._posted = True
            self._post.post(self._start_next)

    def _start_next(self) -> None:
        self._posted = False
        if self._rested is not None:
            self._rest_if_between_writes(self._rested)
        intents, legs, route = self._intents, self._legs, self._route
        intents.write_promised()
        if self._drained:
            self._tell_drained()
        if route.mode is _PAUSED or intents.busy:
            return
        if not self._gathering.groups or legs.unanswered:
            return
        group = self._gathering.close_oldest()
        if route.mode is _JOURNALING:
            assert route.journal is not None
            if legs.lag > LAG:
                legs.hold_back(True)
                return  # goes on when a journal leg completes
            legs.hold_back(False)
            if not route.journal.has_room(group.payload, self.reserve):
                route.mode = _PAUSED
                route.watcher.no_room()
                return
        self._gathering.take()
        intents.start(group)

    # Flushing

    def flush_request(self, request: HostRequest) -> None:
        """A host's FLUSH: everything acknowledged before is durable, as the policy means it."""
        self._flushes.answer(request, self._route.ack is _BOTH)

    async def flush_both(self) -> None:
        """Make everything complete on both disks durable, whatever the policy.

        A secondary that fails is lost, and its volume is tracking by the return.  DiskFailed if
        the primary does not flush.
        """
        flushed: Completion[bool] = Completion()
        self._flushes.flush_both(flushed.succeed)
        if not await flushed:
            raise DiskFailed(disk=self.primary.identity.id, reason="its flush failed")

    def flush_primary(self) -> Completion[bool]:
        """Make what the primary was given durable; hosts are told if that fails."""
        flushed: Completion[bool] = Completion()
        self._flushes.flush(False, flushed.succeed)
        return flushed

    # Pausing

    def pause(self) -> None:
        """Start no further group."""
        self._route.mode = _PAUSED

    def resume(self) -> None:
        """Go on journaling: there is room again.  A lost secondary keeps it paused."""
        if not self._route.journals or self._at_rest:
            return
        self._route.mode = _JOURNALING
        self.wake()

    def rest(self) -> Completion[None]:
        """Finishes PAUSED between two writes, with nothing in flight; `end_rest` in the end."""
        self._rested = Completion()
        self.wake()
        return self._rested

    def _rest_if_between_writes(self, rested: Completion[None]) -> None:
        newest, route = self._intents.starting, self._route
        if newest.mid_write if newest else route.journal is not None and route.journal.mid_write:
            return
        if route.mode is _JOURNALING:
            route.mode = _PAUSED
        if not (self._intents.busy or self._legs.groups):
            self._rested = None
            self._at_rest = True
            rested.succeed(None)

    def end_rest(self) -> None:
        """Go on, though the rest may not have begun; idempotent."""
        self._rested = None
        self._at_rest = False
        self.resume()

    def drain(self) -> Completion[None]:
        """Finishes when nothing is in flight; while PAUSED, what has gathered stays."""
        completion: Completion[None] = Completion()
        self._drained.append(completion)
        self.wake()
        return completion

    def _tell_drained(self) -> None:
        waiting = self._gathering.groups and self._route.mode is not _PAUSED
        if not (waiting or self._intents.busy or self._legs.groups):
            drained, self._drained = self._drained, []
            for completion in drained:
                completion.succeed(None)

    # With the secondary, and without

    def start_journaling(self, secondary: Disk, journal: Journal) -> None:
        """Both legs from now on; the path is PAUSED or TRACKING, and drained."""
        self._route.secondary, self._route.journal = secondary, journal
        self._flushes.stable_write = self._legs.completed_write
        self._route.mode = _JOURNALING
        self.wake()

    def lose_secondary(self, error: OSError) -> None:
        """The secondary failed, as somebody else has noticed."""
        self._route.lose_secondary(error)

    def track(self) -> None:
        """Go on without the secondary; everything unsettled is durably marked out of sync."""
        self._leave_secondary(_TRACKING)
        self._at_rest = False
        self._rested = None  # whoever waits for it is interrupted
        self._flushes.release_held(True)
        self._legs.go_on_without_journal()
        self._intents.start_again()
        self.wake()

    def abandon(self) -> None:
        """The primary is lost: everything that has not been issued fails, and all that comes."""
        self._leave_secondary(_PAUSED)
        self._intents.abandon()
        while self._gathering.groups:
            self._gathering.close_oldest()
            self._legs.refuse(self._gathering.take())
        self._legs.abandon()
        self._flushes.release_held(False)
        self._locks.refuse_all()

    def _leave_secondary(self, mode: Mode) -> None:
        route = self._route
        route.mode, route.lost = mode, False
        route.journal = route.secondary = None

    # The intent log

    def retire(self, keep: int = 0) -> Completion[None]:
        """Flush both disks and drop the intents that this settles; write that down if idle."""
        return self._intents.retire(
            keep, lambda: not self._legs.groups and not self._gathering.groups
        )

    async def promise(self, write: int) -> None:
        """See `Intents.promise`."""
        await self._intents.promise(write)

    async def write_slot(self) -> None:
        """Make the log's slot durable as it stands; DiskFailed if the primary does not take it.

        For whoever keeps the hosts away meanwhile: it waits until nothing is in flight.
        """
        while self._intents.busy:
            await self.drain()
        await self._intents.write_slot()

    # Some bytes

    def writes_to(self, offset: int, length: int) -> bool:
        """Is a write to any of these bytes under way, on whatever leg?"""
        starting = [self._intents.starting] if self._intents.starting is not None else []
        return any(
            first < offset + length and offset < first + size
            for group in (*self._legs.groups, *starting, *self._gathering.groups)
            for _, _, first, size, _ in group.pieces
        )

    def unsettled_regions(self) -> set[int]:
        """Regions of writes that are not complete on both disks."""
        groups = self._legs.groups
        return {region for group in groups for region in group.regions(self._region_size)}

    async def settled(self, write: int) -> None:
        """Wait until a write, and all before it, are complete on both disks."""
        await self._legs.settled(write)

    async def lock(self, offset: int, length: int) -> None:
        """Host writes to these bytes wait from now on; those under way are over on return."""
        self._locks.lock(offset, length)
        try:
            await self.settled(self.next_write - 1)
        except BaseException:
            self.unlock(offset, length)
            raise

    def unlock(self, offset: int, length: int) -> None:
        """The writes that waited go on, in their order."""
        self._locks.unlock(offset, length, self.write)
