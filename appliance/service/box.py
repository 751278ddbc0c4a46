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
from appliance.cdp.tasks import Task
from appliance.cdp.volume import Volume
from appliance.config import ProtectionSettings
from appliance.drivers.disk import RawDisk
from appliance.errors import BadRequest, DiskNotEmpty, JobNotFound, VolumeExists
from appliance.event_log import Event, EventLog
from appliance.loop import Loop
from appliance.operators.interfaces import AttachedDisk, View
from appliance.service import adoption
from appliance.service.assembly import Assembly
from appliance.service.bays import Bay, Bays


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
        self.bays = Bays(
            loop, self.pool, log.emit, settings.disk_deadline_seconds, clock.monotonic_ns
        )
        self._assembly = Assembly(loop, clock, self.pool, self.bays, log.emit, settings)
        self.exports = self._assembly.exports
        self._loop = loop
        self._clock = clock
        self._log = log
        self._settings = settings

    async def close(self) -> None:
        """All volumes out of service in order, all disks closed."""
        await self._assembly.close()

    @property
    def volumes(self) -> Mapping[str, Volume]:
        return {name: lifecycle.volume for name, lifecycle in self._assembly.lifecycles.items()}

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

    async def protect(self, name: str, primary_id: str, secondary_id: str, consent: bool) -> None:
        adoption.check_name(name)
        if name in self._assembly.lifecycles:
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
            for disk, ours_from in ((primary, planned.volume_size), (secondary, 0)):
                await adoption.check_free(self._loop, self.pool, disk, ours_from, consent)
            await pair.format_pair(primary, secondary, planned, self.pool)
        except BaseException:
            for disk in disks:
                await self.bays.close(disk)
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
        return await self._assembly.lifecycle(name).jobs.plan_restore(point, force)

    def restore(self, name: str, plan: RestorePlan) -> Job:
        job = self._assembly.lifecycle(name).jobs.restore(
            plan, lambda: self.exports.disconnect(name, "it is being restored")
        )
        job.finished.when_finished(lambda: self.exports.admit(name))
        return job

    async def give_up_restore(self, name: str) -> None:
        await Task(self._assembly.lifecycle(name).jobs.give_up_restore())  # whoever goes away

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
