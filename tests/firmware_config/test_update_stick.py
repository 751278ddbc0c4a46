"""What a box does with a stick that brings an update."""

import subprocess
from pathlib import Path

import pytest

from tests.firmware_config.played_box import DEBIANS, Box

pytestmark = pytest.mark.skipif(not DEBIANS.exists(), reason="needs grub-editenv")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def stick(box: Box, state: str, bundles: int = 1) -> subprocess.CompletedProcess[str]:
    """One with so many bundles is plugged in while `ebbtide-works` has `failed`, or has not."""
    place = box.root / "run/ebbtide-stick/sdx1"
    place.mkdir(parents=True, exist_ok=True)
    for number in range(bundles):
        (place / f"{number}.raucb").touch()
    box.program("mount", "#!/bin/sh\n")
    box.program("umount", "#!/bin/sh\n")
    box.program("rauc", f'#!/bin/sh\necho "$@" >>{box.root}/rauc\n')
    box.program(
        "systemctl",
        f"""#!/bin/sh
case "$*" in
    "--quiet is-failed ebbtide-works.service") [ {state} = failed ] ;;
    "start ebbtide-go-back.service") {box.root}/usr/lib/ebbtide/go-back ;;
    *) echo "$@" >>{box.root}/systemctl ;;
esac
""",
    )
    return box.run(box.root / "usr/lib/ebbtide/update-stick", "/dev/sdx1")


def installed(box: Box) -> bool:
    said = box.root / "rauc"
    return said.exists() and "install" in said.read_text()


def test_a_stick_is_installed_once(box: Box) -> None:
    assert stick(box, "active").returncode == 0
    assert installed(box)
    (box.root / "rauc").unlink()
    assert "installed before" in stick(box, "active").stdout
    assert not installed(box)
    assert box.told == ["known"]


def test_a_stick_without_a_bundle_is_refused(box: Box) -> None:
    assert stick(box, "active", bundles=2).returncode == 1
    assert not installed(box)
    assert box.told == ["refused reason=not one bundle (*.raucb) on the stick, but 2"]


def test_a_stick_is_not_in_the_way_of_going_back(box: Box) -> None:
    box.remember("B_OK=1")
    assert stick(box, "failed").returncode == 1
    assert not installed(box)
    assert box.restarted


def test_a_stick_helps_a_box_that_has_nothing_to_go_back_to(box: Box) -> None:
    assert stick(box, "failed").returncode == 0
    assert installed(box)


def test_a_stick_is_installed_by_a_version_that_had_worked(box: Box) -> None:
    box.worked("A")
    box.remember("B_OK=1")
    assert stick(box, "failed").returncode == 0
    assert installed(box)
    assert not box.restarted
