"""Whatever the rig breaks is there to be broken, and whoever must notice is there to notice."""

from pathlib import Path
from random import Random

import pytest

from hil_tests.breakages import ALL, BREAKAGES, RIG_BREAKAGES, Breakage, RigBreakage
from hil_tests.oracle import BLOCK, SECTOR, Oracle, content
from hil_tests.rig import power_cut
from hil_tests.rig.power_cut import Manner
from hil_tests.rig.write_log import Entry, Flag

ROOT = Path(__file__).parents[2]
SOURCES = {
    "/opt/ebbtide/lib/python3.11/site-packages/": ROOT,
    "/usr/lib/systemd/system/": ROOT / "firmware_config" / "systemd",
    "/usr/lib/udev/rules.d/": ROOT / "firmware_config" / "udev",
}
"""What of this tree becomes which place of the image."""


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda each: each.name)
def test_it_breaks_one_place(breakage: Breakage) -> None:
    (source,) = [
        directory / breakage.file.removeprefix(place)
        for place, directory in SOURCES.items()
        if breakage.file.startswith(place)
    ]
    assert source.read_text().count(breakage.old) == 1
    assert breakage.new != breakage.old


@pytest.mark.parametrize("breakage", RIG_BREAKAGES, ids=lambda each: each.name)
def test_of_the_rig_it_breaks_one_place(breakage: RigBreakage) -> None:
    assert breakage.source.count(breakage.old) == 1
    assert breakage.new != breakage.old


@pytest.mark.parametrize("whole", [True, False])
def test_the_oracle_names_what_a_disk_had_flushed_and_lost(whole: bool) -> None:
    """Of a box that is nothing but its disk."""
    (breakage,) = RIG_BREAKAGES
    oracle, log = Oracle(), list[Entry]()
    for count in range(100):
        write = oracle.issue(count % 50)
        place = write.block * BLOCK // SECTOR
        log.append(Entry(place, BLOCK // SECTOR, Flag(0), content(write.number)))
        oracle.confirm(write.number)
        covered = oracle.before_flush()
        log.append(Entry(0, 0, Flag.FLUSH, None))
        oracle.flushed(covered)
    survivors = power_cut.survivors if whole else breakage.broken()
    pieces, _ = survivors(log, SECTOR, Manner.LOSES_ALL, Random(0))
    disk = bytearray(50 * BLOCK)
    for piece in pieces:
        disk[piece.offset : piece.offset + len(piece.data)] = piece.data
    said = [
        line
        for block in oracle.blocks
        for line in oracle.complaints(block, bytes(disk[block * BLOCK : (block + 1) * BLOCK]))
    ]
    assert bool(said) is not whole
    assert all("flushed write" in line and "is lost" in line for line in said)


@pytest.mark.parametrize("breakage", ALL, ids=lambda each: each.name)
def test_who_must_notice_is_there(breakage: Breakage | RigBreakage) -> None:
    module, _, test = breakage.test.partition("::")
    source = (ROOT / "hil_tests" / module).read_text()
    assert f"def {test.partition('[')[0]}(" in source
