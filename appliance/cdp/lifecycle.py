"""The life of a volume: into service, through the loss of its secondary, and out again.

    offline → recovering → online
                             │ protection: syncing → protected
                             │                ↑          │ the secondary fails
                             │                └─ tracking ┘
    online → offline: the primary fails, or the service stops

Invariants:

* Hosts are served (`ONLINE`) only after recovery has settled every intent, and
  after a restore that a crash interrupted has ended.
* Before the first write is acknowledged without the secondary, every region
  with an intent is durably out of sync and the primary durably bears a new
  generation.
* A secondary that failed comes back only through its media: reopened by the
  service once nothing of it is outstanding, read like after a crash, resynced.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from errno import EIO, ENODEV, ENOSPC
from itertools import count

from appliance import events
from appliance.cdp import disk_io, recovery, restore, retention, superblock
from appliance.cdp.head_check import agrees_with_head
from appliance.cdp.history import History
from appliance.cdp.interfaces import Clock, Disk, Post, Timer
from appliance.cdp.jobs import Job, JobKind, Result
from appliance.cdp.memory import BufferPool
from appliance.cdp.pair import check_pair
from appliance.cdp.points import Gap, Point
from appliance.cdp.rescue import read_from_secondary
from appliance.cdp.restore import RestorePlan
from appliance.cdp.superblock import Superblock
from appliance.cdp.synchronise import Synchroniser
from appliance.cdp.tasks import Cancelled, Completion, Task
from appliance.cdp.volume import Protection, Service, Volume
from appliance.cdp.write_path import Ack, Mode, WritePath
from appliance.errors import DiskFailed, EbbtideError, FormatDamaged, JobRunning, VolumeNotReady

HOUSEKEEPING_SECONDS = 1.0
ROOM_PATIENCE_SECONDS = 5.0
"""Writes wait so long for a fold before they are only tracked."""
RESYNC_ROOM = 8
"""A resync begins when one segment in so many is free."""


class Lifecycle:
    """Drives one volume.  All of it runs on the loop."""

    def __init__(
        self,
        primary: Disk,
        found: Superblock,
        post: Post,
        clock: Clock,
        pool: BufferPool,
        emit: Callable[..., None],
        orders: "Orders",
        job_numbers: "count[int]",
    ) -> None:
        self.volume = Volume(primary, found, post, clock, pool, emit)
        self.volume.rescue = lambda offset, length: read_from_secondary(self.volume, offset, length)
        self._post = post
        self._clock = clock
        self._pool = pool
        self._emit = emit
        self._orders = orders
        self._job_numbers = job_numbers
        self._log_is_whole = False
        self._unsettled = 0
        self._housekeeper: Timer | None = None
        self._chores: Task[None] | None = None
        self._patience: Timer | None = None
        self._losing: Task[None] | None = None
        self._retiring: Completion[None] | None = None
        self._waiting_for_room = False
        self._attaching = False
        self._seen_write = -1
        self.on_secondary_lost: Callable[[Disk], None] = lambda disk: None
        self.on_primary_lost: Callable[[Disk], None] = lambda disk: None

    # Into service

    async def start(self, secondary: Disk | None) -> None:
        """Take the volume into service, with its secondary or tracking without it.

        What is wrong with the secondary (WrongDisk, FormatDamaged, DiskFailed)
        is raised before anything is written; call again without it to track.
        """
        volume = self.volume
        volume.service = Service.RECOVERING
        began = self._clock.monotonic_ns()
        try:
            self._log_is_whole = await volume.log.load()
            self._unsettled = len(volume.log.active)
            if secondary is None:
                await self._start_tracking()
            else:
                await self._attach(secondary, first=True)
        except BaseException:
            volume.service = Service.OFFLINE
            volume.history = volume.secondary = None
            raise
        chain = volume.history.chain if volume.history else None
        if chain is not None and chain.restoring is not None:
            await self._finish_restore(chain.restoring[0])
        volume.service = Service.ONLINE
        if self._unsettled:
            self._emit(
                events.VOLUME_RECOVERED,
                volume=volume.name,
                seconds=round((self._clock.monotonic_ns() - began) / 1e9, 3),
                regions=self._unsettled,
            )
        self._emit(events.VOLUME_ONLINE, volume=volume.name, state=volume.protection.value)
        self._tick()
        self._continue_syncing()

    async def _start_tracking(self) -> None:
        volume = self.volume
        log = volume.log
        # What hosts read from now on must not be undone by a power cut.
        await disk_io.flush(volume.primary)
        everything = range(volume.superblock.regions)
        await log.set_out_of_sync(everything if not self._log_is_whole else log.active)
        log.active.clear()
        await self._new_generation()
        path = volume.new_write_path(max(1, log.ceiling), self._orders.next)
        self._listen(path)
        volume.path = path
        volume.protection = Protection.TRACKING
        path.track()

    async def _new_generation(self) -> None:
        volume = self.volume
        volume.superblock = volume.superblock.child()
        await superblock.store(volume.primary, self._pool, volume.superblock)

    async def attach(self, secondary: Disk) -> None:
        """The secondary is back: read its media, and resync what differs."""
        tracking = self.volume.protection is Protection.TRACKING
        if not tracking or self.volume.secondary is not None or self._attaching:
            raise VolumeNotReady(
                volume=self.volume.name, state=self.volume.state, reason="it has its secondary"
            )
        self._attaching = True
        try:
            await self._attach(secondary, first=False)
        finally:
            self._attaching = False
        self._continue_syncing()

    async def _attach(self, secondary: Disk, first: bool) -> None:
        volume = self.volume
        theirs = await superblock.load(secondary, self._pool)
        if theirs is None:
            raise FormatDamaged(what=f"superblock of {secondary.identity.id}", reason="no trace")
        check_pair(volume.superblock, theirs, secondary.identity.id)
        history = await recovery.read_history(
            secondary, volume.superblock.for_peer(), self._post, self._clock, self._pool
        )
        history.next_order = self._orders.rise(history.next_order)
        if theirs.generation != volume.superblock.generation:
            # Hosts have written without this secondary since: their data is not undone.
            history.chain.restoring = None
        log = volume.log
        if first:
            path = volume.new_write_path(
                max(history.chain.newest_write + 1, log.ceiling, history.chain.next_write),
                self._orders.next,
            )
            self._listen(path)
            volume.path = path
        assert volume.path is not None
        path = volume.path
        path.reserve = 0
        path.ack = Ack(history.ack)
        self._synchroniser = Synchroniser(volume.primary, history, log, path, self._pool)
        if first:
            await self._look_for_other_writers(history)
            await recovery.take_stock(history, log, self._log_is_whole)
            volume.history, volume.secondary = history, secondary  # a repair may have to fold
            await recovery.settle(history, log, path, self._synchroniser)
        else:
            path.pause()
            await path.drain()
            try:
                # Only now: every write that was tracked must have its bit by then.
                await recovery.take_stock(history, log, self._log_is_whole)
            except BaseException:
                path.track()
                raise
            volume.history, volume.secondary = history, secondary
            path.start_journaling(secondary, history.journal)
        self._log_is_whole = True
        history.superblock = volume.superblock.for_peer()
        await superblock.store(secondary, self._pool, history.superblock.next())
        path.reserve = retention.reserve(volume.superblock.segment_count)
        chain = history.chain
        behind = log.out_of_sync() or not chain.baseline_whole or chain.incomplete_from
        volume.protection = Protection.SYNCING if behind else Protection.PROTECTED
        volume.alert(events.SECONDARY_LOST, None)

    async def _look_for_other_writers(self, history: History) -> None:
        """A primary that was written elsewhere is compared whole, whatever its log says."""
        volume, log = self.volume, self.volume.log
        if history.chain.baseline_whole and self._log_is_whole:
            excused = {*log.active, *log.out_of_sync()}
            if not await agrees_with_head(history, volume.primary, self._pool, excused):
                self._log_is_whole = False
                self._emit(events.WRITTEN_ELSEWHERE, volume=volume.name)

    def _listen(self, path: WritePath) -> None:
        path.on_secondary_error = self._secondary_failed
        path.on_primary_error = self._primary_failed
        path.on_no_room = self._no_room
        path.on_crowded = self._crowded

    # Out of protection, out of service

    def _secondary_failed(self, error: OSError) -> None:
        self._losing = Task(self._lose_secondary(str(error)))
        self._losing.when_finished(self._lost)

    async def _lose_secondary(self, reason: str) -> None:
        """The write path is paused: make tracking durable, then go on with it."""
        volume = self.volume
        volume.protection = Protection.TRACKING
        secondary, volume.secondary, volume.history = volume.secondary, None, None
        self._stop_waiting()
        if volume.job is not None:
            volume.job.cancel()
        if self._chores is not None:
            self._chores.cancel()
        assert volume.path is not None
        await volume.log.set_out_of_sync(volume.log.active)
        volume.log.active.clear()
        await self._new_generation()
        volume.path.track()
        volume.alert(events.SECONDARY_LOST, f"writes are only tracked: {reason}")
        self._emit(events.SECONDARY_LOST, volume=volume.name, reason=reason)
        if secondary is not None:
            self.on_secondary_lost(secondary)

    def _lost(self) -> None:
        assert self._losing is not None
        try:
            self._losing.result()
        except EbbtideError as error:
            self._go_offline(str(error))

    def _primary_failed(self, error: OSError, offset: int, length: int) -> None:
        volume = self.volume
        if volume.primary.fenced:
            self._go_offline(str(error))
        elif length:
            size = volume.superblock.region_size
            regions = range(offset // size, (offset + length - 1) // size + 1)
            self._emit(events.PRIMARY_TROUBLE, volume=volume.name, reason=str(error))
            if volume.protection is Protection.PROTECTED:
                volume.protection = Protection.SYNCING
            Task(self._mark(regions))

    async def _mark(self, regions: range) -> None:
        """The disks differ there.  If that cannot be written down either, the intents stay."""
        with suppress(DiskFailed):
            await self.volume.log.set_out_of_sync(regions)
        self._continue_syncing()

    def _go_offline(self, reason: str) -> None:
        """The primary is lost.  What is in sync can still be read from the secondary."""
        volume = self.volume
        if volume.service is Service.OFFLINE:
            return
        volume.service = Service.OFFLINE
        assert volume.path is not None
        volume.log.doubt(volume.path.unsettled_regions())
        volume.path.abandon()
        if volume.job is not None:
            volume.job.cancel()
        if self._chores is not None:
            self._chores.cancel()
        if self._housekeeper is not None:
            self._housekeeper.cancel()
        volume.alert(events.VOLUME_OFFLINE, f"the primary failed: {reason}")
        self._emit(events.VOLUME_OFFLINE, volume=volume.name, reason=reason)
        self.on_primary_lost(volume.primary)

    async def stop(self) -> None:
        """Out of service in order: nothing is left to settle at the next start."""
        volume = self.volume
        if self._housekeeper is not None:
            self._housekeeper.cancel()
        job = volume.job
        if job is not None:
            job.cancel()
            await job.finished
        if self._chores is not None and not self._chores.finished:
            self._chores.cancel()
        serving = volume.service is Service.ONLINE
        volume.service = Service.OFFLINE
        path = volume.path
        if path is None or not serving:
            return
        await path.drain()
        path.pause()
        await path.drain()
        history = volume.history
        if history is not None:
            history.journal.close_map()
            await recovery.flush_both(path)
        if history is not None and volume.history is history:  # not lost meanwhile
            volume.log.active.clear()
            volume.log.stable_write = history.chain.newest_write
            with suppress(DiskFailed):  # the next start follows the stream instead
                await history.checkpoint()
        volume.log.ceiling = path.next_write
        await recovery.write_slot(volume.log)

    def secondary_gone(self) -> None:
        """The disk was pulled."""
        path = self.volume.path
        if path is not None and self.volume.secondary is not None:
            path.lose_secondary(OSError(ENODEV, "it was pulled"))

    def primary_gone(self) -> None:
        """The disk was pulled."""
        self._go_offline("it was pulled")

    # Policies

    async def set_ack(self, ack: Ack) -> None:
        """Durable when this returns; DiskFailed otherwise."""
        history, path = self.volume.require_history(), self.volume.path
        assert path is not None
        history.ack = ack
        await history.checkpoint()
        path.ack = ack

    # Housekeeping

    def _tick(self) -> None:
        self._housekeeper = self._post.after(HOUSEKEEPING_SECONDS, self._tick)
        self._do_chores()
        last = self.volume.last_job
        if last is None or last.result != "cancelled":
            self._continue_syncing()

    def _do_chores(self) -> None:
        volume = self.volume
        if self._chores is not None and not self._chores.finished:
            return
        if volume.history is None or (not volume.is_journaling and not self._waiting_for_room):
            return
        self._chores = Task(self._keep_house())
        self._chores.when_finished(self._chores_done)

    async def _keep_house(self) -> None:
        volume, history, path = self.volume, self.volume.history, self.volume.path
        assert history is not None
        assert path is not None
        floor = history.chain.floor
        while retention.is_low(history) and await retention.fold(history):
            self._room_came()
        if history.chain.floor != floor:
            self._emit(events.WINDOW_SHORTENED, volume=volume.name, write=history.chain.floor)
        await history.write_indexes()
        idle = path.completed_write == self._seen_write
        self._seen_write = path.completed_write
        if idle and volume.log.active and volume.is_journaling:
            await path.retire()

    def _chores_done(self) -> None:
        assert self._chores is not None
        try:
            self._chores.result()
        except Cancelled:
            pass
        except EbbtideError as error:
            assert self.volume.path is not None
            self.volume.path.lose_secondary(OSError(EIO, str(error)))
        self._room_came()

    def _crowded(self) -> None:
        assert self.volume.path is not None
        if self._retiring is None or self._retiring.finished:
            self._retiring = self.volume.path.retire(self.volume.log.enough)

    def _no_room(self) -> None:
        """The journal is full up to the reserve: fold at once, and wait for it only so long."""
        self._waiting_for_room = True
        self._patience = self._post.after(ROOM_PATIENCE_SECONDS, self._no_patience)
        self._do_chores()

    def _room_came(self) -> None:
        history, path = self.volume.history, self.volume.path
        if not self._waiting_for_room or history is None or path is None:
            return
        if history.segments.free > path.reserve and path.mode is Mode.PAUSED:
            self._stop_waiting()
            path.resume()

    def _stop_waiting(self) -> None:
        self._waiting_for_room = False
        if self._patience is not None:
            self._patience.cancel()

    def _no_patience(self) -> None:
        self._stop_waiting()
        assert self.volume.path is not None
        self.volume.path.lose_secondary(OSError(ENOSPC, "the history is full"))

    # Jobs

    def _run(self, kind: JobKind, work: Callable[[Job], Awaitable[None]]) -> Job:
        volume = self.volume
        if volume.job is not None:
            raise JobRunning(volume=volume.name, kind=volume.job.kind)
        job = Job(next(self._job_numbers), kind, volume.name, self._clock)
        volume.job = job
        self._emit(events.JOB_STARTED, volume=volume.name, kind=kind, job=job.number)

        async def run() -> None:
            try:
                await work(job)
                outcome: tuple[Result, Exception | None] = ("done", None)
            except Cancelled:
                outcome = ("cancelled", None)
            except EbbtideError as error:
                outcome = ("failed", error)
            volume.job, volume.last_job = None, job
            self._emit(events.JOB_ENDED, volume=volume.name, kind=kind, result=outcome[0])
            job.end(*outcome)

        job.task = Task(run())
        return job

    def _continue_syncing(self) -> None:
        """Start what is owed to protection, if it can run now."""
        volume = self.volume
        history = volume.history
        if history is None or volume.job is not None or volume.service is not Service.ONLINE:
            return
        if not history.chain.baseline_whole:
            self._run("baseline", self._baseline)
        elif volume.log.out_of_sync() or history.chain.incomplete_from:
            self._run("resync", self._resync)

    async def _baseline(self, job: Job) -> None:
        await self._synchroniser.baseline(job)
        await self._seal_sync()

    async def _resync(self, job: Job) -> None:
        # Flush and retire first: what is settled need not be listed, nor looked at.
        assert self.volume.path is not None
        await self.volume.path.retire()
        await self._synchroniser.resync(job)
        await self._seal_sync()

    async def _seal_sync(self) -> None:
        """Both disks are equal: at a moment without writes in flight, say so durably."""
        volume, history, path = self.volume, self.volume.history, self.volume.path
        assert history is not None
        assert path is not None
        path.pause()
        try:
            await path.drain()
            await recovery.flush_both(path)
            if volume.log.out_of_sync():
                return  # marked meanwhile: the next tick goes on with those
            chain = history.chain
            if chain.incomplete_from:
                gap = Gap(
                    chain.incomplete_from,
                    chain.newest_write - 1,
                    "the secondary was away",
                    self._clock.wall_ns(),
                )
                chain.add_gap(gap)
                self._emit(
                    events.GAP_OPENED,
                    volume=volume.name,
                    from_write=gap.from_write,
                    to_write=gap.to_write,
                    reason=gap.reason,
                )
                chain.incomplete_from = 0
                chain.end_gaps()
            if not chain.baseline_whole:
                chain.baseline_whole = True
                # Not next_write: what has gathered meanwhile is on neither disk.
                chain.raise_floor(path.completed_write, self._clock.wall_ns())
                if not history.journal.mid_write:
                    history.journal.close_map()
            await history.checkpoint()
        finally:
            if volume.history is history and path.mode is Mode.PAUSED:
                path.resume()
        volume.protection = Protection.PROTECTED
        self._emit(events.VOLUME_PROTECTED, volume=volume.name)

    def synchronise(self, kind: JobKind) -> Job:
        """`resync` looks only at what may differ, `full` compares and repairs everything,
        `verify` compares and reports."""
        volume = self.volume
        volume.require_history()
        if volume.protection is not Protection.PROTECTED:
            raise VolumeNotReady(
                volume=volume.name, state=volume.state, reason="it is being synchronised already"
            )
        if kind == "resync":
            return self._run(kind, self._resync)
        only_report = kind == "verify"
        return self._run(kind, lambda job: self._synchroniser.scan(job, only_report))

    # Restore

    async def plan_restore(self, point: Point) -> RestorePlan:
        """What putting the point back would do; NoRoom if history cannot take it."""
        history = self.volume.require_history()
        if self.volume.protection is not Protection.PROTECTED:
            raise VolumeNotReady(
                volume=self.volume.name, state=self.volume.state, reason="it is not in sync"
            )
        planned = await restore.plan(history, point, self.volume.sector)
        restore.check_room(history, planned)
        return planned

    def restore(self, planned: RestorePlan, send_hosts_away: Callable[[], Awaitable[None]]) -> Job:
        """Put the point back, after the hosts are gone; who stays gets EIO meanwhile."""
        self.volume.require_history()
        return self._run("restore", lambda job: self._restore(planned, send_hosts_away, job))

    async def _restore(
        self,
        planned: RestorePlan,
        send_hosts_away: Callable[[], Awaitable[None]],
        job: Job,
    ) -> None:
        volume = self.volume
        job.phase = "disconnecting hosts"
        await send_hosts_away()
        history = volume.require_history()
        assert volume.path is not None
        volume.closed_to_hosts = True
        hold = history.hold(planned.point.write, None)
        try:
            history.chain.check_restorable(planned.point.write, planned.point.text)
            # What hosts wrote since the plan was made is put back as well.
            await volume.path.drain()
            planned = await restore.plan(history, planned.point, volume.sector)
            restore.check_room(history, planned)
            before = volume.path.next_write - 1
            await restore.run(history, volume.path, planned, job)
        finally:
            history.let_go(hold)
            volume.closed_to_hosts = False
        self._emit(events.RESTORED, volume=volume.name, point=planned.point.text, write=before)

    async def _finish_restore(self, write: int) -> None:
        """A crash interrupted a restore: it ends before hosts attach."""
        volume = self.volume
        assert volume.history is not None
        planned = await restore.plan(
            volume.history, Point(write, None, f"write:{write}"), volume.sector
        )
        job = self._run("restore", lambda job: self._restore_again(planned, job))
        await job.finished
        if job.error is not None:
            raise job.error
        if job.result != "done":
            raise VolumeNotReady(
                volume=volume.name, state="restoring", reason="its restore could not be ended"
            )

    async def _restore_again(self, planned: RestorePlan, job: Job) -> None:
        volume = self.volume
        assert volume.history is not None
        assert volume.path is not None
        await restore.run(volume.history, volume.path, planned, job, again=True)


class Orders:
    """Order numbers, one sequence for all volumes of the appliance."""

    def __init__(self) -> None:
        self._next = 1

    def next(self) -> int:
        number = self._next
        self._next += 1
        return number

    def rise(self, least: int) -> int:
        """Go on from `least` if that is higher; returns the next number."""
        self._next = max(self._next, least)
        return self._next
