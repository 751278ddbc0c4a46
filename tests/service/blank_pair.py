"""Two disks that nobody uses, to be made a volume; and how that is refused."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.service.service_process import MIB, Service

REFUSED = 3
FAILED = 1


def tool(*words: object) -> None:
    """Run a tool that makes something on a disk."""
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"needs {words[0]}")
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@contextmanager
def held_elsewhere(file: Path) -> Iterator[None]:
    """While another process has the disk to itself, as it says: the service locks it, too, for the
    moment of a look."""
    says = ["flock", str(file), "sh", "-c", "echo held; exec cat >/dev/null"]
    with subprocess.Popen(says, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield


@dataclass(frozen=True)
class Pair:
    """Two blank disks of a service, and the name of the volume that they could be."""

    service: Service
    volume: str
    primary: str
    secondary: str

    def file(self, disk: str) -> Path:
        return self.service.disks / f"{disk}.img"

    def known(self) -> "Pair":
        """Once the service has seen them as they are."""
        self.service.wait_for_disks(self.primary, self.secondary)
        return self

    def protect(self, **others: object) -> None:
        arguments = {"volume": self.volume, "primary": self.primary, "secondary": self.secondary}
        self.service.ask("protect", **(arguments | {"wait": True} | others))

    def refused(self, **others: object) -> tuple[int, str, str]:
        """How `protect` is refused; whatever the disks carry is as it was."""
        before = {file: file.read_bytes() for file in map(self.file, self._disks)}
        arguments = {"volume": self.volume, "primary": self.primary, "secondary": self.secondary}
        told = self.service.refused("protect", **(arguments | {"yes": True} | others))
        assert {file: file.read_bytes() for file in before} == before
        names = {volume["name"] for volume in self.service.ask("status")["volumes"]}
        assert self.volume not in names
        return told

    @property
    def _disks(self) -> tuple[str, str]:
        return self.primary, self.secondary


_numbers = count(1)


@contextmanager
def blank_pair(service: Service) -> Iterator[Pair]:
    """Blank disks, which the service sees once they have a name."""
    number = next(_numbers)
    pair = Pair(service, f"volume-{number}", f"alpha-{number}", f"beta-{number}")
    with ExitStack() as made:
        for disk, size in ((pair.primary, 8 * MIB), (pair.secondary, 64 * MIB)):
            service.disk(disk, size)
            made.callback(pair.file(disk).unlink, missing_ok=True)
        yield pair
