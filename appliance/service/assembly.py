"""Disks make volumes: the two disks of a set find each other, and their volume starts.

A volume starts when its primary is there: at once with its secondary, without
it after a while, tracking.  A disk that comes back is given to its volume
again without being asked; one that does not belong is left alone and said so.

Of several disks that say the same of themselves (copies of one another), the
one that the volume has been using stays its disk.  If it used none of them,
none is taken, for nobody can know which counts, until all but one are gone.
"""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from appliance import events
from appliance.cdp import format
from appliance.cdp.interfaces import Clock
from appliance.cdp.lifecycle import Lifecycle, Orders
from appliance.cdp.memory import BufferPool
from appliance.cdp.tasks import Task
from appliance.config import ProtectionSettings
from appliance.errors import EbbtideError, VolumeNotFound, WrongDisk
from appliance.events import Emit
from appliance.hosts.nbd.exports import Exports
from appliance.loop import Loop, LoopTimer
from appliance.service.bays import Bay, Bays
from appliance.service.exports import VolumeExports

LOOKS = 50
LOOK_SECONDS = 0.02
"""Looks at other disks that are under way are waited for this often: one of them may be a twin."""


@dataclass(slots=True, eq=False)
class Slot:
    """The disks of one volume set that are here, and the volume once it has started."""

    name: str
    primary: Bay | None = None
    secondary: Bay | None = None
    lifecycle: Lifecycle | None = None
    waiting: LoopTimer | None = None
    starting: Task[None] | None = None
    refused: Bay | None = None
    """The secondary with which the volume would not start: it stays offline until that has gone."""
    used: dict[int, str] = field(default_factory=dict)
    """By role, the id of the disk that the volume has used last in this life of the service."""
    looks: int = 0
    """How often it has waited for looks at other disks."""


