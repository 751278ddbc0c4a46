"""Intent first (rule 1): a group's regions are durable before either leg of it is issued.

The slot of the dirty region log that says so is written here, for a group and
between groups: at most one at a time.  Without the journal the regions are
marked out of sync instead.  Invariants:

* `Legs.issue` is called only when every region of the group, and the ceiling
  of its numbers, are durable as its legs will have it: intents for both legs,
  bits of the bitmap for the primary's alone.
* A slot that the primary does not take fails its group: nothing of it is
  issued, and hosts hear EIO.  If the secondary was lost meanwhile, `start_again`
  has the group marked out of sync instead.
* Retire late: an intent is dropped here only behind a flush of both disks that
  covered its last write (`Flushes.stable_write`).
"""

from collections.abc import Callable
from typing import Final

from appliance.cdp.commit_group import Group
from appliance.cdp.dirty_region_log import CEILING_STEP, DirtyRegionLog
from appliance.cdp.flushes import Flushes
from appliance.cdp.interfaces import Post
from appliance.cdp.legs import Legs
from appliance.cdp.route import Mode, Route
from appliance.cdp.tasks import Completion, Task
from appliance.errors import DiskFailed, EbbtideError

LAG_SECONDS: Final = 0.001
"""Until a group looks again whether what lags has set its intents free."""


