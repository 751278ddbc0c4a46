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

from collections.abc import Callable
from contextlib import suppress
from errno import ENODEV
from itertools import count

from appliance import events
from appliance.cdp import disk_io, recovery, retention, superblock
from appliance.cdp.head_check import agrees_with_head
from appliance.cdp.history import History
from appliance.cdp.housekeeping import Housekeeping
from appliance.cdp.interfaces import Clock, Disk, Post
from appliance.cdp.memory import BufferPool
from appliance.cdp.pair import check_pair
from appliance.cdp.rescue import read_from_secondary
from appliance.cdp.superblock import Superblock
from appliance.cdp.synchronise import Synchroniser
from appliance.cdp.tasks import Task
from appliance.cdp.volume import Protection, Service, Volume
from appliance.cdp.volume_jobs import VolumeJobs
from appliance.cdp.write_path import Ack, WritePath
from appliance.errors import DiskFailed, EbbtideError, FormatDamaged, VolumeNotReady

LONGEST_RETRY_TICKS = 300
"""Seconds of housekeeping between two attempts of a synchronisation that keeps failing."""


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
        self.jobs = VolumeJobs(self.volume, job_numbers)
        self._housekeeping = Housekeeping(self.volume, self._ticked)
        self._log_is_whole = False
        self._unsettled = 0
        self._retry_ticks = 1
        self._ticks_to_retry = 0
        self._losing: Task[None] | None = None
        self._attaching = False
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
            chain = volume.history.chain if volume.history else None
            if chain is not None and chain.restoring is not None:
                await self.jobs.finish_restore(chain.restoring[0])
        except BaseException:
            volume.service = Service.OFFLINE
            volume.history = volume.secondary = None
            raise
        volume.service = Service.ONLINE
        if self._unsettled:
            self._emit(
                events.VOLUME_RECOVERED,
                volume=volume.name,
                seconds=round((self._clock.monotonic_ns() - began) / 1e9, 3),
                regions=self._unsettled,
            )
        self._emit(events.VOLUME_ONLINE, volume=volume.name, state=volume.protection.value)
        self._housekeeping.start()
        self.jobs.continue_syncing()

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
        self.jobs.continue_syncing()

    async def _attach(self, secondary: Disk, first: bool) -> None:
        volume = self.volume
        theirs = await superblock.load(secondary, self._pool)
        if theirs is None:
            raise FormatDamaged(what=f"superblock of {secondary.identity.id}", reason="no trace")
        check_pair(volume.superblock, theirs, secondary.identity.id)
        history = await recovery.read_history(
            secondary, volume.superblock.for_peer(), self._post, self._clock, self._pool, volume
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
        self.jobs.synchroniser = Synchroniser(volume.primary, history, log, path, self._pool)
        if first:
            await self._look_for_other_writers(history)
            await recovery.take_stock(history, log, self._log_is_whole)
            volume.history, volume.secondary = history, secondary  # a repair may have to fold
            await recovery.settle(history, log, path, self.jobs.synchroniser)
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
        if volume.history is not history:
            reason = "it failed while it was being attached"
            raise DiskFailed(disk=secondary.identity.id, reason=reason)
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

    def _ticked(self) -> None:
        """What is out of sync is synchronised, unless a person said no.

        After a failure it is tried again, at longer and longer intervals.
        """
        last = self.volume.last_job
        owed = last is not None and last.kind in ("baseline", "resync")
        if last is not None and owed and last.result == "cancelled":
            return
        if last is None or last.result != "failed":
            self._retry_ticks = 1
        elif self._ticks_to_retry:
            self._ticks_to_retry -= 1
            return
        else:
            self._retry_ticks = min(2 * self._retry_ticks, LONGEST_RETRY_TICKS)
            self._ticks_to_retry = self._retry_ticks
        self.jobs.continue_syncing()

    def _listen(self, path: WritePath) -> None:
        path.on_secondary_error = self._secondary_failed
        path.on_primary_error = self._primary_failed
        path.on_no_room = self._housekeeping.no_room
        path.on_crowded = self._housekeeping.crowded

    # Out of protection, out of service

    def _secondary_failed(self, error: OSError) -> None:
        self._losing = Task(self._lose_secondary(str(error)))
        self._losing.when_finished(self._lost)

    async def _lose_secondary(self, reason: str) -> None:
        """The write path is paused: make tracking durable, then go on with it."""
        volume = self.volume
        volume.protection = Protection.TRACKING
        secondary, volume.secondary, volume.history = volume.secondary, None, None
        if volume.job is not None:
            volume.job.cancel()
        self._housekeeping.drop_chores()
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
            return
        self._emit(events.PRIMARY_TROUBLE, volume=volume.name, reason=str(error))
        size = volume.superblock.region_size
        regions: list[int] = list(range(offset // size, -(-(offset + length) // size)))
        if not length:
            # A failed flush may have dropped anything that no flush has covered yet.
            regions = list(volume.log.active)
        if volume.protection is Protection.PROTECTED:
            volume.protection = Protection.SYNCING
        Task(self._mark(regions))

    async def _mark(self, regions: list[int]) -> None:
        """The disks differ there.  If that cannot be written down either, the intents stay."""
        with suppress(DiskFailed):
            await self.volume.log.set_out_of_sync(regions)
        self.jobs.continue_syncing()

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
        self._housekeeping.stop()
        volume.alert(events.VOLUME_OFFLINE, f"the primary failed: {reason}")
        self._emit(events.VOLUME_OFFLINE, volume=volume.name, reason=reason)
        self.on_primary_lost(volume.primary)

    async def stop(self) -> None:
        """Out of service in order: nothing is left to settle at the next start."""
        volume = self.volume
        self._housekeeping.stop()
        await self.jobs.cancel()
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
