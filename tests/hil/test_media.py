"""The rig's disks, between two lives of a machine."""

import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest

from hil_tests.rig.media import Disk
from hil_tests.rig.power_cut import Manner
from hil_tests.rig.system_disk import NoImage, partition
from hil_tests.rig.write_log import Entry, Flag
from tests.hil.test_power_cut import SECTOR, block, lay

SIZE = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk("A", tmp_path / "disk.raw", SIZE)


def test_a_new_disk_is_blank(disk: Disk) -> None:
    disk.power_on()
    disk.power_off(disk.told(), Manner.KEEPS_ALL, Random(0))
    assert disk.medium.read_bytes() == bytes(SIZE)


def test_the_log_alone_says_what_is_on_the_medium(disk: Disk) -> None:
    disk.power_on()
    log = [
        Entry(1, 1, Flag(0), block(1)),
        Entry(0, 0, Flag.FLUSH, None),
        Entry(2, 1, Flag(0), block(2)),
    ]
    told = lay(disk.log, log)
    cut = disk.power_off(told, Manner.LOSES_ALL, Random(0))
    assert (cut.owed, cut.lost) == (1, 1)
    assert disk.medium.read_bytes()[: 3 * SECTOR] == bytes(SECTOR) + block(1) + bytes(SECTOR)
    assert [path.name for path in disk.medium.parent.iterdir()] == ["disk.raw"]


@pytest.mark.parametrize(("share", "written"), [(0.0, [0, 4]), (0.6, [0, 4, 6]), (1.0, [0, 4, 6])])
def test_a_moment_among_the_writes_to_some_place(
    disk: Disk, share: float, written: list[int]
) -> None:
    """What came before is there and what came after is not, wherever it was."""
    disk.power_on()
    lay(disk.log, [Entry(sector, 1, Flag(0), block(9)) for sector in (0, 4, 6, 1, 8)])
    told = disk.told_within(4 * SECTOR, 4 * SECTOR, share)
    disk.power_off(told, Manner.KEEPS_ALL, Random(0))
    kept = disk.medium.read_bytes()
    assert [at for at in range(9) if any(kept[at * SECTOR : (at + 1) * SECTOR])] == written


def test_no_moment_in_a_place_that_nobody_wrote_to(disk: Disk) -> None:
    disk.power_on()
    lay(disk.log, [Entry(0, 1, Flag(0), block(1)), Entry(4, 0, Flag.FLUSH, None)])
    with pytest.raises(ValueError, match="nothing was written"):
        disk.told_within(4 * SECTOR, SECTOR, 0.5)


def test_what_a_disk_is_based_on_is_never_written(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.write_bytes(b"\x07" * SIZE)
    disk = Disk("SYSTEM", tmp_path / "disk.raw", SIZE, base=base)
    disk.power_on()
    told = lay(disk.log, [Entry(0, 1, Flag(0), block(1))])
    disk.power_off(told, Manner.KEEPS_ALL, Random(0))
    assert base.read_bytes() == b"\x07" * SIZE
    assert disk.medium.read_bytes() == block(1) + b"\x07" * (SIZE - SECTOR)


def test_what_is_no_image_of_ours(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(SIZE))
    with pytest.raises(NoImage):
        partition(tmp_path / "image", 4)


def test_a_partition_is_found_where_a_tool_put_it(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as stream:
        stream.truncate(8 << 20)
    if not shutil.which("sgdisk"):
        pytest.skip("needs sgdisk")
    subprocess.run(["sgdisk", "-n", "4:4096:6143", str(image)], check=True, capture_output=True)
    place = partition(image, 4)
    assert (place.start, place.size) == (4096 * SECTOR, 2048 * SECTOR)
    with pytest.raises(NoImage):
        partition(image, 1)
