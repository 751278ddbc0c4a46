"""The way of a write: batch → number → intent → primary ∥ journal → ack → present delta map.

One commit group per volume is in flight while the next gathers
(`commit_group`); both legs of a group are issued at once.

Invariants (DESIGN.md section 4), and where they are held:

* Intent first: `_issue` runs only when the intent of every region of the group
  is durable (`_start`).
* One order: write numbers are given in the order of arrival; of two overlapping
  writes of a group the later one is issued to the primary in a later wave
  (`commit_group.waves`), and groups follow each other.
* Retire late: `completed_write` advances only when both legs of everything up
  to it have completed; `stable_write` only to what was completed when a flush
  of both disks was submitted (`flushes`).  Intents retire by `stable_write`.
* Acknowledge by policy: under BOTH after both legs; under PRIMARY after the
  primary's, while the journal lags in bounded memory.  What a lost secondary
  still owed is acknowledged only after tracking is durable (`track`).
"""

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from errno import EIO
from typing import Final

from appliance.cdp.commit_group import REPAIR, Gathering, Group, waves
from appliance.cdp.dirty_region_log import CEILING_STEP, DirtyRegionLog
from appliance.cdp.flushes import Flushes, finish
from appliance.cdp.interfaces import WRITE, ZERO, Disk, DiskRequest, HostRequest, Post
from appliance.cdp.journal import HEADROOM, Journal
from appliance.cdp.memory import BufferPool
from appliance.cdp.policies import Ack
from appliance.cdp.range_locks import RangeLocks
from appliance.cdp.tasks import Completion, Task
from appliance.errors import DiskFailed, EbbtideError

LAG: Final = 64 << 20
"""Payload that the journal may be behind the primary under PRIMARY."""
LAG_SECONDS: Final = 0.001
"""Until a group looks again whether what lags has set its intents free."""


class Mode(IntEnum):
    """Where writes go."""

    JOURNALING = 0
    PAUSED = 1
    """Nothing starts: tracking is being made durable, or the journal has no room."""
    TRACKING = 2
    """To the primary only; the regions are marked out of sync first."""


# Looking up a member of an enumeration takes a fifth of a microsecond.
_BOTH, _PRIMARY = Ack
_JOURNALING, _PAUSED, _TRACKING = Mode


