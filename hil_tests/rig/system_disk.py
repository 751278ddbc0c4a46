"""The system disk of a rig: the firmware image, with the rig's settings on its state partition.

The image is taken as it is built; only its state partition, which a real box fills by itself, is
made anew, with settings under `etc/upper/`.
"""

import hashlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from hil_tests.rig.media import copy_sparsely

STATE_LABEL: Final = "ebbtide-state"
STATE_PARTITION: Final = 4
_SECTOR: Final = 512


class NoImage(Exception):
    """What was given is no image of ours."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A place on a disk, in bytes."""

    start: int
    size: int


def partition(image: Path, number: int) -> Partition:
    """The `number`-th of a GPT, from 1 (UEFI specification 2.10, section 5.3); raises NoImage."""
    with image.open("rb") as stream:
        stream.seek(_SECTOR)
        header = stream.read(92)
        if header[:8] != b"EFI PART":
            raise NoImage(f"{image} has no partition table")
        table, count, size = struct.unpack_from("<QII", header, 72)
        if number > count:
            raise NoImage(f"{image} has no partition {number}")
        stream.seek(table * _SECTOR + (number - 1) * size)
        entry = stream.read(size)
    first, last = struct.unpack_from("<QQ", entry, 32)
    if UUID(bytes_le=entry[:16]).int == 0:
        raise NoImage(f"{image} has no partition {number}")
    return Partition(first * _SECTOR, (last - first + 1) * _SECTOR)


def make(image: Path, settings: Mapping[str, bytes], target: Path) -> None:
    """A system disk at `target`: `image` with a fresh state partition that holds `settings`.

    Settings are files by their path below /etc.  As root they become root's; others need that too,
    so they ask fakeroot.
    """
    place = partition(image, STATE_PARTITION)
    making = target.with_suffix(".making")
    copy_sparsely(image, making)
    with tempfile.TemporaryDirectory(prefix="ebbtide-state-") as directory:
        for name, content in settings.items():
            path = Path(directory, "etc", "upper", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if content.startswith(b"#!") else 0o644)
        command = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", STATE_LABEL, "-d", directory]
        command += ["-E", f"offset={place.start},root_owner=0:0"]
        command += [str(making), f"{place.size >> 10}k"]
        if os.geteuid():
            command.insert(0, "fakeroot")
        environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment)
    making.rename(target)


def fingerprint(image: Path, settings: Mapping[str, bytes], *others: str) -> str:
    """Names what a machine boots from, so that a saved state is never one of something else.

    An image goes by its size and its time of making: to hash one takes ten seconds.
    """
    about = image.stat()
    digest = hashlib.sha256(f"{about.st_size} {about.st_mtime_ns}".encode())
    for name, content in sorted(settings.items()):
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    for other in others:
        digest.update(f"\0{other}".encode())
    return digest.hexdigest()[:20]
