"""The box: what operators can ask of the appliance, met by its bays and volumes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from appliance import events
from appliance.cdp import format, pair, superblock
from appliance.cdp.interfaces import Clock
from appliance.cdp.jobs import Job
from appliance.cdp.memory import BufferPool
from appliance.cdp.points import Point
from appliance.cdp.policies import Ack, Throttle
from appliance.cdp.restore import RestorePlan
from appliance.cdp.superblock import Superblock
from appliance.cdp.tasks import Task
from appliance.cdp.volume import Volume
from appliance.config import ProtectionSettings
from appliance.drivers.disk import RawDisk
from appliance.errors import (
    BadRequest,
    DiskNotEmpty,
    FormatTooNew,
    JobNotFound,
    NeedsConsent,
    VolumeExists,
)
from appliance.event_log import Event, EventLog
from appliance.loop import Loop
from appliance.operators.interfaces import AbsentVolume, AttachedDisk, LabelledDisk, View
from appliance.service import adoption
from appliance.service.assembly import Assembly
from appliance.service.bays import Bay, Bays
from appliance.service.health import HealthWatch
from appliance.service.image import Image


class Box:
    """The `Appliance` of the operators' rooms."""

    def __init__(
        self,
        loop: Loop,
        clock: Clock,
        log: EventLog,
        settings: ProtectionSettings,
        image: Image | None = None,
    ) -> None:
        self.emit = log.emit
        self.image = image
        self.pool = BufferPool()
        self.bays = Bays(
            loop, self.pool, log.emit, settings.disk_deadline_seconds, clock.monotonic_ns
        )
        self._health = HealthWatch(loop, self.bays, log.emit)
        self._assembly = Assembly(loop, clock, self.pool, self.bays, log.emit, settings)
        self.exports = self._assembly.exports
        self._loop = loop
        self._clock = clock
        self._log = log
        self._settings = settings

    async def close(self) -> None:
        """All volumes out of service in order, all disks closed."""
        self._health.close()
        await self._assembly.close()

    @property
    def volumes(self) -> Mapping[str, Volume]:
        return {name: lifecycle.volume for name, lifecycle in self._assembly.lifecycles.items()}

    def absent_volumes(self) -> Sequence[AbsentVolume]:
        sets: dict[bytes, list[Bay]] = {}
        for bay in self.bays.all():
            if bay.superblock is not None and bay.superblock.name not in self._assembly.lifecycles:
                sets.setdefault(bay.superblock.set_id, []).append(bay)
        return [self._describe_absent(bays) for bays in sets.values()]

    def _describe_absent(self, bays: list[Bay]) -> AbsentVolume:
        found = bays[0].superblock
        assert found is not None
        alerts = _contests(bays)
        if not alerts:
            awaited = self._assembly.awaited().get(found.name)
            troubles = [awaited] if awaited else [bay.trouble for bay in bays if bay.trouble]
            alerts = [(events.VOLUME_OFFLINE, text) for text in troubles]
        return AbsentVolume(
            name=found.name,
            size=found.volume_size,
            primary=_only(bays, format.PRIMARY),
            secondary=_only(bays, format.SECONDARY),
            alerts=alerts,
        )

    def disk_alerts(self, volume: str) -> Sequence[tuple[str, str]]:
        bays = [
            bay
            for bay in self.bays.all()
            if bay.superblock is not None and bay.superblock.name == volume
        ]
        failing = [
            (events.DISK_FAILING, f"disk {bay.id} says that it is failing: {bay.health.reason}")
            for bay in bays
            if bay.disk is not None and bay.health.verdict == "failing"
        ]
        return [*_contests(bays), *failing]

    def disks(self) -> Sequence[AttachedDisk]:
        return [self._describe(bay) for bay in self.bays.all()]

    def _describe(self, bay: Bay) -> AttachedDisk:
        found, ours = bay.found, bay.superblock
        role = {format.PRIMARY: "primary", format.SECONDARY: "secondary"}.get(
            ours.role if ours else 0, ""
        )
        used = found.in_use if bay.disk is None else None
        here = "" if bay.disk is None else self._assembly.waits(bay) or "in service"
        state = used or bay.trouble or here or "free"
        return AttachedDisk(
            identity=found.identity,
            size=bay.disk.size if bay.disk else found.size,
            logical_block=bay.disk.logical_block if bay.disk else found.logical_block,
            physical_block=bay.disk.physical_block if bay.disk else found.physical_block,
            direct=bay.disk.direct if bay.disk else True,
            role=role,
            volume=ours.name if ours else None,
            state=state,
            health=bay.health,
        )

    def events(self, volume: str | None, after: int, limit: int) -> Sequence[Event]:
        return self._log.events(volume, after, limit)

    async def protect(
        self, name: str, primary_id: str, secondary_id: str, *, consent: bool, wipe: str | None
    ) -> None:
        adoption.check_name(name)
        if name in self._assembly.lifecycles:
            raise VolumeExists(volume=name)
        bays = [self.bays.find(primary_id), self.bays.find(secondary_id)]
        if bays[0] is bays[1]:
            raise BadRequest(reason="primary and secondary are the same disk")
        wiped = wipe is not None and self.bays.find(wipe) is bays[1]
        if wipe is not None and not wiped:
            raise BadRequest(reason=f"wipe: {wipe} is not the secondary; no other disk is wiped")
        disks: list[RawDisk] = []
        try:
            disks.append(await self._take(bays[0]))
            remedy = adoption.wiping_remedy(bays[1].id)
            disks.append(await self._take(bays[1], remedy, wiped))
            primary, secondary = disks
            planned = superblock.plan(name, primary, secondary, self._clock.wall_ns())
            loses = [
                await adoption.check_primary(self._loop, self.pool, primary, planned.volume_size),
                await adoption.check_secondary(self._loop, self.pool, secondary, wiped),
            ]
            if any(loses) and not consent:
                raise NeedsConsent(consequence="; ".join(filter(None, loses)))
            if wiped:
                await self._wipe(secondary)
            await pair.format_pair(primary, secondary, planned, self.pool)
        except BaseException:
            for disk in disks:
                await self.bays.close(disk)
            if wiped and bays[1].disk is None:
                self.bays.probe(bays[1])  # it may be a volume's still
            raise
        for bay, disk, own in zip(bays, disks, (planned, planned.for_peer()), strict=True):
            bay.superblock = own
            self.bays.own(bay, disk)
        lifecycle = await self._assembly.add(name, planned.set_id, *bays)
        self.emit(events.VOLUME_CREATED, volume=name, primary=primary_id, secondary=secondary_id)
        if self._settings.ack == "primary":
            await self.set_policies(name, {"ack": self._settings.ack})
        if planned.segment_count * planned.segment_size < planned.volume_size:
            lifecycle.volume.alert(
                events.HISTORY_SMALL,
                "the history is smaller than the volume: overwriting all of it"
                " would push out every earlier point",
            )

    async def _take(self, bay: Bay, remedy: str | None = None, wiped: bool = False) -> RawDisk:
        """Open a disk for a role; DiskNotEmpty, with that remedy, if it is a volume's.

        One that is to be `wiped` is taken from a volume that is not in service.
        """
        await self.bays.looked_at(bay)
        if bay.superblock is not None:
            self._check_volume(bay.id, bay.superblock, remedy, wiped)
            self._assembly.forget(bay)
            disk, bay.disk, bay.superblock = bay.disk, None, None
            if disk is not None:
                await self.bays.close(disk)
        disk = await self.bays.open(bay)
        try:
            # One that failed and is held off has been forgotten; its volume has it all the same.
            await self._check_disk(disk, remedy, wiped)
        except BaseException:
            await self.bays.close(disk)
            raise
        return disk

    async def _check_disk(self, disk: RawDisk, remedy: str | None, wiped: bool) -> None:
        try:
            found = await adoption.volume_of(disk, self.pool)
        except FormatTooNew:
            if not wiped:
                raise
            return  # it cannot be in service here
        if found is not None:
            self._check_volume(disk.identity.id, found, remedy, wiped)

    def _check_volume(self, disk: str, found: Superblock, remedy: str | None, wiped: bool) -> None:
        reason = f"it belongs to volume '{found.name}'"
        if self._assembly.serves(found.set_id):
            reason += ", which is in service"
            remedy = f"choose another disk, or `cdpctl release {found.name}` first"
        elif wiped:
            return
        raise DiskNotEmpty(disk=disk, reason=reason, remedy=remedy)

    async def _wipe(self, disk: RawDisk) -> None:
        """By explicit word.  Its volume may have come into service since the disk was taken."""
        what = await adoption.carried(self._loop, self.pool, disk)
        await self._check_disk(disk, None, wiped=True)
        await adoption.make_blank(self._loop, disk)
        self.emit(events.DISK_WIPED, disk=disk.identity.id, what=what or "nothing known")

    async def release(self, name: str) -> None:
        """Hosts are sent away, and both disks lose their superblocks."""
        for bay in await self._assembly.remove(name, "it is being released"):
            if bay.disk is not None and bay.superblock is not None:
                await adoption.wipe(bay.disk, bay.superblock, self.pool)
                disk, bay.disk, bay.superblock = bay.disk, None, None
                await self.bays.close(disk)
        self.exports.admit(name)
        self.emit(events.VOLUME_RELEASED, volume=name)

    def synchronise(self, name: str, kind: Literal["full", "resync", "verify"]) -> Job:
        return self._assembly.lifecycle(name).jobs.synchronise(kind)

    async def plan_restore(self, name: str, point: Point, force: bool) -> RestorePlan:
        return await self._assembly.lifecycle(name).jobs.restores.plan(point, force)

    def restore(self, name: str, plan: RestorePlan) -> Job:
        job = self._assembly.lifecycle(name).jobs.restores.start(
            plan, lambda: self.exports.disconnect(name, "it is being restored")
        )
        job.finished.when_finished(lambda: self.exports.admit(name))
        return job

    async def give_up_restore(self, name: str) -> None:
        await Task(self._assembly.lifecycle(name).jobs.restores.give_up())  # whoever goes away

    def pause_job(self, name: str, paused: bool) -> None:
        job = self._assembly.lifecycle(name).volume.job
        if job is None:
            raise JobNotFound(job=f"of volume {name}")
        if paused:
            job.pause()
        else:
            job.go_on()

    async def set_policies(self, name: str, wanted: Mapping[str, str]) -> None:
        lifecycle = self._assembly.lifecycle(name)
        policies = lifecycle.volume.require_history().policies
        if "ack" in wanted:
            policies = replace(policies, ack=Ack[wanted["ack"].upper()])
        if "throttle" in wanted:
            try:
                policies = replace(policies, throttle=Throttle.parse(wanted["throttle"]))
            except ValueError as error:
                raise BadRequest(reason=f"throttle: {error}") from error
        await lifecycle.set_policies(policies)
        for setting, value in wanted.items():
            self.emit(events.POLICY_CHANGED, volume=name, setting=setting, value=value)

    async def create_view(self, volume: str, point: str) -> View:
        return await self._assembly.views.create(volume, point)

    def list_views(self) -> Sequence[View]:
        return self._assembly.views.created()

    async def drop_view(self, name: str) -> None:
        await self.exports.disconnect(name, "the view is dropped")
        self._assembly.views.drop(name)
        self.exports.admit(name)


def _contests(bays: list[Bay]) -> list[tuple[str, str]]:
    """The disks that claim to be what another one claims, too; all of them tell the same."""
    return [
        (events.DISK_REFUSED, text)
        for text in sorted({bay.trouble for bay in bays if bay.contested})
    ]


def _only(bays: list[Bay], role: int) -> LabelledDisk | None:
    """The one disk that has the role."""
    having = [bay for bay in bays if bay.superblock is not None and bay.superblock.role == role]
    return having[0].found if len(having) == 1 else None
