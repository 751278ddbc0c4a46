"""What a disk carries that is not ours: file systems, partition tables, md, LVM.

`wipefs` of util-linux finds them: of the tools that every Debian has it alone
lists all signatures, superseded ones and GPT's backup included (`blkid -p`
stops at the first, and says nothing at all when two contradict).  What it
cannot see is a GPT whose sector size is not the device's, on an image of a
disk with 4096-byte sectors, say; that is looked for here.

Where each thing ends is read from its own header as far as that is simple:
ext2/3/4, XFS, swap and partition tables.  Everything else is taken to reach to
the end of the disk.

These functions wait for the disk and for a process: call them with
`loop.offload`.  They only read.
"""

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from appliance.cdp.interfaces import SECTOR
from appliance.errors import DiskFailed

TIMEOUT_SECONDS: Final = 30
_SYSTEM_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_GPT_MAGIC: Final = b"EFI PART"


@dataclass(frozen=True, slots=True)
class Signature:
    """A mark of something that lives on the disk.

    `kind` as wipefs calls it: "ext4", "gpt", "dos", "PMBR", "linux_raid_member",
    "LVM2_member", and so on.  The mark lies at `offset`, `length` bytes long.

    `end` is the first byte behind everything that it describes, None if that
    is not known; it may lie behind the end of the disk.
    """

    kind: str
    offset: int
    length: int
    end: int | None


def foreign_signatures(path: Path, name: str, logical_block: int = SECTOR) -> list[Signature]:
    """Every signature on a block device or file, by offset; empty for a blank disk.

    `name` is what errors call the disk.  Raises DiskFailed if the disk cannot
    be read, or wipefs is not installed.
    """
    found = {(offset, length): kind for kind, offset, length in _wipefs(path, name)}
    try:
        with path.open("rb", buffering=0) as disk:
            size = disk.seek(0, os.SEEK_END)
            for block in (512, 4096):
                for offset in (block, size - block):
                    if _read(disk, offset, len(_GPT_MAGIC)) == _GPT_MAGIC:
                        found.setdefault((offset, len(_GPT_MAGIC)), "gpt")
            return [
                Signature(kind, offset, length, _end(kind, disk, offset, logical_block, size))
                for (offset, length), kind in sorted(found.items())
            ]
    except OSError as error:
        raise DiskFailed(disk=name, reason=error.strerror or error) from error


def first_free_byte(signatures: Sequence[Signature], size: int) -> int:
    """Where the disk's unclaimed tail begins; `size` if it has none."""
    ends = [size if signature.end is None else signature.end for signature in signatures]
    return min(size, max(ends, default=0))


def _wipefs(path: Path, name: str) -> list[tuple[str, int, int]]:
    """(kind, offset, length) of all that wipefs finds."""
    program = shutil.which("wipefs", path=f"{_SYSTEM_PATH}:{os.environ.get('PATH', '')}")
    if program is None:
        raise DiskFailed(disk=name, reason="wipefs (of util-linux) is not installed")
    command = [program, "--no-act", "--json", "--output", "TYPE,OFFSET,LENGTH", "--", str(path)]
    try:
        outcome = subprocess.run(
            command,
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
        answer = json.loads(outcome.stdout) if outcome.stdout.strip() else {"signatures": []}
        return [
            (str(entry["type"]), int(str(entry["offset"]), 0), int(str(entry["length"]), 0))
            for entry in answer["signatures"]
        ]
    except subprocess.CalledProcessError as error:
        raise DiskFailed(disk=name, reason=str(error.stderr).strip() or "wipefs failed") from error
    except subprocess.TimeoutExpired as error:
        reason = f"no answer within {TIMEOUT_SECONDS} s"
        raise DiskFailed(disk=name, reason=reason) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DiskFailed(disk=name, reason=f"wipefs: {error}") from error


def _read(disk: BinaryIO, offset: int, length: int) -> bytes:
    """Fewer bytes than asked for, or none, outside the disk."""
    return os.pread(disk.fileno(), length, offset) if offset >= 0 else b""


def _end(kind: str, disk: BinaryIO, offset: int, logical_block: int, size: int) -> int | None:
    if kind == "gpt":
        return _gpt_end(disk, offset, size)
    if kind in ("dos", "PMBR"):
        return _mbr_end(disk, logical_block)
    reader = _READERS.get(kind)
    try:
        return None if reader is None else reader(disk)
    except struct.error:  # the signature stands too near to the end
        return None


def _gpt_end(disk: BinaryIO, offset: int, size: int) -> int | None:
    """A header names its twin; the later of the two ends the table.  (UEFI, 5.3.2)"""
    block = next((block for block in (512, 4096) if offset in (block, size - block)), None)
    header = _read(disk, offset, 40)
    if block is None or len(header) < 40:
        return None
    here, twin = struct.unpack_from("<QQ", header, 24)
    return (max(int(here), int(twin)) + 1) * block


def _mbr_end(disk: BinaryIO, logical_block: int) -> int | None:
    """The end of the last primary partition; logical ones lie in an extended one."""
    table = _read(disk, 446, 64)
    if len(table) < 64:
        return None
    ends = [int(start + count) for start, count in struct.iter_unpack("<8xII", table) if count]
    return max([SECTOR, *(end * logical_block for end in ends)])


def _ext_end(disk: BinaryIO) -> int:
    """linux/fs/ext4/ext4.h, struct ext4_super_block."""
    superblock = _read(disk, 1024, 1024)
    blocks, log_block = struct.unpack_from("<4xI16xI", superblock)
    (incompatible,) = struct.unpack_from("<I", superblock, 96)
    if incompatible & 0x80:  # 64bit
        blocks |= struct.unpack_from("<I", superblock, 336)[0] << 32
    return int(blocks << (10 + log_block))


def _xfs_end(disk: BinaryIO) -> int:
    """linux/fs/xfs/libxfs/xfs_format.h, struct xfs_dsb."""
    block, blocks = struct.unpack_from(">4xIQ", _read(disk, 0, 16))
    return int(block * blocks)


def _swap_end(disk: BinaryIO) -> int:
    """linux/include/linux/swap.h, union swap_header; with pages of 4096 bytes."""
    _, last_page = struct.unpack_from("<II", _read(disk, 1024, 8))
    return (int(last_page) + 1) * 4096


_READERS: Final[dict[str, Callable[[BinaryIO], int]]] = {
    "ext2": _ext_end,
    "ext3": _ext_end,
    "ext4": _ext_end,
    "xfs": _xfs_end,
    "swap": _swap_end,
}
