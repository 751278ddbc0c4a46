"""Losing a disk of a volume in service: the secondary, and it tracks; the primary, and it is over.

Invariants:

* Before the first write is acknowledged without the secondary, every region
  with an intent is durably out of sync and the primary durably bears a new
  generation (`go_alone`).
* Of a volume whose primary was lost nothing is attached, started or let on any
  more: it comes back as a new one.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from appliance import events
from appliance.cdp import superblock
from appliance.cdp.housekeeping import Housekeeping
from appliance.cdp.interfaces import Disk
from appliance.cdp.tasks import Task
from appliance.cdp.volume import Protection, Service, Volume
from appliance.errors import DiskFailed, EbbtideError


async def go_alone(volume: Volume, regions: Iterable[int]) -> None:
    """Make durable what serving hosts without the secondary needs; these regions differ."""
    await volume.log.set_out_of_sync(regions)
    volume.log.drop_tracked()
    volume.superblock = volume.superblock.child()
    await superblock.store(volume.primary, volume.pool, volume.superblock)


class Losses:
    """Of one volume.  `continue_syncing` is called when more has come to differ."""

    def __init__(
        self,
        volume: Volume,
        housekeeping: Housekeeping,
        continue_syncing: Callable[[], None],
    ) -> None:
        self.on_secondary_lost: Callable[[Disk], None] = lambda disk: None
        self.on_primary_lost: Callable[[Disk], None] = lambda disk: None
        self.primary_is_lost = False
        self.stopping = False
        """The volume goes out of service in order, and owes its hosts answers yet."""
        self._volume = volume
        self._housekeeping = housekeeping
        self._continue_syncing = continue_syncing
        self._losing: Task[None] | None = None

    async def secondary_settled(self) -> None:
        """If the secondary is being lost, wait until the volume is tracking, or offline."""
        if self._losing is not None:
            with suppress(EbbtideError):
                await self._losing

    def require_primary(self) -> None:
        """DiskFailed if it was lost since."""
        if self.primary_is_lost:
            reason = "it was lost while the volume was brought into service"
            raise DiskFailed(disk=self._volume.primary.identity.id, reason=reason)

    # The secondary

    def secondary_failed(self, error: OSError) -> None:
        """The write path is paused; `track` follows, as soon as it may."""
        self._losing = Task(self._lose_secondary(str(error)))
        self._losing.when_finished(self._lost)

    async def _lose_secondary(self, reason: str) -> None:
        """Make tracking durable, then go on with it."""
        volume = self._volume
        volume.protection = Protection.TRACKING
        secondary, volume.secondary, volume.history = volume.secondary, None, None
        if volume.job is not None:
            volume.job.interrupt()
        self._housekeeping.drop_chores()
        assert volume.path is not None
        await go_alone(volume, volume.log.active)
        if not self.primary_is_lost:
            volume.path.track()
            volume.alert(events.SECONDARY_LOST, f"writes are only tracked: {reason}")
            volume.emit(events.SECONDARY_LOST, volume=volume.name, reason=reason)
        if secondary is not None:
            self.on_secondary_lost(secondary)

    def _lost(self) -> None:
        assert self._losing is not None
        try:
            self._losing.result()
        except EbbtideError as error:
            self.go_offline(str(error))

    # The primary

    def primary_failed(self, error: OSError, offset: int, length: int) -> None:
        """It refused these bytes, or a flush, or is gone."""
        volume = self._volume
        if volume.primary.fenced:
            self.go_offline(str(error))
            return
        volume.emit(events.PRIMARY_TROUBLE, volume=volume.name, reason=str(error))
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
            await self._volume.log.set_out_of_sync(regions)
        self._continue_syncing()

    def go_offline(self, reason: str) -> None:
        """The primary is lost.  What is in sync can still be read from the secondary."""
        volume = self._volume
        if self.primary_is_lost or (volume.service is Service.OFFLINE and not self.stopping):
            return
        self.primary_is_lost = True
        volume.service = Service.OFFLINE
        if volume.path is not None:
            volume.log.doubt(volume.path.unsettled_regions())
            volume.path.abandon()
        if volume.job is not None:
            volume.job.interrupt()
        self._housekeeping.stop()
        if self.stopping:
            return  # what was owed to hosts is answered; the rest is the affair of who stops it
        volume.alert(events.VOLUME_OFFLINE, f"the primary failed: {reason}")
        volume.emit(events.VOLUME_OFFLINE, volume=volume.name, reason=reason)
        self.on_primary_lost(volume.primary)
