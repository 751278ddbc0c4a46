"""The jobs of one volume: its synchronisations, and what is owed, one at a time.

What is owed (a restore that was interrupted, a baseline, a resync, a scan) is
started without being asked, as soon as it can run.  One that a person holds
comes back held; of one that a person cancels see `owed_sync`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count

from appliance import events
from appliance.cdp.chain import Chain
from appliance.cdp.delta_map import MapKind
from appliance.cdp.extents import Extents
from appliance.cdp.history import History
from appliance.cdp.job_runner import JobRunner
from appliance.cdp.jobs import Job, JobKind
from appliance.cdp.owed_sync import OwedSync
from appliance.cdp.pace import Pace
from appliance.cdp.points import Gap
from appliance.cdp.policies import Throttle
from appliance.cdp.restore_jobs import RestoreJobs
from appliance.cdp.suspects import OPEN
from appliance.cdp.sync_progress import ScanKind, SyncProgress
from appliance.cdp.synchronise import Synchroniser
from appliance.cdp.tasks import Cancelled, Task
from appliance.cdp.volume import Protection, Service, Volume
from appliance.cdp.write_path import WritePath
from appliance.errors import DiskFailed, DiskUnreadable, JobRunning, VolumeNotReady

LONGEST_RETRY_TICKS = 300
"""Seconds of housekeeping between two attempts of a synchronisation that keeps failing."""


class VolumeJobs:
    """`numbers` gives each job of the appliance its own."""

    def __init__(self, volume: Volume, numbers: "count[int]") -> None:
        self._volume = volume
        self._runner = JobRunner(volume, numbers)
        self.restores = RestoreJobs(volume, self._runner)
        self.synchroniser: Synchroniser | None = None
        """Set with the secondary."""
        self.lacking = "the secondary was away"
        """Why the history does not have all that the primary has; a gap's reason."""
        self._retry_ticks = 1
        self._ticks_to_retry = 0
        self._owed = OwedSync(volume)

    async def interrupt(self) -> None:
        """Stop the running job, if any, and wait for its end; what is owed goes on later."""
        job = self._volume.job
        if job is not None:
            job.interrupt()
            await job.finished

    # What is owed

    def tick(self) -> None:
        """What is out of sync is synchronised.

        Once a second.  After a failure it is tried again, at longer and longer intervals.
        """
        last = self._volume.last_job
        if last is None or last.result != "failed":
            self._retry_ticks = 1
        elif self._ticks_to_retry:
            self._ticks_to_retry -= 1
            return
        else:
            self._retry_ticks = min(2 * self._retry_ticks, LONGEST_RETRY_TICKS)
            self._ticks_to_retry = self._retry_ticks
        self.continue_syncing()
        self._owed.tell()
        self.tell_suspects()  # folding may have taken the last of them

    def continue_syncing(self) -> None:
        """Start what is owed, if it can run now: first what keeps the hosts out.

        A scan that a person holds is set aside for what the volume's protection waits for.
        """
        volume = self._volume
        history = volume.history
        if history is None or volume.service is not Service.ONLINE:
            return
        owed, job = self._owed.kind(history), volume.job
        if owed and job is not None and job.kind in ("full", "verify") and job.is_held:
            job.interrupt()
        if volume.job is not None:
            return
        if volume.log.restoring:
            if not self.restores.giving_up:
                self.restores.go_on()
        elif owed is not None:
            if not self._owed.is_declined(history):
                self._run_owed(owed, history)
        else:
            if history.chain.paused:
                self._note_pause(history.chain, False)  # what it held has ended meanwhile
            if history.chain.scan is not None:
                self._run_scan(history.chain.scan)

    # Synchronisations

    def synchronise(self, kind: JobKind) -> Job:
        """`resync` looks only at what may differ, `full` compares and repairs everything,
        `verify` compares and reports."""
        volume = self._volume
        history = volume.require_history()
        if kind == "resync" and volume.protection is Protection.SYNCING:
            self._owed.want()
            self.continue_syncing()
            if volume.job is not None:
                return volume.job
        if volume.protection is not Protection.PROTECTED:
            reason = self._owed.reason(history)
            raise VolumeNotReady(volume=volume.name, state=volume.state, reason=reason)
        if kind == "resync":
            return self._run_owed(kind, history)
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

    def _run_owed(self, kind: JobKind, history: History) -> Job:
        """Also a resync that nothing but a person has asked for."""
        self._owed.want()
        work = self._baseline if kind == "baseline" else self._resync
        job = self._runner.run(kind, work, history.chain.paused)
        job.on_pause = lambda paused: self._note_pause(history.chain, paused)
        job.finished.when_finished(lambda: self._owed_ended(job, history))
        return job

    def _owed_ended(self, job: Job, history: History) -> None:
        """If a person has cancelled it, it is not started again by itself, and not held."""
        if job.result == "cancelled" and self._volume.history is history:
            self._note_pause(history.chain, False)
            self._owed.decline(history)

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
        kind: JobKind = "full" if scan.kind is ScanKind.FULL else "verify"
        job = self._runner.run(kind, lambda job: self._scan(scan, job), scan.paused)
        job.on_pause = lambda paused: self._note_pause(scan, paused)
        return job

    def _note_pause(self, held: SyncProgress | Chain, paused: bool) -> None:
        """What a person holds stays held after a restart."""
        held.paused = paused
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
            await self._seal_scan(ended.first_copy, ended.unreadable)
        except Cancelled:
            if job.stopped == "cancelled":
                history.chain.scan = None  # nobody wants it any more
                history.journal.cut(MapKind.HOST)
                await history.checkpoint()
            raise
        except DiskUnreadable:
            history.chain.scan = None  # it would only fail again, as soon as the disk is back
            with suppress(DiskFailed):
                await history.checkpoint()
            raise
        finally:
            self.tell_suspects()
            if job.bytes_different and history.chain.scan is None:
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
                self._note_gap(chain.incomplete_from, self.lacking)
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

    async def _seal_scan(self, first_copy: int, unreadable: Extents) -> None:
        """A scan has ended; what it copied, from that write on if any, is the fix-up delta map.

        Of what was `unreadable` it has not found out anything.
        """
        async with self._at_rest() as (history, _):
            chain = history.chain
            equal = chain.scan is not None and chain.scan.kind is ScanKind.FULL
            if equal and not self._volume.log.out_of_sync():
                # What was different was suspect up to the first copy, and is right at the end.
                last = first_copy - 1 if first_copy else chain.newest_write
                chain.suspects = chain.suspects.closed(last, unreadable)
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
