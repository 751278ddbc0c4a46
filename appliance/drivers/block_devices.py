"""The kernel's disks, found through udev.

Whole disks only: what has hardware behind it, and loop devices with a file.
Memory disks, device-mapper, arrays and optical drives are none.  Attaching and
detaching a loop device is no `add` and `remove` but a `change`; a device
without a size has no medium and counts as absent.

A disk whose node the service may not open is foreign: udev's rules give it the disks in its bays,
and nothing else.  So the system's own disk, a stick with an update and the devices that are
made of it come and go without a word.  Whoever may open all of them (root) is told who uses them.

A disk that udev has not finished with has neither its label nor its permissions yet: it counts as
absent until the event that says so.  Told before, it would be known by a passing name, and be gone
and there again under its own a moment later, in the midst of being attached.
"""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import pyudev

from appliance.cdp.interfaces import SECTOR, DiskIdentity, Post
from appliance.drivers.discovery import Discovery, FoundDisk, Listener, printable
from appliance.drivers.occupancy import Occupancy, backing_file, read_text

UDEV: Final = Path("/run/udev/control")
"""There where udev runs."""
PERIOD_SECONDS: Final = 30.0
"""A look without cause: mounting tells no one, and the kernel drops events from a full queue."""


class EventLoop(Post, Protocol):
    """What hearing of events needs of the loop beyond `Post`."""

    def register(self, fd: int, on_readable: Callable[[], None] | None) -> None: ...

    def unregister(self, fd: int) -> None: ...


class BlockDevices(Discovery):
    """Discovery of the kernel's disks."""

    def __init__(self, loop: EventLoop, listener: Listener) -> None:
        self._events = loop
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        self._monitor.filter_by("block")
        self._monitor.start()
        self._monitor_fd: int = self._monitor.fileno()
        super().__init__(loop, listener, find_block_devices, PERIOD_SECONDS)
        loop.register(self._monitor_fd, self._on_event)

    def close(self) -> None:
        if not self._closed:
            self._events.unregister(self._monitor_fd)
        super().close()

    def _on_event(self) -> None:
        try:
            while self._monitor.poll(timeout=0) is not None:
                pass
        except OSError:  # ENOBUFS: events were dropped; which ones matters to no one
            pass
        self.stir()


def find_block_devices() -> list[FoundDisk]:
    """Every disk that is attached now, in the order of the kernel's names."""
    occupancy = Occupancy()
    context = pyudev.Context()  # one each: they must not be shared between threads
    disks = []
    for device in sorted(
        context.list_devices(subsystem="block", DEVTYPE="disk"), key=lambda found: found.sys_name
    ):
        place = Path(device.sys_path)
        size = int(read_text(place / "size") or 0) * SECTOR
        hidden = read_text(place / "hidden") == "1"  # one path of a multipath NVMe disk
        if size and not hidden and not device.properties.get("ID_CDROM"):
            identity = _identity(place, f"/dev/{device.sys_name}", device.properties)
            if identity is not None:
                disk = _found(place, identity, size, occupancy)
                if disk.in_use is not None or _is_settled(device):
                    disks.append(disk)
    return disks


def _is_settled(device: pyudev.Device) -> bool:
    """Is there nothing that udev will still say about it?  A loop device is known by its file."""
    hardware = Path(device.sys_path, "device").exists()
    return bool(device.is_initialized) or not hardware or not UDEV.exists()


def _identity(place: Path, node: str, properties: Mapping[str, str]) -> DiskIdentity | None:
    """The disk's label; None if this is no disk of ours to look at."""
    backing = backing_file(place)
    if backing is not None:
        if _is_block_device(backing):  # a disk in disguise
            return None
        return DiskIdentity(printable(Path(backing).stem), node, model="loop device")
    hardware = place / "device"
    if not hardware.exists():
        return None
    serial = (
        properties.get("ID_SCSI_SERIAL")
        or properties.get("ID_SERIAL_SHORT")
        or read_text(place / "serial")
        or read_text(hardware / "serial")
        or properties.get("ID_SERIAL", "")
    )
    wwn = (
        properties.get("ID_WWN_WITH_EXTENSION")
        or properties.get("ID_WWN")
        or read_text(place / "wwid")
        or read_text(hardware / "wwid")
    )
    model = properties.get("ID_MODEL") or read_text(hardware / "model")
    return DiskIdentity(
        printable(properties.get("ID_SERIAL") or serial or wwn),
        node,
        printable(serial),
        printable(model),
        printable(wwn),
    )


def _found(place: Path, identity: DiskIdentity, size: int, occupancy: Occupancy) -> FoundDisk:
    in_use = occupancy.of_device(place)
    foreign = _is_kept_from_us(identity.node)
    if not identity.id:
        # Its place is only for people to see which one is meant: it is not the disk's own.
        port = printable((place / "device").resolve().name)
        identity = DiskIdentity(f"unlabelled-{port}", identity.node, model=identity.model)
        in_use = in_use or "it has neither a serial number nor a WWN"
    elif in_use is None and read_text(place / "ro") == "1":
        in_use = "it is read-only"
    elif in_use is None and foreign:
        in_use = "it is in none of the appliance's bays: udev gives it to others"
    return FoundDisk(
        identity,
        size,
        int(read_text(place / "queue" / "logical_block_size") or SECTOR),
        int(read_text(place / "queue" / "physical_block_size") or SECTOR),
        read_text(place / "diskseq"),
        in_use,
        foreign,
    )


def _is_block_device(path: str) -> bool:
    """Not if it lies where we cannot look: those of disks do not."""
    try:
        return stat.S_ISBLK(Path(path).stat().st_mode)
    except OSError:
        return False


def _is_kept_from_us(node: str) -> bool:
    """Do the node's permissions, which udev's rules set, or those of its kind keep the service out?

    Whether it is there is asked of its directory: where the unit does not allow the kind
    (`DeviceAllow=`), access(2) denies even that.
    """
    return Path(node).exists() and not os.access(node, os.R_OK | os.W_OK)
