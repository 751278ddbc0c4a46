"""The box: volumes made of the disks in its bays, and what operators can ask of them.

A volume starts when its primary is there: at once with its secondary, without
it after a while, tracking.  A disk that comes back is given to its volume
again without being asked; one that does not belong is left alone and said so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from appliance import events
from appliance.cdp import disk_io, format, pair, superblock
from appliance.cdp.interfaces import Clock, Disk
from appliance.cdp.jobs import Job
from appliance.cdp.lifecycle import Lifecycle, Orders
from appliance.cdp.memory import BufferPool
from appliance.cdp.points import Point
from appliance.cdp.restore import RestorePlan
from appliance.cdp.superblock import Superblock
from appliance.cdp.tasks import Task
from appliance.cdp.volume import Volume
from appliance.cdp.write_path import Ack
from appliance.config import ProtectionSettings
from appliance.drivers.disk import RawDisk
from appliance.drivers.signatures import first_free_byte, foreign_signatures
from appliance.errors import (
    BadRequest,
    DiskNotEmpty,
    EbbtideError,
    JobNotFound,
    NeedsConsent,
    VolumeExists,
    VolumeNotFound,
    WrongDisk,
)
from appliance.event_log import Event, EventLog
from appliance.hosts.nbd.exports import Exports
from appliance.loop import Loop, LoopTimer
from appliance.operators.interfaces import AttachedDisk, View
from appliance.service.bays import Bay, Bays
from appliance.service.exports import VolumeExports

NAME_BYTES = 64


@dataclass(slots=True, eq=False)
class Slot:
    """The disks of one volume set that are here, and the volume once it has started."""

    name: str
    primary: Bay | None = None
    secondary: Bay | None = None
    lifecycle: Lifecycle | None = None
    waiting: LoopTimer | None = None
    starting: Task[None] | None = None


class Box:
    """The `Appliance` of the operators' rooms."""

    def __init__(
        self,
        loop: Loop,
        clock: Clock,
        log: EventLog,
        settings: ProtectionSettings,
    ) -> None:
        self.emit = log.emit
        self.pool = BufferPool()
        self._loop = loop
        self._clock = clock
        self._log = log
        self._settings = settings
        self._orders = Orders()
        self._job_numbers = count(1)
        self._slots: dict[bytes, Slot] = {}
        self._lifecycles: dict[str, Lifecycle] = {}
        self.bays = Bays(
            loop, self.pool, log.emit, settings.disk_deadline_seconds, clock.monotonic_ns
        )
        self.bays.on_ready = self._disk_ready
        self.bays.on_gone = self._disk_gone
        self._views = VolumeExports(self._lifecycles, log.emit)
        self.exports = Exports(self._views)

    # Disks make volumes

    def _disk_ready(self, bay: Bay) -> None:
        found = bay.superblock
        assert found is not None
        slot = self._slots.setdefault(found.set_id, Slot(found.name))
        if found.role == format.PRIMARY:
            if slot.primary is not None and slot.primary.disk is not None:
                self._refuse(bay, "its volume has its primary already")
                return
            slot.primary = bay
        else:
            if slot.secondary is not None and slot.secondary.disk is not None:
                self._refuse(bay, "its volume has its secondary already")
                return
            slot.secondary = bay
        self._match(slot)

    def _refuse(self, bay: Bay, reason: str) -> None:
        bay.trouble = reason
        self.emit(events.DISK_REFUSED, disk=bay.id, reason=reason)
        disk, bay.disk = bay.disk, None
        if disk is not None:
            Task(self.bays.close(disk))

    def _match(self, slot: Slot) -> None:
        """Start the volume, or give it back its secondary, as far as the disks are here."""
        if slot.starting is not None and not slot.starting.finished:
            return
        if slot.primary is None or slot.primary.disk is None:
            return
        has_secondary = slot.secondary is not None and slot.secondary.disk is not None
        if slot.lifecycle is not None:
            if slot.lifecycle.volume.primary is not slot.primary.disk:
                self._begin(slot, self._restart(slot))
            elif has_secondary and slot.lifecycle.volume.secondary is None:
                self._begin(slot, self._attach(slot))
        elif has_secondary:
            self._begin(slot, self._start(slot, with_secondary=True))
        elif slot.waiting is None:
            wait = self._settings.wait_for_secondary_seconds
            slot.waiting = self._loop.after(wait, lambda: self._waited(slot))

    def _waited(self, slot: Slot) -> None:
        slot.waiting = None
        if slot.lifecycle is None and slot.primary is not None and slot.primary.disk is not None:
            self._begin(slot, self._start(slot, with_secondary=False))

    def _begin(self, slot: Slot, work: Any) -> None:
        slot.starting = Task(work)
        slot.starting.when_finished(lambda: self._begun(slot))

    def _begun(self, slot: Slot) -> None:
        """What came or went meanwhile counts now."""
        assert slot.starting is not None
        try:
            slot.starting.result()
        except EbbtideError as error:
            self.emit(events.VOLUME_OFFLINE, volume=slot.name, reason=str(error))
        else:
            self._loop.post(lambda: self._match(slot))

    async def _start(self, slot: Slot, with_secondary: bool) -> None:
        assert slot.primary is not None
        primary, found = slot.primary.disk, slot.primary.superblock
        assert primary is not None
        assert found is not None
        if slot.waiting is not None:
            slot.waiting.cancel()
            slot.waiting = None
        if found.name in self._lifecycles:
            self._refuse(slot.primary, f"there is another volume called {found.name}")
            return
        lifecycle = Lifecycle(
            primary,
            found,
            self._loop,
            self._clock,
            self.pool,
            self.emit,
            self._orders,
            self._job_numbers,
        )
        lifecycle.on_secondary_lost = lambda disk: self._secondary_lost(slot, disk)
        lifecycle.on_primary_lost = lambda disk: self._primary_lost(slot)
        slot.lifecycle = lifecycle
        self._lifecycles[found.name] = lifecycle
        secondary = slot.secondary.disk if with_secondary and slot.secondary else None
        try:
            await lifecycle.start(secondary)
        except WrongDisk as error:
            lifecycle.volume.alert(error.code, str(error))
            raise
        except EbbtideError as error:
            if secondary is None:
                self._start_failed(slot, lifecycle, error)
                raise
            # Its history cannot be read: hosts come first.
            assert slot.secondary is not None
            self.emit(events.DISK_REFUSED, disk=slot.secondary.id, reason=str(error))
            self._drop_secondary(slot)
            try:
                await lifecycle.start(None)
            except EbbtideError as error_alone:
                self._start_failed(slot, lifecycle, error_alone)
                raise

    def _start_failed(self, slot: Slot, lifecycle: Lifecycle, error: EbbtideError) -> None:
        """The primary does not do its part: it is held off, and tried again."""
        lifecycle.volume.alert(events.VOLUME_OFFLINE, str(error))
        self._primary_lost(slot)

    async def _restart(self, slot: Slot) -> None:
        """The primary is back: both disks are read anew, as after a crash."""
        lifecycle = slot.lifecycle
        assert lifecycle is not None
        self._views.drop_all(slot.name)
        await self.exports.disconnect(slot.name, "its primary came back")
        self.exports.admit(slot.name)
        slot.lifecycle = None
        del self._lifecycles[slot.name]
        secondary = lifecycle.volume.secondary
        if secondary is not None and slot.secondary is not None:
            self.bays.look_anew(slot.secondary)
            slot.secondary = None

    async def _attach(self, slot: Slot) -> None:
        lifecycle = slot.lifecycle
        assert lifecycle is not None
        assert slot.secondary is not None
        assert slot.secondary.disk is not None
        try:
            await lifecycle.attach(slot.secondary.disk)
        except WrongDisk as error:
            self._refuse(slot.secondary, str(error))
            slot.secondary = None
        except EbbtideError as error:
            self.emit(events.DISK_REFUSED, disk=slot.secondary.id, reason=str(error))
            self._drop_secondary(slot)
        else:
            self.emit(events.SECONDARY_BACK, volume=slot.name)

    def _drop_secondary(self, slot: Slot) -> None:
        bay, slot.secondary = slot.secondary, None
        if bay is not None:
            self.bays.recycle(bay)

    def _secondary_lost(self, slot: Slot, disk: Disk) -> None:
        if disk.fenced:
            seconds = self._settings.disk_deadline_seconds
            self.emit(events.DISK_FENCED, disk=disk.identity.id, seconds=seconds)
        self._views.drop_all(slot.name)
        self._drop_secondary(slot)

    def _primary_lost(self, slot: Slot) -> None:
        bay, slot.primary = slot.primary, None
        if bay is not None:
            self.bays.recycle(bay)

    def _disk_gone(self, bay: Bay) -> None:
        for slot in self._slots.values():
            if slot.primary is bay and slot.lifecycle is not None:
                slot.lifecycle.primary_gone()
            elif slot.secondary is bay and slot.lifecycle is not None:
                slot.lifecycle.secondary_gone()
            if slot.primary is bay:
                slot.primary = None
            if slot.secondary is bay:
                slot.secondary = None
                self._go_on_without(slot)

    def _go_on_without(self, slot: Slot) -> None:
        """If its secondary was what kept a volume from starting, it starts now."""
        lifecycle = slot.lifecycle
        starting = slot.starting is not None and not slot.starting.finished
        if lifecycle is not None and lifecycle.volume.path is None and not starting:
            slot.lifecycle = None
            del self._lifecycles[slot.name]
            self._match(slot)

    # What operators look at

    @property
    def volumes(self) -> Mapping[str, Volume]:
        return {name: lifecycle.volume for name, lifecycle in self._lifecycles.items()}

    def disks(self) -> Sequence[AttachedDisk]:
        return [self._describe(bay) for bay in self.bays.all()]

    def _describe(self, bay: Bay) -> AttachedDisk:
        found, ours = bay.found, bay.superblock
        role = {format.PRIMARY: "primary", format.SECONDARY: "secondary"}.get(
            ours.role if ours else 0, ""
        )
        used = found.in_use if bay.disk is None else None
        state = used or bay.trouble or ("in service" if bay.disk is not None else "free")
        return AttachedDisk(
            identity=found.identity,
            size=bay.disk.size if bay.disk else found.size,
            logical_block=bay.disk.logical_block if bay.disk else found.logical_block,
            physical_block=bay.disk.physical_block if bay.disk else found.physical_block,
            direct=bay.disk.direct if bay.disk else True,
            role=role,
            volume=ours.name if ours else None,
            state=state,
        )

    def events(self, volume: str | None, after: int, limit: int) -> Sequence[Event]:
        return self._log.events(volume, after, limit)

    def _lifecycle(self, name: str) -> Lifecycle:
        lifecycle = self._lifecycles.get(name)
        if lifecycle is None:
            raise VolumeNotFound(volume=name)
        return lifecycle

    # Making and unmaking volumes

    async def protect(self, name: str, primary_id: str, secondary_id: str, consent: bool) -> None:
        _check_name(name)
        if name in self._lifecycles:
            raise VolumeExists(volume=name)
        bays = [self.bays.find(primary_id), self.bays.find(secondary_id)]
        if bays[0] is bays[1]:
            raise BadRequest(reason="primary and secondary are the same disk")
        disks: list[RawDisk] = []
        try:
            for bay in bays:
                await self.bays.looked_at(bay)
                if bay.superblock is not None:
                    raise DiskNotEmpty(
                        disk=bay.id, reason=f"it belongs to volume '{bay.superblock.name}'"
                    )
                disks.append(await self.bays.open(bay))
            primary, secondary = disks
            planned = superblock.plan(name, primary, secondary, self._clock.wall_ns())
            await self._check_free(primary, planned.volume_size, consent)
            await self._check_free(secondary, 0, consent)
            await pair.format_pair(primary, secondary, planned, self.pool)
        except BaseException:
            for disk in disks:
                await self.bays.close(disk)
            raise
        slot = self._slots[planned.set_id] = Slot(name)
        for bay, disk, own in zip(bays, disks, (planned, planned.for_peer()), strict=True):
            bay.superblock = own
            self.bays.own(bay, disk)
        slot.primary, slot.secondary = bays
        await self._start(slot, with_secondary=True)
        self.emit(events.VOLUME_CREATED, volume=name, primary=primary_id, secondary=secondary_id)
        if self._settings.ack == "primary":
            await self.set_ack(name, self._settings.ack)
        volume = self._lifecycles[name].volume
        if planned.segment_count * planned.segment_size < planned.volume_size:
            volume.alert(
                events.HISTORY_SMALL,
                "the history is smaller than the volume: overwriting all of it"
                " would push out every earlier point",
            )

    async def _check_free(self, disk: RawDisk, ours_from: int, consent: bool) -> None:
        """DiskNotEmpty if something known reaches into what we would write from `ours_from` on,
        NeedsConsent if something unknown does."""
        identity, block = disk.identity, disk.logical_block
        found = await self._loop.offload(
            lambda: foreign_signatures(Path(identity.node), identity.id, block)
        )
        free = first_free_byte(found, disk.size)
        if found and free > ours_from:
            kinds = ", ".join(sorted({signature.kind for signature in found}))
            reason = f"it carries {kinds}"
            if ours_from:
                reason += f" up to byte {free}; shrink that to {ours_from} bytes or less"
            raise DiskNotEmpty(disk=identity.id, reason=reason)
        if consent:
            return
        tail = await disk_io.read_bytes(
            disk, self.pool, max(ours_from, disk.size - disk_io.TRANSFER) // 4096 * 4096, 4096
        )
        head = await disk_io.read_bytes(disk, self.pool, ours_from, 4096)
        if any(tail) or any(head):
            what = "everything" if not ours_from else f"everything behind byte {ours_from}"
            raise NeedsConsent(consequence=f"{what} on disk {identity.id} is overwritten")

    async def release(self, name: str) -> None:
        """Hosts are sent away, and both disks lose their superblocks."""
        lifecycle = self._lifecycle(name)
        slot = next(slot for slot in self._slots.values() if slot.lifecycle is lifecycle)
        await self._retire(slot, lifecycle, "it is being released")
        for bay in (slot.primary, slot.secondary):
            if bay is not None and bay.disk is not None and bay.superblock is not None:
                await _wipe(bay.disk, bay.superblock, self.pool)
                disk, bay.disk, bay.superblock = bay.disk, None, None
                await self.bays.close(disk)
        self._slots = {key: other for key, other in self._slots.items() if other is not slot}
        self.exports.admit(name)
        self.emit(events.VOLUME_RELEASED, volume=name)

    async def _retire(self, slot: Slot, lifecycle: Lifecycle, reason: str) -> None:
        self._views.drop_all(slot.name)
        await self.exports.disconnect(slot.name, reason)
        await lifecycle.stop()
        self._lifecycles.pop(slot.name, None)
        slot.lifecycle = None

    async def close(self) -> None:
        """All volumes out of service in order, all disks closed."""
        for slot in self._slots.values():
            if slot.waiting is not None:
                slot.waiting.cancel()
            if slot.lifecycle is not None:
                try:
                    await self._retire(slot, slot.lifecycle, "the service stops")
                except EbbtideError as error:
                    self.emit(events.VOLUME_OFFLINE, volume=slot.name, reason=str(error))
        for bay in self.bays.all():
            if bay.disk is not None:
                bay.disk.close()

    # What operators do

    def synchronise(self, name: str, kind: Literal["full", "resync", "verify"]) -> Job:
        return self._lifecycle(name).jobs.synchronise(kind)

    async def plan_restore(self, name: str, point: Point) -> RestorePlan:
        return await self._lifecycle(name).jobs.plan_restore(point)

    def restore(self, name: str, plan: RestorePlan) -> Job:
        job = self._lifecycle(name).jobs.restore(
            plan, lambda: self.exports.disconnect(name, "it is being restored")
        )
        job.finished.when_finished(lambda: self.exports.admit(name))
        return job

    def pause_job(self, name: str, paused: bool) -> None:
        job = self._lifecycle(name).volume.job
        if job is None:
            raise JobNotFound(job=f"of volume {name}")
        if paused:
            job.pause()
        else:
            job.go_on()

    async def set_ack(self, name: str, ack: str) -> None:
        await self._lifecycle(name).set_ack(Ack[ack.upper()])
        self.emit(events.POLICY_CHANGED, volume=name, setting="ack", value=ack)

    async def create_view(self, volume: str, point: str) -> View:
        return await self._views.create(volume, point)

    def list_views(self) -> Sequence[View]:
        return self._views.created()

    async def drop_view(self, name: str) -> None:
        await self.exports.disconnect(name, "the view is dropped")
        self._views.drop(name)
        self.exports.admit(name)


def _check_name(name: str) -> None:
    """BadRequest unless it fits the superblock and the name of an export."""
    fits = 0 < len(name.encode()) <= NAME_BYTES
    if not fits or not name.isprintable() or any(c in "@/: " for c in name):
        raise BadRequest(reason=f"'{name}' cannot be the name of a volume")


async def _wipe(disk: Disk, ours: Superblock, pool: BufferPool) -> None:
    for offset in superblock.copies(ours.role, disk.size):
        await disk_io.write_bytes(disk, pool, offset, bytes(format.PAGE), durable=True)
    if ours.role == format.SECONDARY:
        await disk_io.write_bytes(disk, pool, 0, bytes(format.PAGE), durable=True)