class Intents:
    """Of one volume.  `next_write` is the number after the last one given out; `wake` is called
    when there may be more to start."""

    def __init__(
        self,
        region_log: DirtyRegionLog,
        region_size: int,
        route: Route,
        flushes: Flushes,
        legs: Legs,
        post: Post,
        next_write: Callable[[], int],
        wake: Callable[[], None],
    ) -> None:
        self.starting: Group | None = None
        """Its regions are being made durable, or it waits for tracking to be."""
        self._log = region_log
        self._region_size = region_size
        self._route = route
        self._flushes = flushes
        self._legs = legs
        self._post = post
        self._next_write = next_write
        self._wake = wake
        self._writing = False
        """A slot, and not for a group."""
        self._promised: list[Completion[OSError | None]] = []
        """Who waits for a slot, which is written between two groups."""

    @property
    def busy(self) -> bool:
        """No group may start: one is starting, or a slot is being written."""
        return self.starting is not None or self._writing

    # For a group

    def start(self, group: Group) -> None:
        """Make its regions durable, then issue it; or refuse it."""
        self.starting = group
        self._secure(group)

    def start_again(self) -> None:
        """The route has changed under the group that is starting."""
        if self.starting is not None:
            self._secure(self.starting)

    def abandon(self) -> None:
        """The primary is lost."""
        if self.starting is not None:
            self._refuse(self.starting)

    def _issue(self, group: Group) -> None:
        self.starting = None
        self._legs.issue(group)

    def _refuse(self, group: Group) -> None:
        self.starting = None
        self._legs.refuse(group)

    def _secure(self, group: Group) -> None:
        log, next_write = self._log, self._next_write()
        if next_write + CEILING_STEP // 2 > log.ceiling:
            log.ceiling = next_write + CEILING_STEP
            log.behind = True
        rising = log.behind
        regions = group.regions(self._region_size)
        if self._route.journal is None:  # not by the mode: a pause may have come in between
            self._secure_tracked(group, regions, rising)
            return
        if not self._has_room(regions):
            if self._legs.groups:  # under PRIMARY alone: it lags, and holds its intents
                self._legs.hold_back(True)
            # Everything before this group is complete, so a flush of both retires it.
            self._make_room(group)
            return
        active = log.active
        known = len(active)
        for region in regions:
            active[region] = group.last_write
        if len(active) == known and not rising:
            self._issue(group)
        else:
            log.write_slot(lambda error: self._intent_written(group, error))

    def _has_room(self, regions: set[int]) -> bool:
        """Others write the slot, too, while a group waits for room: the set never exceeds it."""
        active, capacity = self._log.active, self._log.capacity
        return len(active) + len(regions) <= capacity or len(regions | active.keys()) <= capacity

    def _secure_tracked(self, group: Group, regions: set[int], rising: bool) -> None:
        if rising:
            self._log.write_slot(lambda error: self._numbers_reserved(group, error))
        elif all(self._log.is_out_of_sync(region) for region in regions):
            self._issue(group)
        else:
            marked = Task(self._log.set_out_of_sync(regions))
            marked.when_finished(lambda: self._marked(group, marked))

    def _make_room(self, group: Group) -> None:
        self._flushes.flush_both(lambda ok: self._flushed_for(group, ok))

    def _flushed_for(self, group: Group, ok: bool) -> None:
        if self.starting is not group:
            return
        if ok and self._route.journals:
            regions = group.regions(self._region_size)
            self._drop(max(0, self._log.enough - len(regions)))
            if self._has_room(regions):
                self._secure(group)
            else:
                # Under PRIMARY, what lags holds its regions: try again behind it.
                self._post.after(LAG_SECONDS, lambda: self._make_room_again(group))
        elif not ok:
            self._refuse(group)

    def _make_room_again(self, group: Group) -> None:
        if self.starting is group:
            self._make_room(group)

    def _numbers_reserved(self, group: Group, error: OSError | None) -> None:
        if error is None and self.starting is group:
            self._secure(group)
        else:
            self._intent_written(group, error)

    def _intent_written(self, group: Group, error: OSError | None) -> None:
        if error is not None:
            self._route.watcher.primary_failed(error, 0, 0)
        if self.starting is not group:
            return  # it has been started again meanwhile
        if error is not None:
            self._refuse(group)
        elif self._route.journals:
            self._issue(group)
            if self._log.crowded:
                self._route.watcher.crowded()

    def _marked(self, group: Group, marked: Task[None]) -> None:
        if self.starting is not group:
            return
        try:
            marked.result()
        except EbbtideError:
            self._refuse(group)
            return
        self._issue(group)

    # Between groups

    def retire(self, keep: int, idle: Callable[[], bool]) -> Completion[None]:
        """Flush both disks and drop the intents that this settles; write that down if `idle`."""
        finished: Completion[None] = Completion()

        def flushed(ok: bool) -> None:
            if ok and self._route.mode is Mode.JOURNALING:
                self._drop(keep)
                if idle() and not self.busy:
                    self._write(lambda error: finished.succeed(None))
                    return
            finished.succeed(None)

        self._flushes.flush_both(flushed)
        return finished

    def _drop(self, keep: int) -> None:
        """Numbers that were only tracked are in no journal: none is promised behind its last."""
        journal, stable_write = self._route.journal, self._flushes.stable_write
        assert journal is not None
        self._log.retire(stable_write, min(stable_write, journal.newest_write), keep)

    async def promise(self, write: int) -> None:
        """Make the log say, durably, that the journal was flushed behind a write.

        A copy of the secondary that lacks it is told by that from now on.
        DiskFailed if the primary does not take it.
        """
        self._log.stable_write = max(self._log.stable_write, write)
        promised: Completion[OSError | None] = Completion()
        self._promised.append(promised)
        self._wake()
        await self._taken(promised)

    def write_promised(self) -> None:
        """Somebody has called `promise`: now, if no group is starting."""
        if not self._promised or self.busy:
            return
        promised, self._promised = self._promised, []

        def written(error: OSError | None) -> None:
            for completion in promised:
                completion.succeed(error)

        self._write(written)

    async def write_slot(self) -> None:
        """Make the slot durable as it stands, while not `busy`.

        DiskFailed if the primary does not take it.
        """
        written: Completion[OSError | None] = Completion()
        self._write(written.succeed)
        await self._taken(written)

    async def _taken(self, written: Completion[OSError | None]) -> None:
        error = await written
        if error is not None:
            raise DiskFailed(disk=self._route.primary.identity.id, reason=str(error))

    def _write(self, done: Callable[[OSError | None], None]) -> None:
        """No group starts meanwhile, which might write a slot of its own."""
        self._writing = True

        def written(error: OSError | None) -> None:
            self._writing = False
            if error is not None:
                self._route.watcher.primary_failed(error, 0, 0)
            self._wake()
            done(error)

        self._log.write_slot(written)
