"""What takes a disk of another machine in, and gives a volume out: programs, units and rules."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "firmware_config"
PROGRAMS = sorted((FILES / "programs").iterdir())
TARGET = FILES / "programs" / "nvme-target"
NAME = "nqn.2014-08.org.nvmexpress:uuid:0b1f7f3c-2f0e-4d55-8a53-7e5f0e5b8a01"
HOST = "nqn.2014-08.org.nvmexpress:uuid:baf30d1a-3303-4dff-9eb6-96deec17c919"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_of_the_shell_is_sound(program: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    subprocess.run(["shellcheck", program], check=True, timeout=30)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_that_is_called_wrongly_says_how(program: Path, tmp_path: Path) -> None:
    (tmp_path / "systemd-id128").write_text("#!/bin/sh\necho an-id\n")
    (tmp_path / "systemd-id128").chmod(0o755)
    done = subprocess.run(
        [program, "nonsense"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "NQN": NAME},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: {program.name}")


@pytest.mark.parametrize("unit", ["ebbtide-nbd", "ebbtide-nvmet@", "ebbtide-remote-disk@"])
def test_a_unit_names_programs_that_are_shipped(unit: str) -> None:
    text = (FILES / "systemd" / f"{unit}.service").read_text()
    words = [
        line.partition("=")[2].lstrip("+-").split()
        for line in text.splitlines()
        if line.startswith("Exec")
    ]
    shipped = {f"/usr/lib/ebbtide/{program.name}" for program in PROGRAMS}
    shipped |= {"/opt/ebbtide/bin/cdp-kernel-disk", "/sbin/modprobe", "/usr/sbin/nvme"}
    assert {word[0] for word in words} <= shipped


def test_cdpd_does_not_wait_for_the_network() -> None:
    """It starts after the units of disks of other machines, which must not wait either."""
    text = (FILES / "systemd" / "ebbtide-remote-disk@.service").read_text()
    assert "Before=cdpd.service" in text
    settings = [line for line in text.splitlines() if not line.startswith("#")]
    assert not [line for line in settings if "network-online" in line]


def test_the_kernel_may_open_what_the_unit_offers() -> None:
    text = (FILES / "systemd" / "ebbtide-nvmet@.service").read_text()
    assert "DeviceAllow=block-nbd rw" in text
    # A name that the kernel must know before the unit starts.
    assert "Requires=ebbtide-nbd.service" in text
    assert re.search(r"^After=.* ebbtide-nbd\.service ", text, re.MULTILINE)


def test_what_goes_out_is_left_alone_by_this_machine() -> None:
    """The volumes' contents are the hosts': no arrays and volume groups of theirs come up here."""
    rules = (FILES / "udev" / "62-ebbtide-disks.rules").read_text()
    line = next(line for line in rules.splitlines() if line.startswith('KERNEL=="nbd*"'))
    assert 'ENV{SYSTEMD_READY}="0"' in line
    assert 'ENV{UDISKS_IGNORE}="1"' in line
    assert "GROUP" not in line
