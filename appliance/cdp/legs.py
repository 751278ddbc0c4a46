"""Both legs of a group: to the primary, and to the journal beside it; and the answers of hosts.

Groups come here one after the other, when the intents of their regions are
durable.  Invariants:

* One order: of two overlapping writes of a group the later one is issued to
  the primary in a later wave (`commit_group.waves`).
* `completed_write` advances only when both legs of everything up to it have
  completed.
* Acknowledge by policy: under BOTH after both legs; under PRIMARY after the
  primary's, while the journal lags.  What a lost secondary still owed is
  acknowledged only after tracking is durable (`go_on_without_journal`).
"""

from collections import deque
from collections.abc import Callable
from errno import EIO

from appliance.cdp.commit_group import REPAIR, Group, waves
from appliance.cdp.flushes import Flushes, finish
from appliance.cdp.interfaces import WRITE, ZERO, DiskRequest, HostRequest
from appliance.cdp.journal import HEADROOM
from appliance.cdp.policies import Ack
from appliance.cdp.route import Route
from appliance.cdp.tasks import Completion

# Looking up a member of an enumeration takes a fifth of a microsecond.
_BOTH, _PRIMARY = Ack


class Legs:
    """Of one volume.  `next_order` numbers its records among those of the appliance; `wake` is
    called when there may be more to start."""

    def __init__(
        self,
        route: Route,
        flushes: Flushes,
        completed_write: int,
        next_order: Callable[[], int],
        wake: Callable[[], None],
    ) -> None:
        self.completed_write = completed_write
        self.waiting = 0
        """Writes that have a number and no answer yet, but for the appliance's own repairs."""
        self.groups: deque[Group] = deque()
        """Issued and not complete on both legs, in order."""
        self.lag = 0
        """Bytes of payload on their way to the journal."""
        self._route = route
        self._flushes = flushes
        self._next_order = next_order
        self._wake = wake
        self._cut_write: int | None = None
        """While the last group issued ends in the middle of a write: its `failed_flushes`."""
        self._held_back = False
        """As the watcher was told last."""
        self._barriers: list[tuple[int, Completion[None]]] = []
        """What waits for all writes up to a number to be complete on both legs."""

    @property
    def unanswered(self) -> bool:
        """Does the last group still wait for its acknowledgement?"""
        return bool(self.groups) and not self.groups[-1].acknowledged

    def hold_back(self, held: bool) -> None:
        """Writes wait for nothing but what lags; or they go on."""
        if held is not self._held_back:
            self._held_back = held
            self._route.watcher.held_back(held)

    async def settled(self, write: int) -> None:
        """Wait until a write, and all before it, are complete on both disks."""
        if self.completed_write < write:
            barrier: Completion[None] = Completion()
            self._barriers.append((write, barrier))
            await barrier

    # Issuing

    def issue(self, group: Group) -> None:
        """Write both legs; the intents of its regions are durable."""
        self.hold_back(False)
        self.groups.append(group)
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
        if self._route.journals:
            self._issue_journal_leg(group)
        else:
            group.journal_done = True
            self._fail_repairs(group)
        if group.primary_done:
            self._settle(group)

    def refuse(self, group: Group) -> None:
        """The primary took no intent of it, or is lost: nothing of the group was issued."""
        group.primary_done = group.journal_done = True
        self.groups.append(group)
        self._fail(group)

    def _fail(self, group: Group) -> None:
        for request, *_ in group.pieces:
            request.error = EIO
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
        self._route.primary.submit(wave)

    def _issue_journal_leg(self, group: Group) -> None:
        journal, secondary = self._route.journal, self._route.secondary
        assert journal is not None
        assert secondary is not None
        offset, begin = journal.place(group.payload)
        group.delta_map = journal.seal(
            group.buffer.view,
            group.entries(offset - begin),
            group.payload,
            self._next_order(),
            begin == 0,
            group.mid_write,
        )
        self.lag += group.payload
        size = HEADROOM - begin + group.payload
        done = self._journal_leg_done
        leg = DiskRequest(WRITE, offset, size, group.buffer, begin, done, False, group)
        secondary.submit([leg])

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
            return  # given up since; the disk answers late
        self.lag -= group.payload
        group.journal_done = True
        if leg.error is None:
            assert group.delta_map is not None
            group.delta_map.in_flight -= 1
        else:
            group.journal_failed = True
            self._fail_repairs(group)
            self._route.lose_secondary(leg.error)
        self._settle(group)

    # Acknowledging

    def _settle(self, group: Group) -> None:
        """Acknowledge what the policy allows, advance behind what is complete, go on."""
        if group.primary_done and not group.acknowledged and self._may_acknowledge(group):
            self._acknowledge(group)
        groups, lost = self.groups, self._route.lost
        while groups and groups[0].acknowledged and groups[0].journal_done:
            complete = groups[0]
            if complete.journal_failed and lost:
                break
            groups.popleft()
            self.completed_write = complete.last_write - complete.mid_write
            complete.buffer.release()
        if self._barriers:
            self._lift_barriers()
        self._wake()

    def _may_acknowledge(self, group: Group) -> bool:
        if self._route.ack is _PRIMARY and not group.repairs:
            return True
        return group.journal_done and not (group.journal_failed and self._route.lost)

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
            self._route.watcher.primary_failed(leg.error, leg.offset, leg.length)
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
            self._flushes.flush(self._route.ack is _BOTH, lambda ok: finish(durable, ok))

    # Losing a disk

    def go_on_without_journal(self) -> None:
        """Tracking is durable: what waited for the journal is good without it."""
        for group in list(self.groups):
            if not group.journal_done:
                group.journal_done = True  # its disk is fenced; its memory stays pinned
                self.lag -= group.payload
                self._fail_repairs(group)
            self._settle(group)

    def abandon(self) -> None:
        """The primary is lost: what waits for a journal or for tracking will have neither."""
        for group in list(self.groups):
            if group.primary_done and not group.acknowledged:
                group.journal_done = True
                self._fail(group)
