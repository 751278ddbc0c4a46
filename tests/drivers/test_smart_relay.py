"""Asking root's smartctl: the delivered unit's command behind a socket, and who plays it."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.drivers import smart, smart_relay
from appliance.drivers.smart import Health, read_report

UNIT = Path(__file__).parents[2] / "firmware_config" / "systemd" / "cdp-smart@.service"
Serve = Callable[[socket.socket], None]


def unit_command(group: str) -> str:
    """The shell's line in the unit, as systemd hands it over; `group` stands for cdp-disks."""
    found = re.search("(?m)^ExecStart=-/bin/sh -c '(.*)'$", UNIT.read_text())
    assert found is not None
    line: str = found[1]
    assert "%" not in line.replace("%%", "")
    return line.replace("$$", "$").replace("%%", "%").replace("cdp-disks", group)


@contextlib.contextmanager
def served(path: Path, serve: Serve) -> Iterator[None]:
    """One connection to `path` is given to `serve`, as systemd does it."""

    def run() -> None:
        with listener, contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                serve(connection)

    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(20)
    listener.bind(str(path))
    listener.listen()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "smart.sock"
    monkeypatch.setattr(smart_relay, "SOCKET", path)
    monkeypatch.setattr(Path, "is_block_device", lambda path: True)
    return path


def ask(node: str = "/dev/sdz") -> Health:
    process = smart.start(node)
    assert not isinstance(process, Health)
    output, _ = process.communicate(timeout=30)
    return read_report(output, process.returncode)


def answers(report: object, asked: list[bytes]) -> Serve:
    def serve(connection: socket.socket) -> None:
        asked.append(connection.makefile("rb").readline())
        connection.sendall(report if isinstance(report, bytes) else json.dumps(report).encode())

    return serve


def test_its_answer_is_smartctl_s(helper: Path) -> None:
    asked: list[bytes] = []
    report = {"smartctl": {"exit_status": 0}, "smart_status": {"passed": True}}
    padding = {"padding": "x" * 300_000}
    with served(helper, answers(report | padding, asked)):
        assert ask("/dev/sdz") == Health("good")
    assert asked == [b"/dev/sdz\n"]


def test_its_status_counts(helper: Path) -> None:
    report = {"smartctl": {"exit_status": 16}}
    with served(helper, answers(report, [])):
        assert ask() == Health("failing", "it says so of itself")


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (b"", "smartctl is not installed, or the disk is not the appliance's"),
        (b"\xff{", "smartctl's answer does not read"),
        (b"[1]", "it does not tell"),
        (b'{"smartctl": {"exit_status": "x"}}', "it does not tell"),
    ],
)
def test_it_has_no_answer(helper: Path, report: bytes, reason: str) -> None:
    with served(helper, answers(report, [])):
        assert ask() == Health(reason=reason)


def test_it_does_not_listen(helper: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(helper))
    assert ask().reason == f"smartctl cannot be asked through {helper}: Connection refused"


# The delivered unit's command


def runs(command: str) -> Serve:
    def serve(connection: socket.socket) -> None:
        words = ["/bin/sh", "-c", command]
        line = connection.fileno()
        subprocess.run(words, stdin=line, stdout=line, check=False, timeout=20)

    return serve


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "smartctl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf \'{"smart_status": {"passed": true}, "a": "%s"}\' "$*"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_a_disk_of_the_appliance_is_asked(
    helper: Path, stand_in: None, loop_device: Callable[..., Path]
) -> None:
    node = loop_device(1 << 20)
    with served(helper, runs(unit_command(node.group()))):
        assert ask(str(node)).verdict == "good"


@pytest.mark.parametrize("what", ["another group's", "a file", "relative", "an option", "nothing"])
def test_nothing_else_is_asked(
    helper: Path, stand_in: None, loop_device: Callable[..., Path], tmp_path: Path, what: str
) -> None:
    node = loop_device(1 << 20)
    asked = {
        "a file": str(tmp_path / "loop-0"),
        "relative": f"..{node}",
        "an option": "--version",
        "nothing": "",
    }.get(what, str(node))
    group = "cdp-disks" if what == "another group's" else node.group()
    with served(helper, runs(unit_command(group))):
        assert ask(asked).reason.startswith("smartctl is not installed, or the disk is not")


def test_the_real_smartctl_of_a_disk_without_smart(
    helper: Path, loop_device: Callable[..., Path]
) -> None:
    if shutil.which("smartctl") is None:
        pytest.skip("needs smartctl")
    node = loop_device(1 << 20)
    with served(helper, runs(unit_command(node.group()))):
        assert ask(str(node)) == Health(reason=f"{node}: Unable to detect device type")
    helper.unlink()
    assert ask(str(node)) == Health(reason=f"{node}: Unable to detect device type")
