"""Units, users and directories, as systemd's own tools read them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.drivers.smart_relay import SOCKET

FILES = Path(__file__).parents[2] / "firmware_config"
SMART = FILES / "systemd" / "cdp-smart@.service"
UNITS = sorted(set((FILES / "systemd").glob("cdp*.service")) - {SMART})
OUTGROWING = sorted((FILES / "systemd").glob("ebbtide-*.service"))
"""What sets the kernel up as root: see docs/outgrowing.md."""
FACES = ("cdp-console", "cdp-panel", "cdp-exporter")


def run(tool: str, *words: str | Path) -> str:
    """Run one of systemd's tools to its end; what it said."""
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}, of systemd")
    done = subprocess.run([tool, *words], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def startable(unit: Path, directory: Path) -> Path:
    """The unit with a program that every machine has, and an instance if it wants one."""
    copy = directory / unit.name.replace("@.", "@ttyS0.")
    copy.write_text(re.sub(r"(?m)^(Exec\w+)=.*$", r"\1=/bin/true", unit.read_text()))
    return copy


@pytest.mark.parametrize("unit", [*UNITS, *OUTGROWING], ids=lambda unit: unit.stem)
def test_a_unit_says_nothing_that_systemd_does_not_know(unit: Path, tmp_path: Path) -> None:
    for other in OUTGROWING:  # which they may require
        startable(other, tmp_path)
    assert run("systemd-analyze", "verify", "--man=no", startable(unit, tmp_path)) == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_exposes_little(unit: Path, tmp_path: Path) -> None:
    """systemd's own score, of 10; today's are 2.1 for cdpd and 1.7 at most for faces."""
    threshold = 25 if unit.stem == "cdpd" else 20
    words = ("security", "--offline=true", "--no-pager", f"--threshold={threshold}")
    run("systemd-analyze", *words, startable(unit, tmp_path))


def settings(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (FILES / "systemd" / unit).read_text().splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_every_process_has_its_program_settings_and_user() -> None:
    assert {unit.stem.rstrip("@") for unit in UNITS} == {"cdpd", *FACES}
    users = set()
    for unit in UNITS:
        told = settings(unit.name)
        program, *words = told["ExecStart"][0].split()
        assert program == f"/opt/ebbtide/bin/{unit.stem.rstrip('@')}"
        assert words[:2] == ["--config", "/etc/ebbtide/ebbtide.toml"]
        users |= {*told["User"], *told["Group"]}
        assert told["CapabilityBoundingSet"] == [""]
        assert told["NoNewPrivileges"] == ["yes"]
    assert users == {"ebbtide", *FACES}


def test_the_health_of_disks_is_asked_by_a_unit_that_may(tmp_path: Path) -> None:
    socket = shutil.copy(FILES / "systemd" / "cdp-smart.socket", tmp_path)
    shutil.copy(SMART, tmp_path)
    assert run("systemd-analyze", "verify", "--man=no", socket) == ""
    words = ("security", "--offline=true", "--no-pager", "--threshold=40")
    run("systemd-analyze", *words, tmp_path / SMART.name)
    (rights,) = settings(SMART.name)["CapabilityBoundingSet"]
    assert set(rights.split()) == {"CAP_SYS_RAWIO", "CAP_SYS_ADMIN"}
    assert settings(SMART.name)["DeviceAllow"] == settings("cdpd.service")["DeviceAllow"]
    told = settings("cdp-smart.socket")
    assert told["ListenStream"] == [str(SOCKET)]
    assert (told["SocketUser"], told["SocketMode"]) == (["ebbtide"], ["0600"])
    assert "cdp-smart.socket" in settings("cdpd.service")["Wants"]


def test_cdpd_keeps_what_disks_need() -> None:
    told = settings("cdpd.service")
    assert told["Type"] == ["notify"]
    assert told["DevicePolicy"] == ["closed"]
    assert "block-sd rw" in told["DeviceAllow"]
    assert not {"PrivateDevices", "ProtectClock"} & set(told)


def test_a_cdpd_that_hangs_is_started_anew() -> None:
    told = settings("cdpd.service")
    assert int(told["WatchdogSec"][0]) >= 10, "a loop may be held up a little"
    assert told["Restart"] == ["on-failure"], "which a missed watchdog is, too"
    assert "NotifyAccess" not in told, "of the main process alone, which is the default"


def test_the_console_comes_back_with_its_line(tmp_path: Path) -> None:
    place = tmp_path / "usr" / "lib" / "systemd" / "system"
    place.mkdir(parents=True)
    shutil.copy(FILES / "systemd" / "cdp-console@.service", place)
    run("systemctl", f"--root={tmp_path}", "enable", "cdp-console@ttyUSB0.service")
    made = {
        wanted.name: [link.name for link in wanted.iterdir()]
        for wanted in (tmp_path / "etc" / "systemd" / "system").iterdir()
    }
    assert made == {
        "multi-user.target.wants": ["cdp-console@ttyUSB0.service"],
        "dev-ttyUSB0.device.wants": ["cdp-console@ttyUSB0.service"],
    }


def test_the_console_can_open_what_a_login_program_has_left() -> None:
    told = settings("cdp-console@.service")
    groups = told["SupplementaryGroups"][0].split()
    assert [command.removeprefix("+/bin/") for command in told["ExecStartPre"]] == [
        "chown root:dialout /dev/%I",
        "chmod 0660 /dev/%I",
    ]
    assert "dialout" in groups
    assert all(command.startswith("+") for command in told["ExecStartPre"]), "as root"


def test_faces_have_no_way_to_disks() -> None:
    for unit in UNITS:
        if unit.stem != "cdpd":
            told = settings(unit.name)
            assert "cdp-disks" not in told["SupplementaryGroups"][0]
            allowed = told.get("DeviceAllow", [])
            assert told.get("PrivateDevices") == ["yes"] or told["DevicePolicy"] == ["closed"]
            assert not [device for device in allowed if "block" in device]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory in which the users were made."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "etc").mkdir()
    run("systemd-sysusers", f"--root={tmp_path}", FILES / "sysusers" / "ebbtide.conf")
    return tmp_path


def members(root: Path) -> dict[str, set[str]]:
    lines = (root / "etc" / "group").read_text().splitlines()
    rows = [line.split(":") for line in lines]
    return {row[0]: set(filter(None, row[3].split(","))) for row in rows}


def test_users_are_in_the_groups_that_they_need_and_no_other(root: Path) -> None:
    made = members(root)
    assert made["cdp"] == {"ebbtide", *FACES}
    assert made["cdp-disks"] == made["cdp-hosts"] == {"ebbtide"}
    assert {"ebbtide", *FACES} <= set(made)
    shells = (root / "etc" / "passwd").read_text().splitlines()
    assert all(line.endswith("nologin") for line in shells if "bbtide" in line)


def test_directories_belong_to_who_writes_there(root: Path) -> None:
    (root / "etc" / "ebbtide" / "tls").mkdir(parents=True)
    (root / "etc" / "ebbtide" / "tls" / "box.key").touch(mode=0o666)
    run("systemd-tmpfiles", "--create", f"--root={root}", FILES / "tmpfiles" / "ebbtide.conf")
    ids = {
        row[0]: int(row[2])
        for row in (line.split(":") for line in (root / "etc/group").read_text().splitlines())
    }
    expected = {
        "var/lib/ebbtide": (0o711, "ebbtide"),
        "var/lib/ebbtide/console": (0o700, "cdp-console"),
        "etc/ebbtide/tls": (0o750, "ebbtide"),
        "etc/ebbtide/tls/box.key": (0o640, "ebbtide"),
    }
    for name, (mode, group) in expected.items():
        status = (root / name).stat()
        assert (status.st_mode & 0o7777, status.st_gid) == (mode, ids[group]), name
