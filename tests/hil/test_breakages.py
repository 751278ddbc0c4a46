"""Whatever the rig breaks is there to be broken, and whoever must notice is there to notice."""

from pathlib import Path

import pytest

from hil_tests.breakages import BREAKAGES, RIG_BREAKAGES, Breakage, RigBreakage

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


@pytest.mark.parametrize("breakage", [*BREAKAGES, *RIG_BREAKAGES], ids=lambda each: each.name)
def test_who_must_notice_is_there(breakage: Breakage | RigBreakage) -> None:
    module, _, test = breakage.test.partition("::")
    source = (ROOT / "hil_tests" / module).read_text()
    assert f"def {test.partition('[')[0]}(" in source
