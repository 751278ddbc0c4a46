"""The life of a volume: into service, through the loss of its secondary, and out again.

    offline → recovering → online
                             │ protection: syncing → protected
                             │                ↑          │ the secondary fails
                             │                └─ tracking ┘
    online → offline: the primary fails, or the service stops

Invariants:

* Hosts are served (`ONLINE`) only after recovery has settled every intent, and
  after a restore that a crash interrupted has ended; if that cannot end now,
  the volume is online and closed to hosts until it has.
* A secondary that failed comes back only through its media: reopened by the
  service once nothing of it is outstanding, read like after a crash, resynced.

What is done as a disk fails is in `losses`.
"""

from collections.abc import Callable
from contextlib import suppress
from errno import EIO, ENODEV
from itertools import count

from appliance import events
from appliance.cdp import disk_io, recovery, retention, superblock
from appliance.cdp.head_check import belong_together
from appliance.cdp.housekeeping import Housekeeping
from appliance.cdp.interfaces import Clock, Disk, Post
from appliance.cdp.losses import Losses, go_alone
from appliance.cdp.memory import BufferPool
from appliance.cdp.overload import Overload
from appliance.cdp.pair import check_pair
from appliance.cdp.policies import Policies
from appliance.cdp.rescue import Rescue
from appliance.cdp.route import Watcher
from appliance.cdp.superblock import Superblock
from appliance.cdp.synchronise import Synchroniser
from appliance.cdp.volume import Protection, Service, Volume
from appliance.cdp.volume_jobs import VolumeJobs
from appliance.errors import DiskFailed, EbbtideError, FormatDamaged, VolumeNotReady


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
        rescue = Rescue(self.volume)
        self.volume.reads.rescue = rescue.read
        self.volume.reads.elsewhere = rescue.read_past_silence
        self._post = post
        self._clock = clock
        self._pool = pool
        self._emit = emit
        self._orders = orders
        self.jobs = VolumeJobs(self.volume, job_numbers)
        self._housekeeping = Housekeeping(self.volume, self._ticked)
        self.losses = Losses(self.volume, self._housekeeping, self._continue_syncing)
        self._watcher = Watcher(
            self.losses.secondary_failed,
            self.losses.primary_failed,
            self._housekeeping.no_room,
            self._housekeeping.crowded,
            Overload(self.volume).held_back,
        )
        self._log_is_whole = False
        self._unsettled = 0
        self._attaching = False

    # Into service

    async def start(self, secondary: Disk | None) -> None:
        """Take the volume into service, with its secondary or tracking without it.

        What is wrong with the secondary (WrongDisk, FormatDamaged, DiskFailed)
        is raised before anything is written; call again without it to track.
        """
        volume = self.volume
        self.losses.require_primary()
        volume.service = Service.RECOVERING
        began = self._clock.monotonic_ns()
        try:
            self._log_is_whole = await volume.log.load()
            self._unsettled = len(volume.log.active)
            if secondary is None:
                await self._start_tracking()
            else:
                await self._attach(secondary, first=True)
            if volume.log.restoring and volume.history is not None:
                await self.jobs.restores.finish()
                await self.losses.secondary_settled()
            self.losses.require_primary()
        except BaseException as error:
            if isinstance(error, EbbtideError):
                await self.losses.secondary_settled()
            volume.service = Service.OFFLINE
            volume.history = volume.secondary = None
            raise
        self.jobs.restores.close_or_open()
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
        await go_alone(volume, log.active if self._log_is_whole else everything)
        path = volume.new_write_path(max(1, log.ceiling), self._orders.next, self._watcher)
        volume.path = path
        volume.protection = Protection.TRACKING
        volume.alert(events.SECONDARY_LOST, "writes are only tracked: its secondary is not here")
        path.track()

    async def attach(self, secondary: Disk) -> None:
        """The secondary is back: read its media, and resync what differs."""
        tracking = self.volume.protection is Protection.TRACKING
        if not tracking or self.volume.secondary is not None or self._attaching:
            raise VolumeNotReady(
                volume=self.volume.name, state=self.volume.state, reason="it has its secondary"
            )
        self._attaching = True
        try:
            await self.losses.secondary_settled()  # its new generation is on its way yet
            await self._attach(secondary, first=False)
        except EbbtideError as error:
            await self._detach(secondary, error)
            raise
        finally:
            self._attaching = False
        self.jobs.continue_syncing()

    async def _detach(self, secondary: Disk, error: EbbtideError) -> None:
        """Nothing of a secondary that was half attached stays in use."""
        volume = self.volume
        if volume.secondary is secondary:
            assert volume.path is not None
            volume.path.lose_secondary(OSError(EIO, str(error)))
        await self.losses.secondary_settled()
        if self.losses.primary_is_lost:
            volume.history = volume.secondary = None

    async def _attach(self, secondary: Disk, first: bool) -> None:
        volume = self.volume
        theirs = await superblock.load(secondary, self._pool)
        if theirs is None:
            raise FormatDamaged(what=f"superblock of {secondary.identity.id}", reason="no trace")
        check_pair(volume.superblock, theirs, secondary.identity.id)
        history = await recovery.read_history(
            secondary, volume.superblock.for_peer(), self._post, self._clock, self._pool, volume
        )
        if volume.superblock.alone:  # before anything on the secondary bears its generation
            volume.superblock = volume.superblock.shared(theirs.generation)
            await superblock.store(volume.primary, self._pool, volume.superblock)
        await history.checkpoint()
        history.next_order = self._orders.rise(history.next_order)
        log = volume.log
        if not self._log_is_whole and theirs.generation == volume.superblock.generation:
            log.restoring |= history.chain.restoring is not None  # the slot that said so is gone
        if history.chain.restoring is not None and not log.restoring:
            # Done, or given up: what hosts have written since is not undone.  Durably, before
            # the disks are of one generation, for then the log may be lost, and this believed.
            history.chain.restoring = None
            await history.checkpoint()
        if first:
            volume.path = volume.new_write_path(
                max(history.chain.newest_write + 1, log.ceiling, history.chain.next_write),
                self._orders.next,
                self._watcher,
            )
        assert volume.path is not None
        path = volume.path
        path.reserve = 0
        path.ack = history.policies.ack
        self.jobs.synchroniser = Synchroniser(volume.primary, history, log, path, self._pool)
        trusted = self._log_is_whole and await belong_together(history, volume)
        if self._log_is_whole:
            self.jobs.lacking = "the secondary was away" if trusted else "the disks had parted"
        if first:
            await recovery.take_stock(history, log, trusted)
            volume.history, volume.secondary = history, secondary  # a repair may have to fold
            await recovery.settle(history, log, path, self.jobs.synchroniser)
        else:
            path.pause()
            await path.drain()
            try:
                # Only now: every write that was tracked must have its bit by then.
                await recovery.take_stock(history, log, trusted)
                self.losses.require_primary()
            except BaseException:
                if not self.losses.primary_is_lost:
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
        self.losses.require_primary()
        if not log.restoring:
            history.chain.restoring = None  # given up meanwhile
        path.reserve = retention.reserve(volume.superblock.segment_count)
        chain = history.chain
        behind = log.out_of_sync() or not chain.baseline_whole or chain.incomplete_from
        volume.protection = Protection.SYNCING if behind else Protection.PROTECTED
        volume.alert(events.SECONDARY_LOST, None)
        self.jobs.tell_suspects()

    def _ticked(self) -> None:
        if not self._attaching:  # which goes on by itself
            self.jobs.tick()

    def _continue_syncing(self) -> None:
        if not self._attaching:
            self.jobs.continue_syncing()

    # Out of service

    async def stop(self) -> None:
        """Out of service in order: nothing is left to settle at the next start."""
        volume = self.volume
        self._housekeeping.stop()
        await self.jobs.interrupt()
        serving = volume.service is Service.ONLINE
        self.losses.stopping = serving
        volume.service = Service.OFFLINE
        path = volume.path
        if path is None or not serving:
            return
        await path.drain()
        path.pause()
        await path.drain()
        history = volume.history
        if history is not None and not history.journal.mid_write:
            history.journal.close_map()
        if history is not None:
            await path.flush_both()
        if history is not None and volume.history is history:  # not lost meanwhile
            # Not those whose region differs, and the bitmap does not say so yet.
            volume.log.retire(path.completed_write, history.chain.newest_write)
            with suppress(DiskFailed):  # the next start follows the stream instead
                await history.checkpoint()
        volume.log.ceiling = path.next_write
        await volume.log.store_slot()

    def secondary_gone(self) -> None:
        """The disk was pulled."""
        path = self.volume.path
        if path is not None and self.volume.secondary is not None:
            path.lose_secondary(OSError(ENODEV, "it was pulled"))

    def primary_gone(self) -> None:
        """The disk was pulled."""
        self.losses.go_offline("it was pulled")

    # Policies

    async def set_policies(self, policies: Policies) -> None:
        """Durable when this returns; DiskFailed otherwise."""
        history, path = self.volume.require_history(), self.volume.path
        assert path is not None
        history.policies = policies
        await history.checkpoint()
        path.ack = policies.ack


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
