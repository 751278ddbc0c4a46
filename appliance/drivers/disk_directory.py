"""Files as disks: each regular file in a directory, its stem the id.

For a laptop without root, and for tests.  Hidden files are none.  The
directory is looked at every half second: cheaper than it is to be clever, and
it works on every file system.
"""

import stat
from pathlib import Path
from typing import Final

from appliance.cdp.interfaces import BLOCK, SECTOR, DiskIdentity, Post
from appliance.drivers.discovery import Discovery, FoundDisk, Listener, printable
from appliance.drivers.occupancy import loop_devices

PERIOD_SECONDS: Final = 0.5


class DiskDirectory(Discovery):
    """Discovery of the disks in a directory; one that does not exist has none."""

    def __init__(self, loop: Post, listener: Listener, directory: Path) -> None:
        super().__init__(loop, listener, lambda: find_disk_files(directory), PERIOD_SECONDS)


def find_disk_files(directory: Path) -> list[FoundDisk]:
    """Every disk file that is there now, by name.  Raises OSError if it cannot be looked at."""
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    attached = loop_devices()
    disks = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # gone since, or a link to nowhere
            continue
        if path.name.startswith(".") or not stat.S_ISREG(status.st_mode) or status.st_size < SECTOR:
            continue
        node = attached.get(str(path.resolve()))
        disks.append(
            FoundDisk(
                DiskIdentity(printable(path.stem), str(path), model="file"),
                status.st_size // SECTOR * SECTOR,
                SECTOR,
                BLOCK,
                f"{status.st_dev}:{status.st_ino}",
                f"attached as {node}" if node else None,
            )
        )
    return disks
