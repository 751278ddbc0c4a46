"""The jobs of one volume: the synchronisations and the restore, one at a time.

What is owed (a restore that was interrupted, a baseline, a resync) is started
without being asked, as soon as it can run.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from errno import EIO
from itertools import count

from appliance import events
from appliance.cdp import restore
from appliance.cdp.delta_map import MapKind
from appliance.cdp.history import History
from appliance.cdp.jobs import Job, JobKind, Result
from appliance.cdp.pace import Pace
from appliance.cdp.points import Gap, Point
from appliance.cdp.policies import Throttle
from appliance.cdp.restore import RestorePlan
from appliance.cdp.suspects import OPEN
from appliance.cdp.sync_progress import ScanKind, SyncProgress
from appliance.cdp.synchronise import Synchroniser
from appliance.cdp.tasks import Cancelled, Task
from appliance.cdp.volume import Protection, Service, Volume
from appliance.cdp.write_path import WritePath
from appliance.errors import DiskFailed, EbbtideError, JobRunning, VolumeNotReady


class VolumeJobs:
    """`numbers` gives each job of the appliance its own."""

    def __init__(self, volume: Volume, numbers: "count[int]") -> None:
        self._volume = volume
        self._numbers = numbers
        self.synchroniser: Synchroniser | None = None
        """Set with the secondary."""
        self._giving_up = False

    async def interrupt(self) -> None:
        """Stop the running job, if any, and wait for its end; what is owed goes on later."""
        job = self._volume.job
        if job is not None:
            job.interrupt()
            await job.finished

    def _run(self, kind: JobKind, work: Callable[[Job], Awaitable[None]]) -> Job:
        volume = self._volume
        if volume.job is not None:
            raise JobRunning(volume=volume.name, kind=volume.job.kind)
        job = Job(next(self._numbers), kind, volume.name, self._volume.clock)
        volume.job = job
        self._volume.emit(events.JOB_STARTED, volume=volume.name, kind=kind, job=job.number)

        async def run() -> None:
            try:
                await work(job)
                outcome: tuple[Result, Exception | None] = ("done", None)
            except Cancelled:
                outcome = (job.stopped, None)
            except EbbtideError as error:
                outcome = ("failed", error)
            volume.job, volume.last_job = None, job
            history = volume.history
            if outcome[1] is not None and history is not None and history.disk.fenced:
                # Without writes of hosts nobody else might notice.
                assert volume.path is not None
                volume.path.lose_secondary(OSError(EIO, str(outcome[1])))
            self._volume.emit(events.JOB_ENDED, volume=volume.name, kind=kind, result=outcome[0])
            job.end(*outcome)

        job.task = Task(run())
        return job

    # Synchronisations

    def continue_syncing(self) -> None:
        """Start what is owed, if it can run now: first what keeps the hosts out."""
        volume = self._volume
        history = volume.history
        if history is None or volume.job is not None or volume.service is not Service.ONLINE:
            return
        if volume.log.restoring:
            if not self._giving_up:
                self._run("restore", self._restore_again)
        elif not history.chain.baseline_whole:
            self._run("baseline", self._baseline)
        elif volume.log.out_of_sync() or history.chain.incomplete_from:
            self._run("resync", self._resync)
        elif history.chain.scan is not None:
            self._run_scan(history.chain.scan)

    def synchronise(self, kind: JobKind) -> Job:
        """`resync` looks only at what may differ, `full` compares and repairs everything,
        `verify` compares and reports."""
        volume = self._volume
        history = volume.require_history()
        if kind == "resync" and volume.protection is Protection.SYNCING:
            self.continue_syncing()
            if volume.job is not None:
                return volume.job
        if volume.protection is not Protection.PROTECTED:
            raise VolumeNotReady(
                volume=volume.name, state=volume.state, reason="it is being synchronised already"
            )
        if kind == "resync":
            return self._run(kind, self._resync)
        if volume.job is not None:
            raise JobRunning(volume=volume.name, kind=volume.job.kind)
        history.chain.scan = SyncProgress(ScanKind[kind.upper()])
        return self._run_scan(history.chain.scan)

    def _synchronising(self) -> Synchroniser:
        assert self.synchroniser is not None
        return self.synchroniser

    def _pace(self, job: Job) -> Pace:
        volume = self._volume

        def throttle() -> Throttle:
            return volume.history.policies.throttle if volume.history else Throttle()

        return Pace(job, throttle, lambda: volume.busy, volume.clock, volume.post)

    async def _baseline(self, job: Job) -> None:
        await self._synchronising().baseline(job, self._pace(job))
        await self._seal_sync()

    async def _resync(self, job: Job) -> None:
        # Flush and retire first: what is settled need not be listed, nor looked at.
        assert self._volume.path is not None
        await self._volume.path.retire()
        await self._synchronising().resync(job, self._pace(job))
        await self._seal_sync()

    def _run_scan(self, scan: SyncProgress) -> Job:
        job = self._run(scan.kind.name.lower(), lambda job: self._scan(scan, job))  # type: ignore[arg-type]
        if scan.paused:
            job.pause()
        job.on_pause = lambda paused: self._paused(scan, paused)
        return job

    def _paused(self, scan: SyncProgress, paused: bool) -> None:
        """A scan that a person holds stays held after a restart."""
        scan.paused = paused
        Task(self._keep_pause())

    async def _keep_pause(self) -> None:
        with suppress(DiskFailed):
            if self._volume.history is not None:
                await self._volume.history.checkpoint()

    async def _scan(self, scan: SyncProgress, job: Job) -> None:
        volume, history = self._volume, self._volume.require_history()
        try:
            synchroniser = self._synchronising()
            ended = await synchroniser.scan(scan, job, self._pace(job))
            await self._seal_scan(ended.first_copy)
        except Cancelled:
            if job.stopped == "cancelled":
                history.chain.scan = None  # nobody wants it any more
                history.journal.cut(MapKind.HOST)
                await history.checkpoint()
            raise
        finally:
            self.tell_suspects()
        if job.bytes_different:
            volume.emit(
                events.DIFFERENCES,
                volume=volume.name,
                kind=job.kind,
                different=job.bytes_different,
                copied=job.bytes_copied,
            )
        synchroniser.raise_unreadable(ended.unreadable)

    # Saying so durably

    @asynccontextmanager
    async def _at_rest(self) -> AsyncIterator[tuple[History, WritePath]]:
        """At a moment between two writes, with everything flushed on both disks."""
        history, path = self._volume.require_history(), self._volume.path
        assert path is not None
        try:
            await path.rest()
            await path.flush_both()
            yield history, path
            await history.checkpoint()
        finally:
            if self._volume.history is history:
                path.end_rest()

    async def _seal_sync(self) -> None:
        """Both disks are equal."""
        volume = self._volume
        async with self._at_rest() as (history, path):
            if volume.log.out_of_sync():
                return  # marked meanwhile: the next tick goes on
            chain = history.chain
            if chain.incomplete_from:
                self._note_gap(chain.incomplete_from, "the secondary was away")
                chain.incomplete_from = 0
                chain.end_gaps()
                chain.raise_floor(chain.floor, chain.floor_time)  # out of the gap
            if not chain.baseline_whole:
                chain.baseline_whole = True
                # Not next_write: what has gathered meanwhile is on neither disk.
                chain.raise_floor(path.completed_write, volume.clock.wall_ns())
            history.journal.close_map(MapKind.HOST)
        if volume.log.out_of_sync() or history.chain.incomplete_from:
            return  # damage came to light just now
        volume.protection = Protection.PROTECTED
        volume.emit(events.VOLUME_PROTECTED, volume=volume.name)

    async def _seal_scan(self, first_copy: int) -> None:
        """A scan has ended; what it copied, from that write on if any, is the fix-up delta map."""
        async with self._at_rest() as (history, _):
            chain = history.chain
            equal = chain.scan is not None and chain.scan.kind is ScanKind.FULL
            if equal and not self._volume.log.out_of_sync():
                # What was different was suspect up to the first copy, and is right at the end.
                last = first_copy - 1 if first_copy else chain.newest_write
                chain.suspects = chain.suspects.closed(last)
            if first_copy and chain.newest_write >= first_copy:
                self._note_gap(first_copy, "a synchronisation repaired blocks")
            history.journal.close_map(MapKind.HOST)
            chain.scan = None

    def _note_gap(self, first: int, reason: str) -> None:
        """From a write on to the one before the newest, which is a point again."""
        volume = self._volume
        chain = volume.require_history().chain
        gap = Gap(first, chain.newest_write - 1, reason, volume.clock.wall_ns())
        if gap.to_write < first:
            return
        chain.add_gap(gap)
        volume.emit(
            events.GAP_OPENED,
            volume=volume.name,
            from_write=gap.from_write,
            to_write=gap.to_write,
            reason=gap.reason,
        )

    def tell_suspects(self) -> None:
        """Raise the alert of suspect points, or take it back."""
        volume, history = self._volume, self._volume.history
        if history is None:
            return
        suspects = history.chain.suspects
        if not suspects:
            volume.alert(events.SUSPECTS, None)
            return
        first, last = suspects.span()
        until = "now" if last == OPEN else f"write {last}"
        text = f"points from write {first} to {until} may not match what the host had"
        volume.alert(events.SUSPECTS, text)

    # Restores

    async def plan_restore(self, point: Point, force: bool = False) -> RestorePlan:
        """What putting the point back would do.

        NoRoom if history cannot take it, PointSuspect unless a person forces it.
        """
        history = self._volume.require_history()
        if self._volume.protection is not Protection.PROTECTED:
            raise VolumeNotReady(
                volume=self._volume.name, state=self._volume.state, reason="it is not in sync"
            )
        if not force:
            history.chain.check_trusted(point.write, point.text)
        planned = await restore.plan(history, point, self._volume.sector)
        restore.check_room(history, planned)
        return planned

    def restore(self, planned: RestorePlan, send_hosts_away: Callable[[], Awaitable[None]]) -> Job:
        """Put the point back, after the hosts are gone; who stays gets EIO meanwhile."""
        self._volume.require_history()
        return self._run("restore", lambda job: self._restore(planned, send_hosts_away, job))

    async def _restore(
        self,
        planned: RestorePlan,
        send_hosts_away: Callable[[], Awaitable[None]],
        job: Job,
    ) -> None:
        volume = self._volume
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
            await restore.run(history, volume.path, volume.log, planned, job)
        finally:
            history.let_go(hold)
            self.close_or_open()
        volume.emit(events.RESTORED, volume=volume.name, point=planned.point.text, write=before)

    def close_or_open(self) -> None:
        """Hosts are let in, unless a restore is owed."""
        volume = self._volume
        volume.closed_to_hosts = volume.log.restoring
        text = "hosts are kept out until the interrupted restore is done, or given up"
        volume.alert(events.RESTORE_OWED, text if volume.closed_to_hosts else None)

    async def finish_restore(self) -> None:
        """Go on with the restore that is owed, and wait; if that fails, it stays owed."""
        await self._run("restore", self._restore_again).finished

    async def _restore_again(self, job: Job) -> None:
        volume = self._volume
        path, history, log = volume.path, volume.history, volume.log
        assert path is not None
        assert history is not None
        job.must_end = True
        self.close_or_open()
        try:
            if history.chain.restoring is None:
                await restore.end(history, path, log)  # it was done, but for saying so
                return
            write, first = history.chain.restoring
            point = Point(write, None, f"write:{write}")
            planned = await restore.plan(history, point, volume.sector)
            await restore.run(history, path, log, planned, job, again=True)
        finally:
            self.close_or_open()
        volume.emit(events.RESTORED, volume=volume.name, point=point.text, write=first - 1)

    async def give_up_restore(self) -> None:
        """Take the volume as it is, half restored, and let hosts in; durable when this returns.

        A restore that runs is stopped.  What it had written stays, and is
        undone by restoring to the write before it.
        """
        volume = self._volume
        if not volume.log.restoring:
            raise VolumeNotReady(
                volume=volume.name, state=volume.state, reason="it owes no restore"
            )
        if volume.path is None or volume.service is Service.OFFLINE:
            raise VolumeNotReady(
                volume=volume.name, state=volume.state, reason="it is not in service"
            )
        self._giving_up = True
        try:
            if (job := volume.job) is not None:
                job.cancel()
                await job.finished
            # Its last writes may be under way; and what hosts read is not undone by a power cut.
            await volume.path.settled(volume.path.next_write - 1)
            await volume.path.flush_both()
            await restore.end(volume.history, volume.path, volume.log)
        finally:
            self._giving_up = False
        self.close_or_open()
