"""The bays: which disks are attached, which of them are ours, and who holds them open.

A disk that appears is opened, asked for a superblock, and closed again unless
it has one: what is not ours stays free for others.  A disk that failed is
closed, and opened anew once the kernel has given everything back; one that
keeps failing, or coming and going, is held off for longer and longer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance import events
from appliance.cdp import superblock
from appliance.cdp.memory import BufferPool
from appliance.cdp.superblock import Superblock
from appliance.cdp.tasks import Completion, Task
from appliance.drivers.device import open_device
from appliance.drivers.discovery import FoundDisk
from appliance.drivers.disk import RawDisk
from appliance.drivers.kernel_queue import KernelQueue
from appliance.drivers.smart import NOT_ASKED, Health
from appliance.errors import DiskFailed, DiskInUse, DiskNotFound, EbbtideError
from appliance.loop import Loop

HOLD_OFF_SECONDS = 2.0
LONGEST_HOLD_OFF_SECONDS = 300.0
STEADY_SECONDS = 60.0
"""A disk that served so long has earned a short hold-off again."""
CLOSING_SECONDS = 0.1


Claim = tuple[bytes, int]
"""The set that a disk belongs to, and its role in it."""


@dataclass(slots=True, eq=False)
class Bay:
    """One attached disk.  `disk` is open only while it is ours; `trouble` is for people."""

    found: FoundDisk
    attached: bool = True
    disk: RawDisk | None = None
    superblock: Superblock | None = None
    trouble: str = ""
    hold_off: float = HOLD_OFF_SECONDS
    opened_ns: int = 0
    held_off: bool = False
    """A look at it is due."""
    claim: "Claim | None" = None
    """What it said that it is when it was last looked at; it need not be open."""
    contested: bool = False
    """Another disk says the same of itself, and nobody knows which is right."""
    probe: Task[None] | None = None
    opening: int = 0
    """Attempts to open it that are under way."""
    health: Health = NOT_ASKED

    @property
    def id(self) -> str:
        return self.found.identity.id


class Bays:
    """Listens to a discovery; tells `on_arrived` of every disk, `on_ready` of ours, and `on_gone`
    when one of ours is pulled."""

    def __init__(
        self,
        loop: Loop,
        pool: BufferPool,
        emit: events.Emit,
        deadline: float,
        now_ns: Callable[[], int],
    ) -> None:
        self._loop = loop
        self._queue = KernelQueue(loop)
        self._pool = pool
        self._emit = emit
        self._deadline = deadline
        self._now_ns = now_ns
        self._bays: dict[tuple[str, str], Bay] = {}
        self._opened: list[RawDisk] = []
        self._restless: dict[str, float] = {}
        """By disk id, for how many seconds one that was pulled soon is held off when it is back."""
        self.on_ready: Callable[[Bay], None] = lambda bay: None
        self.on_arrived: Callable[[Bay], None] = lambda bay: None
        self.on_gone: Callable[[Bay], None] = lambda bay: None

    def all(self) -> list[Bay]:
        return sorted(self._bays.values(), key=lambda bay: bay.id)

    def rivals(self, bay: Bay) -> list[Bay]:
        """The other attached disks that say the same of themselves."""
        return [other for other in self.all() if other is not bay and other.claim == bay.claim]

    @property
    def looking(self) -> bool:
        """Is a look at some disk under way?"""
        return any(bay.probe is not None and not bay.probe.finished for bay in self._bays.values())

    def find(self, name: str) -> Bay:
        """The disk that people mean by an id, a serial number or a WWN.

        Raises DiskNotFound, or DiskInUse if the machine itself uses it.
        """
        named = [bay for bay in self._bays.values() if bay.id == name] or [
            bay
            for bay in self._bays.values()
            if name and name in (bay.found.identity.serial, bay.found.identity.wwn)
        ]
        if len(named) != 1:
            raise DiskNotFound(disk=name)
        if named[0].found.in_use is not None:
            raise DiskInUse(disk=name, reason=named[0].found.in_use)
        return named[0]

    # What discovery tells

    def disk_appeared(self, disk: FoundDisk) -> None:
        bay = Bay(disk)
        self._bays[disk.identity.node, disk.incarnation] = bay
        self._emit(events.DISK_ARRIVED, disk=disk.identity.id, node=disk.identity.node)
        delay = self._restless.get(bay.id, 0.0)
        if delay:
            bay.trouble, bay.held_off = "it comes and goes, and is held off", True
            self._loop.after(delay, lambda: self._probe_again(bay))
        else:
            self.probe(bay)
        self.on_arrived(bay)

    def disk_disappeared(self, disk: FoundDisk) -> None:
        bay = self._bays.pop((disk.identity.node, disk.incarnation), None)
        if bay is None:
            return
        bay.attached = False
        self._emit(events.DISK_LEFT, disk=bay.id)
        if bay.disk is not None:
            self._note_restless(bay)
            bay.disk.close()
        if bay.claim is not None:
            self.on_gone(bay)

    def _note_restless(self, bay: Bay) -> None:
        """It may be pulled and put back once; who does it again and again has a bad contact."""
        before = self._restless.pop(bay.id, None)
        if self._now_ns() - bay.opened_ns <= STEADY_SECONDS * 1e9:
            longer = 0.0 if before is None else max(HOLD_OFF_SECONDS, 2 * before)
            self._restless[bay.id] = min(LONGEST_HOLD_OFF_SECONDS, longer)

    def disk_changed(self, disk: FoundDisk) -> None:
        bay = self._bays.get((disk.identity.node, disk.incarnation))
        if bay is None:
            return
        bay.found = disk
        if bay.disk is None and bay.id not in self._restless:
            self.probe(bay)

    # Opening and closing

    def probe(self, bay: Bay) -> None:
        """Look whether the disk is ours."""
        if bay.found.in_use is not None or (bay.probe is not None and not bay.probe.finished):
            return
        bay.probe = Task(self._probe(bay))

    async def _probe(self, bay: Bay) -> None:
        try:
            disk = await self.open(bay)
            bay.trouble = ""
        except EbbtideError as error:
            bay.trouble = str(error)
            self._hold_off(bay)  # others look at a disk that arrives, too
            return
        try:
            bay.superblock = await superblock.load(disk, self._pool)
            bay.claim = _claim(bay.superblock)
        except EbbtideError as error:
            bay.trouble = str(error)
            self._emit(events.DISK_REFUSED, disk=bay.id, reason=str(error))
            if isinstance(error, DiskFailed):
                self._hold_off(bay)
        if bay.superblock is None or not bay.attached:
            await self.close(disk)
        else:
            self.own(bay, disk)
            self.on_ready(bay)

    async def looked_at(self, bay: Bay) -> None:
        """Wait until a look at the disk that is under way is over, and the disk let go of."""
        if bay.probe is not None:
            await bay.probe

    async def open(self, bay: Bay) -> RawDisk:
        """Open the disk for us alone; raises DiskInUse, DiskNotFound or DiskFailed."""
        identity, block = bay.found.identity, bay.found.logical_block
        bay.opening += 1
        try:
            device = await self._loop.offload(
                lambda: open_device(Path(identity.node), identity.id, block)
            )
        finally:
            bay.opening -= 1
        disk = RawDisk(device, identity, self._queue, self._deadline)
        self._opened = [one for one in self._opened if not one.closed] + [disk]
        return disk

    def requests(self) -> list[tuple[int, str]]:
        """The oldest request under way of each open disk: its number, and the disk's id."""
        return [(disk.oldest, disk.identity.id) for disk in self._opened if disk.oldest is not None]

    def own(self, bay: Bay, disk: RawDisk) -> None:
        """The disk is ours, and stays open."""
        bay.disk, bay.opened_ns = disk, self._now_ns()
        bay.trouble, bay.claim = "", _claim(bay.superblock)

    async def close(self, disk: RawDisk) -> None:
        """Close a disk and wait until the kernel has given everything back."""
        disk.close()
        while not disk.closed:
            tick: Completion[None] = Completion()
            self._loop.after(CLOSING_SECONDS, lambda tick=tick: tick.succeed(None))  # type: ignore[misc]
            await tick

    def look_anew(self, bay: Bay) -> None:
        """Close a disk that is none the worse, and read it again from its media."""
        disk, bay.disk, bay.superblock = bay.disk, None, None
        if disk is not None:
            Task(self._recycle(bay, disk, 0))

    def recycle(self, bay: Bay) -> None:
        """The disk failed, or was lost: say so, close it, hold it off, and look at it anew."""
        self._tell_failure(bay)
        disk, bay.disk, bay.superblock = bay.disk, None, None
        if self._now_ns() - bay.opened_ns > STEADY_SECONDS * 1e9:
            bay.hold_off = HOLD_OFF_SECONDS
        delay = bay.hold_off
        bay.hold_off = min(LONGEST_HOLD_OFF_SECONDS, 2 * delay)
        bay.trouble = "it failed, and is held off"
        if disk is not None:
            Task(self._recycle(bay, disk, delay))

    def _tell_failure(self, bay: Bay) -> None:
        """One that was pulled, or is only too slow, has not failed."""
        disk = bay.disk
        if disk is None or not bay.attached:
            return
        if disk.silent:
            self._emit(events.DISK_FENCED, disk=bay.id, seconds=self._deadline)
        elif disk.fault:
            self._emit(events.DISK_FAILED, disk=bay.id, reason=disk.fault)

    async def _recycle(self, bay: Bay, disk: RawDisk, delay: float) -> None:
        await self.close(disk)
        self._loop.after(delay, lambda: self._probe_again(bay))

    def _probe_again(self, bay: Bay) -> None:
        bay.held_off = False
        if bay.attached and bay.disk is None:
            self.probe(bay)

    def _hold_off(self, bay: Bay) -> None:
        if bay.held_off:
            return
        bay.held_off = True
        self._loop.after(bay.hold_off, lambda: self._probe_again(bay))
        bay.hold_off = min(LONGEST_HOLD_OFF_SECONDS, 2 * bay.hold_off)


def _claim(found: Superblock | None) -> Claim | None:
    return None if found is None else (found.set_id, found.role)