class Assembly:
    """The volumes of the box by name (`lifecycles`), and what hosts see of them (`exports`)."""

    def __init__(
        self,
        loop: Loop,
        clock: Clock,
        pool: BufferPool,
        bays: Bays,
        emit: Emit,
        settings: ProtectionSettings,
    ) -> None:
        self.lifecycles: dict[str, Lifecycle] = {}
        self.views = VolumeExports(self.lifecycles, self.awaited, emit)
        self.exports = Exports(self.views)
        self._loop = loop
        self._clock = clock
        self._pool = pool
        self._bays = bays
        self._emit = emit
        self._settings = settings
        self._orders = Orders()
        self._job_numbers = count(1)
        self._slots: dict[bytes, Slot] = {}
        bays.on_ready = self._disk_ready
        bays.on_gone = self._disk_gone

    def lifecycle(self, name: str) -> Lifecycle:
        """VolumeNotFound if there is none of this name."""
        lifecycle = self.lifecycles.get(name)
        if lifecycle is None:
            raise VolumeNotFound(volume=name)
        return lifecycle

    async def add(self, name: str, set_id: bytes, primary: Bay, secondary: Bay) -> Lifecycle:
        """Start the volume of a pair that has just been made."""
        slot = self._slots[set_id] = Slot(name, primary, secondary)
        await self._start(slot, with_secondary=True)
        return self.lifecycle(name)

    async def remove(self, name: str, reason: str) -> list[Bay]:
        """Take a volume out of service for good; returns the bays of its disks, still open."""
        lifecycle = self.lifecycle(name)
        key, slot = next(item for item in self._slots.items() if item[1].lifecycle is lifecycle)
        await self._retire(slot, lifecycle, reason)
        del self._slots[key]
        return [bay for bay in (slot.primary, slot.secondary) if bay is not None]

    def awaited(self) -> dict[str, str]:
        """The volumes that have a disk here and have not started, and what each waits for."""
        return {
            slot.name: f"it waits for its {'secondary' if slot.primary else 'primary'}"
            for slot in self._slots.values()
            if slot.lifecycle is None and (slot.primary or slot.secondary)
        }

    def serves(self, set_id: bytes) -> bool:
        """Is the volume of this set in service, or about to be?"""
        slot = self._slots.get(set_id)
        return slot is not None and (slot.primary is not None or slot.lifecycle is not None)

    def forget(self, bay: Bay) -> None:
        """A disk that waited alone for its volume, which is not in service, waits no more."""
        for set_id, slot in list(self._slots.items()):
            if slot.secondary is bay:
                assert not self.serves(set_id), "its volume is using it"
                del self._slots[set_id]

    async def _retire(self, slot: Slot, lifecycle: Lifecycle, reason: str) -> None:
        self.views.drop_all(slot.name)
        await self.exports.disconnect(slot.name, reason)
        await lifecycle.stop()
        self.lifecycles.pop(slot.name, None)
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
                    self._emit(events.VOLUME_OFFLINE, volume=slot.name, reason=str(error))
        for bay in self._bays.all():
            if bay.disk is not None:
                bay.disk.close()

    def waits(self, bay: Bay) -> str:
        """What a disk of ours waits for, in words; nothing if it is in service."""
        for slot in self._slots.values():
            if slot.lifecycle is None and bay in (slot.primary, slot.secondary):
                return f"waits for its {'secondary' if bay is slot.primary else 'primary'}"
        return ""

    def _disk_ready(self, bay: Bay) -> None:
        found = bay.superblock
        assert found is not None
        slot = self._slots.setdefault(found.set_id, Slot(found.name))
        if self._is_contested(slot, bay, found.role):
            return
        if found.role == format.PRIMARY:
            slot.primary = bay
        else:
            slot.secondary = bay
        self._loop.post(lambda: self._match(slot))

    def _is_contested(self, slot: Slot, bay: Bay, role: int) -> bool:
        """Is there another disk that is what this one says it is?  Then it is not taken."""
        rivals = self._bays.rivals(bay)
        used = slot.used.get(role)
        if not rivals or bay.id == used:
            return False
        word = "primary" if role == format.PRIMARY else "secondary"
        if any(rival.id == used for rival in rivals):
            self._refuse(bay, f"its volume has its {word} already, disk {used}")
            return True
        if role == format.PRIMARY:
            slot.primary = None
        else:
            slot.secondary = None
        claimants = [bay, *rivals]
        names = " and ".join(sorted(claimant.id for claimant in claimants))
        for claimant in claimants:
            if not claimant.contested or claimant.disk is not None:
                claimant.contested = True
                self._refuse(
                    claimant,
                    f"{names} each claim to be the {word} of volume '{slot.name}';"
                    " take out all but one",
                )
        return True

    def _look_at_last(self, gone: Bay) -> None:
        """Of disks that contested a role only one is left: it counts."""
        left = [bay for bay in self._bays.rivals(gone) if bay.contested]
        if len(left) == 1:
            left[0].contested = False
            self._bays.probe(left[0])

    def _refuse(self, bay: Bay, reason: str) -> None:
        bay.trouble = reason
        self._emit(events.DISK_REFUSED, disk=bay.id, reason=reason)
        disk, bay.disk = bay.disk, None
        if disk is not None:
            Task(self._bays.close(disk))

    def _match(self, slot: Slot) -> None:
        """Start the volume, or give it back its secondary, as far as the disks are here."""
        if slot.starting is not None and not slot.starting.finished:
            return
        if slot.primary is None or slot.primary.disk is None:
            return
        if self._bays.looking and slot.looks < LOOKS:
            slot.looks += 1
            self._loop.after(LOOK_SECONDS, lambda: self._match(slot))
            return
        slot.looks = 0
        has_secondary = slot.secondary is not None and slot.secondary.disk is not None
        if slot.lifecycle is not None:
            volume, refused = slot.lifecycle.volume, slot.refused
            if volume.primary is not slot.primary.disk or refused not in (None, slot.secondary):
                self._begin(slot, self._restart(slot))
            elif has_secondary and volume.secondary is None and refused is None:
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

    def _begin(self, slot: Slot, work: Coroutine[Any, Any, None]) -> None:
        slot.starting = Task(work)
        slot.starting.when_finished(lambda: self._begun(slot))

    def _begun(self, slot: Slot) -> None:
        """What came or went meanwhile counts now."""
        assert slot.starting is not None
        try:
            slot.starting.result()
        except EbbtideError as error:
            self._emit(events.VOLUME_OFFLINE, volume=slot.name, reason=str(error))
        self._loop.post(lambda: self._match(slot))

    async def _start(self, slot: Slot, with_secondary: bool) -> None:
        assert slot.primary is not None
        primary, found = slot.primary.disk, slot.primary.superblock
        assert primary is not None
        assert found is not None
        if slot.waiting is not None:
            slot.waiting.cancel()
            slot.waiting = None
        if found.name in self.lifecycles:
            self._refuse(slot.primary, f"there is another volume called {found.name}")
            return
        slot.used[format.PRIMARY] = slot.primary.id
        bay = slot.secondary if with_secondary else None
        if bay is not None:
            slot.used[format.SECONDARY] = bay.id
        lifecycle = Lifecycle(
            primary,
            found,
            self._loop,
            self._clock,
            self._pool,
            self._emit,
            self._orders,
            self._job_numbers,
        )
        lifecycle.losses.on_secondary_lost = lambda disk: self._secondary_lost(slot)
        lifecycle.losses.on_primary_lost = lambda disk: self._primary_lost(slot)
        slot.lifecycle = lifecycle
        self.lifecycles[found.name] = lifecycle
        secondary = None if bay is None else bay.disk
        try:
            await lifecycle.start(secondary)
        except WrongDisk as error:
            assert bay is not None
            lifecycle.volume.alert(error.code, str(error))
            slot.refused, bay.trouble = bay, str(error)
            self._emit(events.DISK_REFUSED, disk=bay.id, reason=str(error))
            del slot.used[format.SECONDARY]
            raise
        except EbbtideError as error:
            if secondary is None:
                self._start_failed(slot, lifecycle, error)
                raise
            # Its history cannot be read: hosts come first.
            self._emit(events.DISK_REFUSED, disk=secondary.identity.id, reason=str(error))
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
        """The primary is back, or the refused secondary gone: read anew, as after a crash."""
        lifecycle = slot.lifecycle
        assert lifecycle is not None
        self.views.drop_all(slot.name)
        await self.exports.disconnect(slot.name, "its disks are others now")
        self.exports.admit(slot.name)
        slot.lifecycle = slot.refused = None
        del self.lifecycles[slot.name]
        secondary = lifecycle.volume.secondary
        if secondary is not None and slot.secondary is not None:
            self._bays.look_anew(slot.secondary)
            slot.secondary = None

    async def _attach(self, slot: Slot) -> None:
        lifecycle = slot.lifecycle
        assert lifecycle is not None
        bay = slot.secondary
        assert bay is not None
        assert bay.disk is not None
        before, slot.used[format.SECONDARY] = slot.used.get(format.SECONDARY, ""), bay.id
        try:
            await lifecycle.attach(bay.disk)
        except WrongDisk as error:
            self._refuse(bay, str(error))
            slot.secondary, slot.used[format.SECONDARY] = None, before
        except EbbtideError as error:
            self._emit(events.DISK_REFUSED, disk=bay.id, reason=str(error))
            self._drop_secondary(slot)
        else:
            self._emit(events.SECONDARY_BACK, volume=slot.name)

    def _drop_secondary(self, slot: Slot) -> None:
        bay, slot.secondary = slot.secondary, None
        if bay is not None:
            self._bays.recycle(bay)

    def _secondary_lost(self, slot: Slot) -> None:
        self.views.drop_all(slot.name)
        self._drop_secondary(slot)

    def _primary_lost(self, slot: Slot) -> None:
        bay, slot.primary = slot.primary, None
        if bay is not None:
            self._bays.recycle(bay)

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
                self._match(slot)
        self._look_at_last(bay)
