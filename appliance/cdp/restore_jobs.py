"""The restores of one volume as jobs: planned, begun, gone on with, given up.

While one is owed (`restore` says what that means) hosts are kept out: here is
where they are let in again.
"""

from collections.abc import Awaitable, Callable

from appliance import events
from appliance.cdp import restore
from appliance.cdp.job_runner import JobRunner
from appliance.cdp.jobs import Job
from appliance.cdp.points import Point
from appliance.cdp.restore import RestorePlan
from appliance.cdp.volume import Protection, Service, Volume
from appliance.errors import VolumeNotReady


class RestoreJobs:
    """Of one volume."""

    def __init__(self, volume: Volume, runner: JobRunner) -> None:
        self.giving_up = False
        """A person does not want what is owed any more: it is not gone on with."""
        self._volume = volume
        self._runner = runner

    async def plan(self, point: Point, force: bool = False) -> RestorePlan:
        """What putting the point back would do.

        NoRoom if history cannot take it, PointSuspect unless a person forces it.
        """
        volume, history = self._volume, self._volume.require_history()
        if volume.protection is not Protection.PROTECTED:
            raise VolumeNotReady(volume=volume.name, state=volume.state, reason="it is not in sync")
        if not force:
            history.chain.check_trusted(point.write, point.text)
        planned = await restore.plan(history, point, volume.sector)
        restore.check_room(history, planned)
        return planned

    def start(self, planned: RestorePlan, send_hosts_away: Callable[[], Awaitable[None]]) -> Job:
        """Put the point back, after the hosts are gone; who stays gets EIO meanwhile."""
        self._volume.require_history()
        return self._runner.run(
            "restore", lambda job: self._put_back(planned, send_hosts_away, job)
        )

    async def _put_back(
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

    def go_on(self) -> Job:
        """With the restore that is owed; if that fails, it stays owed."""
        return self._runner.run("restore", self._put_back_again)

    async def finish(self) -> None:
        """Go on, and wait for the end, whatever it is."""
        await self.go_on().finished

    async def _put_back_again(self, job: Job) -> None:
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

    async def give_up(self) -> None:
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
        self.giving_up = True
        try:
            if (job := volume.job) is not None:
                job.cancel()
                await job.finished
            # Its last writes may be under way; and what hosts read is not undone by a power cut.
            await volume.path.settled(volume.path.next_write - 1)
            await volume.path.flush_both()
            await restore.end(volume.history, volume.path, volume.log)
        finally:
            self.giving_up = False
        self.close_or_open()
