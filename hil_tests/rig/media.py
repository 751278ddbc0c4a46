"""The rig's disks: what lies on them, and what a running machine adds to it.

A machine never writes to a medium.  It writes to a layer above it and its writes go to a log; when
its power goes, or the disk is pulled, the layer is thrown away and the log decides what reached
the medium.  So the log alone is the truth about a disk, and nothing that QEMU or this machine's
page cache keeps can survive by accident.
"""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from random import Random

from hil_tests.rig import power_cut, write_log
from hil_tests.rig.power_cut import Cut, Manner

MIB = 1 << 20


class Bus(Enum):
    """Where a disk is plugged in."""

    SYSTEM = "virtio"
    SCSI = "scsi"
    NVME = "nvme"


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk as it lies in a drawer."""

    serial: str
    medium: Path
    """Raw, sparse."""
    size: int
    sector: int = 512
    """Logical and physical; 512 or 4096."""
    bus: Bus = Bus.SCSI
    base: Path | None = None
    """What lies on the medium while that file does not exist; never written."""

    @property
    def name(self) -> str:
        """For QEMU's ids."""
        return f"disk-{self.serial}"

    @property
    def wwn(self) -> int:
        """World wide name: NAA 5, and a number of its own made of the serial."""
        digest = hashlib.sha256(self.serial.encode()).digest()
        return 5 << 60 | int.from_bytes(digest) >> 200

    @property
    def layer(self) -> Path:
        return self.medium.with_suffix(".layer")

    @property
    def log(self) -> Path:
        return self.medium.with_suffix(".log")

    def power_on(self) -> None:
        """An empty layer and an empty log."""
        if self.base is None and not self.medium.exists():
            with self.medium.open("wb") as stream:
                stream.truncate(self.size)
        below = self.medium if self.medium.exists() or self.base is None else self.base.resolve()
        self.log.write_bytes(b"")
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", below, self.layer],
            check=True,
            stdin=subprocess.DEVNULL,
        )

    def told(self) -> int:
        """How long the log is: a moment in the disk's life."""
        return self.log.stat().st_size

    def told_within(self, start: int, size: int, share: float) -> int:
        """How long the log was when that share of the writes to these bytes had been begun, the
        last of them among those in flight.  Nothing may be in flight any more.

        Raises ValueError if there was none.
        """
        moments = [
            place + 1
            for place, entry in write_log.placed_entries(self.log, self.sector, self.size)
            if entry.count and start <= entry.sector * self.sector < start + size
        ]
        if not moments:
            raise ValueError("nothing was written there")
        return moments[min(int(share * len(moments)), len(moments) - 1)]

    def power_off(self, told: int, manner: Manner, random: Random) -> Cut:
        """Settle what reached the medium when the power went, which was at the moment `told`.

        Nothing may be in flight any more, see write_log.
        """
        log = list(write_log.entries(self.log, self.sector, self.size, told))
        pieces, cut = power_cut.survivors(log, self.sector, manner, random)
        if not self.medium.exists() and self.base is not None:
            copy_sparsely(self.base, self.medium)
        power_cut.write(self.medium, pieces)
        self.layer.unlink()
        self.log.unlink()
        return cut

    def nodes(self) -> list[dict[str, object]]:
        """Arguments of `blockdev-add`, in order; the last one's node is named for the disk.

        What flushes would bring to this machine's own disk is left out: it does not lose its
        power.
        """
        name = self.name
        below = {"no-flush": True, "direct": False}
        return [
            {"node-name": f"{name}-log-file", "driver": "file", "filename": str(self.log)}
            | {"cache": below, "locking": "off"},
            {"node-name": f"{name}-layer", "driver": "qcow2", "discard": "unmap"}
            | {"file": {"driver": "file", "filename": str(self.layer), "cache": below}},
            {"node-name": f"{name}-logged", "driver": "blklogwrites", "discard": "unmap"}
            | {"file": f"{name}-layer", "log": f"{name}-log-file"}
            | {"log-sector-size": self.sector},
            self.top(f"{name}-logged"),
        ]

    def top(self, below: str) -> dict[str, object]:
        """The uppermost node, over the node `below`: where faults are put in between."""
        return {"node-name": self.name, "driver": "raw", "discard": "unmap", "file": below}


def copy_sparsely(source: Path, target: Path) -> None:
    """A copy that takes no more room than its source."""
    subprocess.run(
        ["cp", "--sparse=always", "--reflink=auto", str(source), str(target)],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def remove(directory: Path) -> None:
    """A directory of disks, with all that is in it."""
    shutil.rmtree(directory, ignore_errors=True)
