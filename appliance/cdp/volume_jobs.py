"""The jobs of one volume: the synchronisations and the restore, one at a time.

What is owed (a restore that was interrupted, a baseline, a resync) is started
without being asked, as soon as it can run.
"""

from collections.abc import Awaitable, Callable
from errno import EIO
from itertools import count

from appliance import events
from appliance.cdp import recovery, restore
from appliance.cdp.jobs import Job, JobKind, Result
from appliance.cdp.points import Gap, Point
from appliance.cdp.restore import RestorePlan
from appliance.cdp.synchronise import Synchroniser
from appliance.cdp.tasks import Cancelled, Task
from appliance.cdp.volume import Protection, Service, Volume
from appliance.cdp.write_path import Mode
from appliance.errors import EbbtideError, JobRunning, VolumeNotReady


class VolumeJobs:
    """`numbers` gives each job of the appliance its own."""

    def __init__(self, volume: Volume, numbers: "count[int]") -> None:
        self._volume = volume
        self._numbers = numbers
        self.synchroniser: Synchroniser | None = None
        """Set with the secondary."""
        self._giving_up = False

    async def cancel(self) -> None:
        """Cancel the running job, if any, and wait for its end."""
        job = self._volume.job
        if job is not None:
            job.cancel()
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
                outcome = ("cancelled", None)
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

    def _synchronising(self) -> Synchroniser:
        assert self.synchroniser is not None
        return self.synchroniser

    async def _baseline(self, job: Job) -> None:
        await self._synchronising().baseline(job)
        await self._seal_sync()

    async def _resync(self, job: Job) -> None:
        # Flush and retire first: what is settled need not be listed, nor looked at.
        assert self._volume.path is not None
        await self._volume.path.retire()
        await self._synchronising().resync(job)
        await self._seal_sync()

    async def _seal_sync(self) -> None:
        """Both disks are equal: at a moment without writes in flight, say so durably."""
        volume, history, path = self._volume, self._volume.history, self._volume.path
        assert history is not None
        assert path is not None
        path.pause()
        try:
            await path.drain()
            await recovery.flush_both(path)
            # Marked meanwhile, or in the middle of a write, which is no point: the next tick
            # goes on.
            if volume.log.out_of_sync() or history.journal.mid_write:
                return
            chain = history.chain
            if chain.incomplete_from:
                gap = Gap(
                    chain.incomplete_from,
                    chain.newest_write - 1,
                    "the secondary was away",
                    self._volume.clock.wall_ns(),
                )
                chain.add_gap(gap)
                self._volume.emit(
                    events.GAP_OPENED,
                    volume=volume.name,
                    from_write=gap.from_write,
                    to_write=gap.to_write,
                    reason=gap.reason,
                )
                chain.incomplete_from = 0
                chain.end_gaps()
                chain.raise_floor(chain.floor, chain.floor_time)  # out of the gap
            if not chain.baseline_whole:
                chain.baseline_whole = True
                # Not next_write: what has gathered meanwhile is on neither disk.
                chain.raise_floor(path.completed_write, self._volume.clock.wall_ns())
                if not history.journal.mid_write:
                    history.journal.close_map()
            await history.checkpoint()
        finally:
            if volume.history is history and path.mode is Mode.PAUSED:
                path.resume()
        volume.protection = Protection.PROTECTED
        self._volume.emit(events.VOLUME_PROTECTED, volume=volume.name)

    def synchronise(self, kind: JobKind) -> Job:
        """`resync` looks only at what may differ, `full` compares and repairs everything,
        `verify` compares and reports."""
        volume = self._volume
        volume.require_history()
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
        only_report = kind == "verify"
        return self._run(kind, lambda job: self._synchronising().scan(job, only_report))

    async def plan_restore(self, point: Point) -> RestorePlan:
        """What putting the point back would do; NoRoom if history cannot take it."""
        history = self._volume.require_history()
        if self._volume.protection is not Protection.PROTECTED:
            raise VolumeNotReady(
                volume=self._volume.name, state=self._volume.state, reason="it is not in sync"
            )
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
            await self.cancel()
            # Its last writes may be under way; and what hosts read is not undone by a power cut.
            await volume.path.settled(volume.path.next_write - 1)
            await recovery.flush_both(volume.path)
            await restore.end(volume.history, volume.path, volume.log)
        finally:
            self._giving_up = False
        self.close_or_open()