class WritePath:
    """The writes and flushes of one volume.

    The volume sets the `on_…` hooks and answers them with `track`, `resume`
    and `retire`.  While `mode` is PAUSED, writes gather and nothing starts.
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
    ) -> None:
        self.primary = primary
        self.secondary: Disk | None = None
        self.journal: Journal | None = None
        self.mode = _PAUSED
        self.ack = _BOTH
        self.reserve = 0
        """Segments that host writes leave alone."""
        self.next_write = next_write
        self.waiting = 0
        """Writes that have a number and no answer yet, but for the appliance's own repairs."""
        self.completed_write = next_write - 1
        self.on_secondary_error: Callable[[OSError], None] = lambda error: None
        self.on_primary_error: Callable[[OSError, int, int], None] = lambda error, at, size: None
        """Error, and the bytes concerned; none where it is not about data."""
        self.on_no_room: Callable[[], None] = lambda: None
        self.on_crowded: Callable[[], None] = lambda: None
        self.on_held_back: Callable[[bool], None] = lambda held: None
        """Writes begin to wait for nothing but what lags under PRIMARY; or they go on."""
        self._log = region_log
        self._region_size = region_size
        self._post = post
        self._next_order = next_order
        self._gathering = Gathering(
            pool, group_memory, align, region_size, region_log.capacity // 2
        )
        self._starting: Group | None = None
        """Its intent is being made durable, or it waits for track()."""
        self._issued: deque[Group] = deque()
        """Issued and not complete on both legs, in order."""
        self._cut_write: int | None = None
        """While the last group issued ends in the middle of a write: its `failed_flushes`."""
        self._lag = 0
        self._held_back = False
        """As `on_held_back` was told last."""
        self._lost = False
        """The secondary has failed, and tracking is not durable yet."""
        self._posted = False
        self._retiring = False
        self._rested: Completion[None] | None = None
        """Somebody waits for a rest, as soon as no write is half journaled."""
        self._at_rest = False
        self._locks = RangeLocks()
        self._drained: list[Completion[None]] = []
        self._promised: list[Completion[OSError | None]] = []
        """Who waits for a slot, which is written between two groups."""
        self._barriers: list[tuple[int, Completion[None]]] = []
        """What waits for all writes up to a number to be complete on both legs."""
        self._flushes = Flushes(
            primary,
            post,
            next_write - 1,
            lambda: self.completed_write,
            lambda: None if self.mode is _TRACKING else self.secondary,
            lambda: self._lost,
            lambda error: self.on_primary_error(error, 0, 0),
            self.lose_secondary,
        )

    @property
    def stable_write(self) -> int:
        """Everything up to here is on both media."""
        return self._flushes.stable_write

    def write(self, request: HostRequest, inside_lock: bool = False) -> None:
        """Take a WRITE, ZERO or REPAIR; its data is copied before this returns.

        `inside_lock`: from whoever holds the lock of these bytes.
        """
        if self._locks.locked and not inside_lock and self._locks.holds_back(request):
            return
        request.number = number = self.next_write
        self.next_write = number + 1
        if request.kind != REPAIR:
            self.waiting += 1
        self._gathering.add(request)
        if not self._posted:
            self._posted = True
            self._post.post(self._start_next)

    # Starting: one group at a time

    def _start_next(self) -> None:
        self._posted = False
        if self._rested is not None:
            self._rest_if_between_writes(self._rested)
        if self._promised and self._starting is None and not self._retiring:
            self._write_promised()
        if self._drained:
            self._tell_drained()
        if self.mode is _PAUSED or self._starting is not None or self._retiring:
            return
        if not self._gathering.groups or (self._issued and not self._issued[-1].acknowledged):
            return
        group = self._gathering.close_oldest()
        if self.mode is _JOURNALING:
            assert self.journal is not None
            if self._lag > LAG:
                self._hold_back(True)
                return  # goes on when a journal leg completes
            self._hold_back(False)
            if not self.journal.has_room(group.payload, self.reserve):
                self.mode = _PAUSED
                self.on_no_room()
                return
        self._gathering.take()
        self._starting = group
        self._start(group)

    def _start(self, group: Group) -> None:
        """Make the intent durable, or the regions known as out of sync; then issue."""
        if self.next_write + CEILING_STEP // 2 > self._log.ceiling:
            self._log.ceiling = self.next_write + CEILING_STEP
            self._log.behind = True
        rising = self._log.behind
        regions = group.regions(self._region_size)
        if self.journal is None:  # not by the mode: a pause may have come in between
            self._start_tracked(group, regions, rising)
            return
        active = self._log.active
        known = len(active)
        for region in regions:
            active[region] = group.last_write
        if len(active) > self._log.capacity:
            if self._issued:  # under PRIMARY alone: it lags, and holds its intents
                self._hold_back(True)
            # Everything before this group is complete, so a flush of both retires it.
            self.flush_both(lambda ok: self._start_after_retirement(group, ok))
        elif len(active) == known and not rising:
            self._issue(group)
        else:
            self._log.write_slot(lambda error: self._intent_written(group, error))

    def _start_tracked(self, group: Group, regions: set[int], rising: bool) -> None:
        if rising:
            self._log.write_slot(lambda error: self._numbers_reserved(group, error))
        elif all(self._log.is_out_of_sync(region) for region in regions):
            self._issue(group)
        else:
            marked = Task(self._log.set_out_of_sync(regions))
            marked.when_finished(lambda: self._marked(group, marked))

    def _start_after_retirement(self, group: Group, ok: bool) -> None:
        if self._starting is not group:
            return
        if ok and self._journals:
            self._retire_intents(self._log.enough)
            if len(self._log.active) > self._log.capacity:
                # Under PRIMARY, what lags holds its regions: try again behind it.
                self._post.after(LAG_SECONDS, lambda: self._retire_again(group))
                return
            self._log.write_slot(lambda error: self._intent_written(group, error))
        elif not ok:
            self._refuse(group)

    def _hold_back(self, held: bool) -> None:
        if held is not self._held_back:
            self._held_back = held
            self.on_held_back(held)

    def _retire_again(self, group: Group) -> None:
        if self._starting is group:
            self.flush_both(lambda ok: self._start_after_retirement(group, ok))

    def _numbers_reserved(self, group: Group, error: OSError | None) -> None:
        if error is None and self._starting is group:
            self._start(group)
        else:
            self._intent_written(group, error)

    @property
    def _journals(self) -> bool:
        """Does what has been started go to both disks?  Also while PAUSED for another reason."""
        return self.journal is not None and not self._lost

    def _intent_written(self, group: Group, error: OSError | None) -> None:
        if error is not None:
            self.on_primary_error(error, 0, 0)
        if self._starting is not group:
            return  # track() has started it again meanwhile
        if error is not None:
            self._refuse(group)
        elif self._journals:
            self._issue(group)
            if self._log.crowded:
                self.on_crowded()

    def _marked(self, group: Group, marked: Task[None]) -> None:
        if self._starting is not group:
            return
        try:
            marked.result()
        except EbbtideError:
            self._refuse(group)
            return
        self._issue(group)

    def _refuse(self, group: Group) -> None:
        """The primary took no intent: nothing of the group was issued."""
        self._starting = None
        group.primary_done = group.journal_done = True
        self._issued.append(group)
        self._fail(group)

    def _fail(self, group: Group) -> None:
        for request, *_ in group.pieces:
            request.error = EIO
        self._settle(group)

    # Issuing both legs

    def _issue(self, group: Group) -> None:
        self._starting = None
        self._hold_back(False)
        self._issued.append(group)
        cut = self._cut_write
        group.failed_flushes = self._flushes.failures if cut is None else cut
        self._cut_write = group.failed_flushes if group.mid_write else None
        buffer, done = group.buffer, self._primary_leg_done
        legs = [
            DiskRequest(WRITE, offset, length, buffer, at, done, False, group)
            if kind == WRITE
            else DiskRequest(ZERO, offset, length, None, 0, done, False, group)
            for _, kind, offset, length, at in group.pieces
            if kind != REPAIR
        ]
        group.waves = waves(legs)
        if group.waves:
            self._issue_wave(group)
        else:
            group.primary_done = True
        group.repairs = len(legs) < len(group.pieces)
        if self._journals:
            self._issue_journal_leg(group)
        else:
            group.journal_done = True
            self._fail_repairs(group)
        if group.primary_done:
            self._settle(group)

    def _fail_repairs(self, group: Group) -> None:
        """The journal does not have the group: what was meant for it alone is nowhere."""
        if group.repairs:
            for request, kind, *_ in group.pieces:
                if kind == REPAIR:
                    request.error = EIO

    def _issue_wave(self, group: Group) -> None:
        wave = group.waves.pop(0)
        group.primary_legs = len(wave)
        self.primary.submit(wave)

    def _issue_journal_leg(self, group: Group) -> None:
        assert self.journal is not None
        assert self.secondary is not None
        offset, begin = self.journal.place(group.payload)
        group.delta_map = self.journal.seal(
            group.buffer.view,
            group.entries(offset - begin),
            group.payload,
            self._next_order(),
            begin == 0,
            group.mid_write,
        )
        self._lag += group.payload
        size = HEADROOM - begin + group.payload
        done = self._journal_leg_done
        leg = DiskRequest(WRITE, offset, size, group.buffer, begin, done, False, group)
        self.secondary.submit([leg])

    def _primary_leg_done(self, leg: DiskRequest) -> None:
        group = leg.owner
        assert isinstance(group, Group)
        if leg.error is not None:
            group.failed.append(leg)
        group.primary_legs -= 1
        if not group.primary_legs:
            if group.waves:
                self._issue_wave(group)
            else:
                group.primary_done = True
                self._settle(group)

    def _journal_leg_done(self, leg: DiskRequest) -> None:
        group = leg.owner
        assert isinstance(group, Group)
        if group.journal_done:
            return  # given up by track(); the disk answers late
        self._lag -= group.payload
        group.journal_done = True
        if leg.error is None:
            assert group.delta_map is not None
            group.delta_map.in_flight -= 1
        else:
            group.journal_failed = True
            self._fail_repairs(group)
            self.lose_secondary(leg.error)
        self._settle(group)

    def lose_secondary(self, error: OSError) -> None:
        """The secondary failed here or elsewhere: pause, and tell the volume."""
        if self._journals:
            self._lost = True
            self.mode = _PAUSED
            self.on_secondary_error(error)

    # Acknowledging

    def _settle(self, group: Group) -> None:
        """Acknowledge what the policy allows, advance behind what is complete, go on."""
        if group.primary_done and not group.acknowledged and self._may_acknowledge(group):
            self._acknowledge(group)
        issued = self._issued
        while issued and issued[0].acknowledged and issued[0].journal_done:
            complete = issued[0]
            if complete.journal_failed and self._lost:
                break
            issued.popleft()
            self.completed_write = complete.last_write - complete.mid_write
            complete.buffer.release()
        if self._barriers:
            self._lift_barriers()
        self.wake()

    def _may_acknowledge(self, group: Group) -> bool:
        if self.ack is _PRIMARY and not group.repairs:
            return True
        return group.journal_done and not (group.journal_failed and self._lost)

    def _lift_barriers(self) -> None:
        barriers, self._barriers = self._barriers, []
        for number, barrier in barriers:
            if number <= self.completed_write:
                barrier.succeed(None)
            else:
                self._barriers.append((number, barrier))

    def _acknowledge(self, group: Group) -> None:
        group.acknowledged = True
        for leg in group.failed:
            for request in group.concerned(leg):
                request.error = EIO
            assert leg.error is not None
            self.on_primary_error(leg.error, leg.offset, leg.length)
        if group.failed_flushes != self._flushes.failures:
            # The primary may have dropped what it had of them: no later flush could tell.
            for request, kind, *_ in group.pieces:
                if kind != REPAIR:
                    request.error = EIO
        durable: list[HostRequest] = []
        for request, *_ in group.pieces:
            request.parts -= 1
            if not request.parts:
                if request.kind != REPAIR:
                    self.waiting -= 1
                if request.fua and not request.error:
                    durable.append(request)
                else:
                    request.done(request)
        if durable:
            self._flushes.flush(self.ack is _BOTH, lambda ok: finish(durable, ok))

    # Flushing

    def flush_request(self, request: HostRequest) -> None:
        """A host's FLUSH: everything acknowledged before is durable, as the policy means it."""
        self._flushes.answer(request, self.ack is _BOTH)

    def flush_both(self, done: Callable[[bool], None]) -> None:
        """Make everything complete on both disks durable, whatever the policy."""
        self._flushes.flush(True, done)

    def flush_primary(self, done: Callable[[bool], None]) -> None:
        """Make what the primary was given durable; hosts are told if that fails."""
        self._flushes.flush(False, done)

    # What the volume asks for

    def start_journaling(self, secondary: Disk, journal: Journal) -> None:
        """Both legs from now on; the path is PAUSED or TRACKING, and drained."""
        self.secondary, self.journal = secondary, journal
        self._flushes.stable_write = self.completed_write
        self.mode = _JOURNALING
        self.wake()

    def pause(self) -> None:
        """Start no further group."""
        self.mode = _PAUSED

    def rest(self) -> Completion[None]:
        """Finishes PAUSED between two writes, with nothing in flight; `end_rest` in the end."""
        self._rested = Completion()
        self.wake()
        return self._rested

    def _rest_if_between_writes(self, rested: Completion[None]) -> None:
        newest = self._starting
        if newest.mid_write if newest else self.journal is not None and self.journal.mid_write:
            return
        if self.mode is _JOURNALING:
            self.mode = _PAUSED
        if not (self._starting or self._issued or self._retiring):
            self._rested = None
            self._at_rest = True
            rested.succeed(None)

    def end_rest(self) -> None:
        """Go on, though the rest may not have begun; idempotent."""
        self._rested = None
        self._at_rest = False
        self.resume()

    def resume(self) -> None:
        """Go on journaling: there is room again.  A lost secondary keeps it paused."""
        if not self._journals or self._at_rest:
            return
        self.mode = _JOURNALING
        self.wake()

    def track(self) -> None:
        """Go on without the secondary; everything unsettled is durably marked out of sync."""
        self.mode = _TRACKING
        self._lost = self._at_rest = False
        self._rested = None  # whoever waits for it is interrupted
        self.journal = self.secondary = None
        self._flushes.release_held(True)
        for group in list(self._issued):
            if not group.journal_done:
                group.journal_done = True  # its disk is fenced; its memory stays pinned
                self._lag -= group.payload
                self._fail_repairs(group)
            self._settle(group)
        starting = self._starting
        if starting is not None:
            self._start(starting)
        self.wake()

    def wake(self) -> None:
        """Look in this turn whether a group can start."""
        if not self._posted:
            self._posted = True
            self._post.post(self._start_next)

    def retire(self, keep: int = 0) -> Completion[None]:
        """Flush both disks and drop the intents that this settles; write that down if idle."""
        finished: Completion[None] = Completion()

        def flushed(ok: bool) -> None:
            if ok and self.mode is _JOURNALING:
                self._retire_intents(keep)
                busy = self._starting or self._issued or self._gathering.groups
                if not busy and not self._retiring:
                    self._write_slot(lambda error: finished.succeed(None))
                    return
            finished.succeed(None)

        self.flush_both(flushed)
        return finished

    async def promise(self, write: int) -> None:
        """Make the log say, durably, that the journal was flushed behind a write.

        A copy of the secondary that lacks it is told by that from now on.
        DiskFailed if the primary does not take it.
        """
        self._log.stable_write = max(self._log.stable_write, write)
        promised: Completion[OSError | None] = Completion()
        self._promised.append(promised)
        self.wake()
        await self._taken(promised)

    def _write_promised(self) -> None:
        promised, self._promised = self._promised, []

        def written(error: OSError | None) -> None:
            for completion in promised:
                completion.succeed(error)

        self._write_slot(written)

    async def write_slot(self) -> None:
        """Make the log's slot durable as it stands; DiskFailed if the primary does not take it.

        For whoever keeps the hosts away meanwhile: it waits until nothing is in flight.
        """
        while self._starting or self._retiring:
            await self.drain()
        written: Completion[OSError | None] = Completion()
        self._write_slot(written.succeed)
        await self._taken(written)

    async def _taken(self, written: Completion[OSError | None]) -> None:
        """DiskFailed if the primary did not take a slot."""
        error = await written
        if error is not None:
            raise DiskFailed(disk=self.primary.identity.id, reason=str(error))

    def _write_slot(self, done: Callable[[OSError | None], None]) -> None:
        """No group starts meanwhile, which might write a slot of its own."""
        self._retiring = True

        def written(error: OSError | None) -> None:
            self._retiring = False
            if error is not None:
                self.on_primary_error(error, 0, 0)
            self.wake()
            done(error)

        self._log.write_slot(written)

    def _retire_intents(self, keep: int) -> None:
        """Numbers that were only tracked are in no journal: none is promised behind its last."""
        assert self.journal is not None
        journaled = min(self.stable_write, self.journal.newest_write)
        self._log.retire(self.stable_write, journaled, keep)

    def drain(self) -> Completion[None]:
        """Finishes when nothing is in flight; while PAUSED, what has gathered stays."""
        completion: Completion[None] = Completion()
        self._drained.append(completion)
        self.wake()
        return completion

    def _tell_drained(self) -> None:
        waiting = self._gathering.groups and self.mode is not _PAUSED
        if not (waiting or self._starting or self._issued or self._retiring):
            drained, self._drained = self._drained, []
            for completion in drained:
                completion.succeed(None)

    def abandon(self) -> None:
        """The primary is lost: everything that has not been issued fails, and all that comes."""
        self.mode = _PAUSED
        self._lost = False
        self.journal = self.secondary = None
        starting, self._starting = self._starting, None
        if starting is not None:
            self._refuse(starting)
        while self._gathering.groups:
            self._gathering.close_oldest()
            self._refuse(self._gathering.take())
        for group in list(self._issued):
            if group.primary_done and not group.acknowledged:
                # It waited for a journal or for tracking, neither of which will be.
                group.journal_done = True
                self._fail(group)
        self._flushes.release_held(False)
        self._locks.refuse_all()

    def writes_to(self, offset: int, length: int) -> bool:
        """Is a write to any of these bytes under way, on whatever leg?"""
        starting = [self._starting] if self._starting is not None else []
        return any(
            first < offset + length and offset < first + size
            for group in (*self._issued, *starting, *self._gathering.groups)
            for _, _, first, size, _ in group.pieces
        )

    def unsettled_regions(self) -> set[int]:
        """Regions of writes that are not complete on both disks."""
        return {region for group in self._issued for region in group.regions(self._region_size)}

    async def lock(self, offset: int, length: int) -> None:
        """Host writes to these bytes wait from now on; those under way are over on return."""
        self._locks.lock(offset, length)
        try:
            await self.settled(self.next_write - 1)
        except BaseException:
            self.unlock(offset, length)
            raise

    async def settled(self, write: int) -> None:
        """Wait until a write, and all before it, are complete on both disks."""
        if self.completed_write < write:
            barrier: Completion[None] = Completion()
            self._barriers.append((write, barrier))
            await barrier

    def unlock(self, offset: int, length: int) -> None:
        """The writes that waited go on, in their order."""
        self._locks.unlock(offset, length, self.write)
