"""What a disk carries is found, wherever it lies, and how far it reaches."""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.drivers.signatures import Signature, first_free_byte, foreign_signatures
from appliance.errors import DiskFailed
from tests.drivers.labels import put, put_array, put_gpt, put_lvm_label
from tests.service.media import machine

MIB = 1 << 20
SIZE = 16 * MIB

pytestmark = pytest.mark.skipif(
    shutil.which("wipefs", path="/usr/sbin:/usr/bin") is None, reason="wipefs is not installed"
)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, SIZE)
    return path


def kinds(signatures: list[Signature]) -> list[tuple[str, int]]:
    return [(signature.kind, signature.offset) for signature in signatures]


def test_a_blank_disk_carries_nothing(disk: Path) -> None:
    assert foreign_signatures(disk, "d") == []
    assert first_free_byte([], SIZE) == 0


@pytest.mark.parametrize("block", [512, 4096])
def test_a_gpt_is_found_in_both_places_even_on_an_image_of_other_sectors(
    disk: Path, block: int
) -> None:
    put_gpt(disk, block, SIZE)
    found = foreign_signatures(disk, "d")
    assert set(kinds(found)) == {("PMBR", 510), ("gpt", block), ("gpt", SIZE - block)}
    assert first_free_byte(found, SIZE) == SIZE


@pytest.mark.parametrize("block", [512, 4096])
def test_a_backup_gpt_alone_is_found(disk: Path, block: int) -> None:
    put_gpt(disk, block, SIZE)
    put(disk, 0, bytes(2 * block))
    assert kinds(foreign_signatures(disk, "d")) == [("gpt", SIZE - block)]


def test_a_gpt_of_a_smaller_disk_ends_before_the_tail(disk: Path) -> None:
    put_gpt(disk, 512, 8 * MIB)
    assert first_free_byte(foreign_signatures(disk, "d"), SIZE) == 8 * MIB


def test_an_mbr_ends_with_its_last_partition(disk: Path) -> None:
    entries = struct.pack("<B3sB3sII", 0, b"\0" * 3, 0x83, b"\0" * 3, 2048, 4096)
    entries += struct.pack("<B3sB3sII", 0, b"\0" * 3, 0x05, b"\0" * 3, 8192, 2048)
    put(disk, 0, bytes(446) + entries + bytes(32) + b"\x55\xaa")
    found = foreign_signatures(disk, "d")
    assert found == [Signature("dos", 510, 2, 10240 * 512)]
    assert first_free_byte(foreign_signatures(disk, "d", 4096), SIZE) == SIZE


@pytest.mark.parametrize(
    ("command", "kind", "end"),
    [
        (["mkfs.ext4", "-q", "-F", "DISK", "12M"], "ext4", 12 * MIB),
        (["mkfs.ext4", "-q", "-F", "-O", "^64bit", "-b", "4096", "DISK", "8M"], "ext4", 8 * MIB),
        (["mkfs.ext2", "-q", "-F", "DISK", "5000"], "ext2", 5000 << 10),
        (["mkswap", "DISK", "10240"], "swap", 10 * MIB),
    ],
)
def test_a_file_system_is_found_with_its_end(
    disk: Path, command: list[str], kind: str, end: int
) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    disk.chmod(0o600)
    line = [word.replace("DISK", str(disk)) for word in command]
    subprocess.run(line, check=True, capture_output=True)
    (found,) = foreign_signatures(disk, "d")
    assert (found.kind, found.end) == (kind, end)
    assert first_free_byte([found], SIZE) == end


def test_an_xfs_ends_with_its_blocks(disk: Path) -> None:
    superblock = struct.pack(
        ">4sIQQQ16sQQQQIIIIIHHHH12sBBBBBBBB",
        b"XFSB", 4096, 2000, 0, 0, b"u" * 16, 0, 0, 0, 0, 1, 1000, 2, 0, 500,
        4, 512, 256, 16, b"", 12, 9, 8, 4, 10, 0, 0, 25,
    )  # fmt: skip
    put(disk, 0, superblock)
    assert foreign_signatures(disk, "d") == [Signature("xfs", 0, 4, 2000 * 4096)]


def test_an_array_and_an_lvm_label_claim_the_whole_disk(disk: Path) -> None:
    put_lvm_label(disk)
    put_array(disk, 4096)
    found = foreign_signatures(disk, "d")
    assert {one.kind for one in found} == {"LVM2_member", "linux_raid_member"}
    assert [one.end for one in found] == [None, None]
    assert first_free_byte(found, SIZE) == SIZE


def test_layers_of_signatures_are_all_found(disk: Path) -> None:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True, capture_output=True)
    put_gpt(disk, 512, SIZE)  # into the first 1024 bytes, which ext4 leaves alone
    found = set(kinds(foreign_signatures(disk, "d")))
    assert {("ext4", 1080), ("gpt", 512), ("gpt", SIZE - 512)} <= found


def test_finding_changes_nothing(disk: Path) -> None:
    put_gpt(disk, 512, SIZE)
    before = disk.read_bytes()
    foreign_signatures(disk, "d")
    assert disk.read_bytes() == before


def test_a_disk_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskFailed, match=r"disk left failed: .*No such file"):
        foreign_signatures(tmp_path / "missing", "left")


@pytest.fixture
def loop_device(request: pytest.FixtureRequest, disk: Path) -> Iterator[str]:
    if os.geteuid() != 0 or shutil.which("losetup") is None:
        pytest.skip("loop devices need root and losetup")
    command = ["losetup", "--find", "--show", "--sector-size", str(request.param), str(disk)]
    with machine(alone=False):
        node = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        yield node
        subprocess.run(["losetup", "--detach", node], check=True)


@pytest.mark.parametrize("loop_device", [512, 4096], indirect=True)
@pytest.mark.parametrize("block", [512, 4096])
def test_a_gpt_is_found_on_devices_of_either_sector(
    disk: Path, loop_device: str, block: int
) -> None:
    put_gpt(Path(loop_device), block, SIZE)
    found = foreign_signatures(Path(loop_device), "d")
    assert {("gpt", block), ("gpt", SIZE - block)} <= set(kinds(found))
