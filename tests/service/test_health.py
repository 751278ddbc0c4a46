"""Disks are asked for their health by a stand-in for smartctl, that a test says what to answer."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.cdp.interfaces import DiskIdentity
from appliance.cdp.memory import BufferPool
from appliance.drivers.discovery import FoundDisk
from appliance.drivers.smart import Health
from appliance.events import FieldValue
from appliance.loop import Loop
from appliance.service import health
from appliance.service.bays import Bay, Bays
from appliance.service.health import HealthWatch

STAND_IN = """#!/bin/sh
for node; do :; done
name=$(basename "$node")
echo "$$ $*" >> {directory}/asked
[ -e {directory}/$name.hangs ] && exec sleep 1000
while [ -e {directory}/$name.waits ]; do sleep 0.01; done
[ -e {directory}/$name.babbles ] && exec yes
{{ read status; cat; }} < {directory}/$name.says
exit $status
"""
PASSED = {"smart_status": {"passed": True}, "temperature": {"current": 30}}
FAILED = {"smart_status": {"passed": False}}
TurnUntil = Callable[..., None]


class Rig:
    """Bays, their health watch, and the stand-in on PATH."""

    def __init__(self, loop: Loop, directory: Path) -> None:
        self.directory = directory
        self.events: list[tuple[str, dict[str, FieldValue]]] = []
        self.bays = Bays(loop, BufferPool(), self.emit, 30.0, lambda: 0)
        self.watch = HealthWatch(loop, self.bays, self.emit)

    def emit(self, code: str, **fields: FieldValue) -> None:
        self.events.append((code, fields))

    def plug(self, name: str, report: Any = None, status: int = 0) -> Bay:
        node = self.directory / name
        node.write_bytes(bytes(1 << 20))
        if report is not None:
            self.says(name, report, status)
        label = DiskIdentity(name, str(node), f"SN-{name}")
        self.bays.disk_appeared(FoundDisk(label, 1 << 20, 512, 512, "1"))
        return self.bays.find(name)

    def pull(self, bay: Bay) -> None:
        self.bays.disk_disappeared(bay.found)

    def says(self, name: str, report: Any, status: int = 0) -> None:
        """At once: it may be asked right now."""
        fresh = self.directory / "says"
        fresh.write_text(f"{status}\n{json.dumps(report)}")
        fresh.replace(self.directory / f"{name}.says")

    def loses_patience(self, seconds: float = 0.5) -> None:
        """Whoever is asked from now on has only so long."""
        self.watch._limit = seconds

    def asked(self) -> list[list[str]]:
        """Process and arguments, each time."""
        file = self.directory / "asked"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def told(self) -> list[FieldValue]:
        return [fields["reason"] for code, fields in self.events if code == "EV109"]


@pytest.fixture
def rig(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    tools = tmp_path / "bin"
    tools.mkdir()
    program = tools / "smartctl"
    program.write_text(STAND_IN.format(directory=tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(Path, "is_block_device", lambda path: True)
    monkeypatch.setattr(health, "END_SECONDS", 20.0)  # a busy machine ends nothing at once
    rig = Rig(loop, tmp_path)
    yield rig
    rig.watch.close()
    for bay in rig.bays.all():
        rig.pull(bay)


def answered(bay: Bay) -> Callable[[], bool]:
    return lambda: bay.health.reason != "it has not been asked yet"


def alive(process: str) -> bool:
    return Path(f"/proc/{process}").exists()


def test_a_disk_is_asked_when_it_arrives(rig: Rig, turn_until: TurnUntil) -> None:
    bay = rig.plug("a", PASSED)
    turn_until(answered(bay))
    assert bay.health == Health("good", "", 30)
    ((_, *arguments),) = rig.asked()
    assert arguments == ["--json", "--nocheck=standby", "-a", bay.found.identity.node]


def test_who_turns_failing_is_told_once(
    rig: Rig, turn_until: TurnUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PERIOD_SECONDS", 0.01)
    bay = rig.plug("a", PASSED)
    turn_until(lambda: bay.health.verdict == "good")
    assert rig.told() == []
    rig.says("a", FAILED, 8)
    turn_until(lambda: bay.health.verdict == "failing")
    times = len(rig.asked())
    turn_until(lambda: len(rig.asked()) > times + 2)
    assert rig.told() == ["it says so of itself"]
    assert bay.id == rig.events[-1][1]["disk"]


def test_one_that_hangs_is_given_up_and_the_next_one_asked(rig: Rig, turn_until: TurnUntil) -> None:
    (rig.directory / "a.hangs").touch()
    rig.loses_patience()
    hanging, other = rig.plug("a"), rig.plug("b", PASSED)
    turn_until(answered(hanging))
    assert hanging.health == Health(reason="it did not answer in 0.5 s")
    rig.loses_patience(health.LIMIT_SECONDS)  # only the one that hangs shall be late
    turn_until(answered(other))
    assert other.health.verdict == "good"
    asked = [process for process, *_, node in rig.asked() if node == hanging.found.identity.node]
    turn_until(lambda: not any(map(alive, asked)))


def test_one_that_cannot_even_be_killed_is_not_asked_again(
    rig: Rig, turn_until: TurnUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PERIOD_SECONDS", 0.01)
    (rig.directory / "a.hangs").touch()
    rig.loses_patience()
    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", lambda group, number: None)
        bay = rig.plug("a")
        turn_until(lambda: bay.health.reason == "it does not answer" and bool(rig.asked()))
        assert len(rig.asked()) == 1
    assert alive(rig.asked()[0][0])
    rig.watch.close()
    assert not alive(rig.asked()[0][0])


def test_an_answer_without_end(
    rig: Rig, turn_until: TurnUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "ANSWER_MAXIMUM", 200_000)
    (rig.directory / "a.babbles").touch()
    bay = rig.plug("a")
    turn_until(answered(bay))
    assert bay.health.reason == "smartctl's answer has no end"
    turn_until(lambda: not alive(rig.asked()[0][0]))


def test_an_answer_longer_than_a_pipe(rig: Rig, turn_until: TurnUntil) -> None:
    bay = rig.plug("a", PASSED | {"padding": "x" * 500_000})
    turn_until(answered(bay))
    assert bay.health.verdict == "good"


def test_smartctl_is_not_installed(
    rig: Rig, turn_until: TurnUntil, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    bay = rig.plug("a")
    turn_until(answered(bay))
    assert bay.health == Health(reason="smartctl is not installed")


def test_a_disk_that_is_being_opened_is_left_alone(
    rig: Rig, turn_until: TurnUntil, monkeypatch: pytest.MonkeyPatch, loop: Loop
) -> None:
    monkeypatch.setattr(health, "BUSY_SECONDS", 0.01)
    bay = rig.plug("a", PASSED)
    bay.opening += 1
    other = rig.plug("b", PASSED)
    turn_until(answered(other))
    assert [asked[-1] for asked in rig.asked()] == [other.found.identity.node]
    bay.opening -= 1
    turn_until(answered(bay))
    assert bay.health.verdict == "good"


def test_one_that_sleeps_is_as_it_was(
    rig: Rig, turn_until: TurnUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PERIOD_SECONDS", 0.01)
    bay = rig.plug("a", PASSED)
    turn_until(answered(bay))
    rig.says("a", {"smartctl": {"messages": [{"string": "Device is in STANDBY mode"}]}}, 2)
    times = len(rig.asked())
    turn_until(lambda: len(rig.asked()) > times + 2)
    assert bay.health.verdict == "good"


def test_one_that_is_pulled_meanwhile_is_nobody_s(rig: Rig, turn_until: TurnUntil) -> None:
    (rig.directory / "a.waits").touch()
    bay = rig.plug("a", FAILED, 8)
    turn_until(lambda: bool(rig.asked()))
    rig.pull(bay)
    (rig.directory / "a.waits").unlink()
    other = rig.plug("b", PASSED)
    turn_until(answered(other))
    assert rig.told() == []


def test_closing_ends_what_runs(rig: Rig, turn_until: TurnUntil) -> None:
    (rig.directory / "a.hangs").touch()
    rig.plug("a")
    turn_until(lambda: bool(rig.asked()))
    rig.watch.close()
    assert not alive(rig.asked()[0][0])
