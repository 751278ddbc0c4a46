"""Which block devices the machine itself is using, as this process can see it.

Read from /proc and /sys alone, without opening a device.  What other mount
namespaces use does not show here; opening the disk exclusively finds that.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SYS_BLOCK: Final = Path("/sys/block")
_MOUNTS: Final = Path("/proc/self/mountinfo")
_SWAPS: Final = Path("/proc/swaps")


class Occupancy:
    """A look at the machine, valid for the moment it was made."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}
        """Device number ("8:1") to who uses it."""
        for number, mount_point in _mounts():
            self._users.setdefault(number, f"mounted at {mount_point}")
        for swap in _swaps():
            number_of_swap = _number_of(swap)
            if number_of_swap is not None:
                self._users[number_of_swap] = "used for swapping"
        for backing, node in loop_devices().items():
            number_of_backing = _number_of(backing)
            if number_of_backing is not None:
                self._users[number_of_backing] = f"attached as {node}"

    def of_device(self, device: Path) -> str | None:
        """Who uses a disk or one of its partitions; `device` is its directory below /sys."""
        parts = [device, *sorted(part.parent for part in device.glob("*/partition"))]
        for part in parts:
            user = self._users.get(read_text(part / "dev"))
            if user is None:
                holders = [holder.name for holder in (part / "holders").glob("*")]
                user = f"held by /dev/{min(holders)}" if holders else None
            if user is not None:
                return user if part is device else f"/dev/{part.name} is {user}"
        return None


def loop_devices() -> dict[str, str]:
    """The path behind every attached loop device, to the device's node."""
    found = ((backing_file(loop), f"/dev/{loop.name}") for loop in _SYS_BLOCK.glob("loop*"))
    return {backing: node for backing, node in found if backing is not None}


def backing_file(loop: Path) -> str | None:
    """What a loop device shows; None if nothing. `loop` is its directory below /sys."""
    return read_text(loop / "loop" / "backing_file").removesuffix(" (deleted)") or None


def read_text(attribute: Path) -> str:
    """One attribute of sysfs, stripped; empty if there is none, or its device has just gone."""
    try:
        return attribute.read_text(errors="replace").strip()
    except OSError:
        return ""


def _mounts() -> Iterator[tuple[str, str]]:
    """(device number, mount point).  The format is told in proc(5)."""
    for line in _MOUNTS.read_text(errors="replace").splitlines():
        fields, _, rest = line.partition(" - ")
        _, _, number, _, mount_point, *_ = fields.split()
        yield number, _unescaped(mount_point)
        # btrfs mounts under a number of its own, and tells the device as the source.
        source = _number_of(_unescaped(rest.split()[1]))
        if source is not None:
            yield source, _unescaped(mount_point)


def _swaps() -> list[str]:
    lines = read_text(_SWAPS).splitlines()[1:]
    return [_unescaped(line.split()[0]) for line in lines]


def _number_of(path: str) -> str | None:
    """The device number behind a path; None if it is no block device."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    if not path.startswith("/") or not stat.S_ISBLK(status.st_mode):
        return None
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _unescaped(field: str) -> str:
    """The kernel writes blanks and backslashes in paths as octal numbers."""
    for escape, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        field = field.replace(escape, character)
    return field
