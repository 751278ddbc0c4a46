"""The front panel before a real service: cdp-panel on the simulated part, worked from afar."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.glass import Key
from appliance.operators.control.client import ControlClient
from tests.operators.panel.stranger import restore_ten_minutes
from tests.service.service_process import BIN, MIB, Service

MINUTE = 60
BACK = "the service is there again"


class PanelProcess:
    """A cdp-panel; also the hands that work it: see `stranger.Hands`."""

    def __init__(self, service: Service, *lines: str) -> None:
        self._service = service
        self.log = service.room / f"panel-{os.urandom(4).hex()}.log"
        self.config = self.log.with_suffix(".toml")
        settings = ["[panel]", 'bus = "simulated"', *lines]
        self.config.write_text(service.config.read_text() + "\n".join(settings) + "\n")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [BIN / "cdp-panel", "--config", self.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self) -> int:
        """Its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def story(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, words: str, seconds: float = 20.0) -> tuple[str, str]:
        """The glass, once it says so."""
        seen: list[tuple[str, str]] = []

        def says() -> bool:
            seen[:] = [self.lines]
            return words in "\n".join(seen[0])

        self._service.wait(says, f"the glass to say {words}, last {seen}", seconds)
        return seen[0]

    @property
    def lines(self) -> tuple[str, str]:
        first, second = self._service.ask("panel")["lines"]
        return first, second

    def tap(self, *keys: Key) -> None:
        for key in keys:
            self._service.ask("panel", press=key.value)

    def hold(self, key: Key, seconds: float) -> None:
        """Again where it did not count: what a panel's process that stood still has not seen."""
        while "Let go too soon" in self._press(key, seconds):
            self.until("Hold Select")

    def _press(self, key: Key, seconds: float) -> str:
        return "\n".join(self._service.ask("panel", press=key.value, hold=seconds)["lines"])

    def turn(self, seconds: float) -> None:
        """Until the glass is another one, at least."""
        before = self.lines
        self._service.wait(lambda: self.lines != before, "the glass to change", 10 * seconds)


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    service = make_service()
    service.disk("alpha", 8 * MIB)
    service.disk("beta", 64 * MIB)
    return service


@pytest.fixture
def start_panel(service: Service) -> Iterator[Callable[..., PanelProcess]]:
    """Starts a panel at the service; it ends in good order, and never by a trace."""
    with contextlib.ExitStack() as made:

        def start(*lines: str) -> PanelProcess:
            panel = PanelProcess(service, *lines)

            def end() -> None:
                if panel.process.poll() is None:
                    assert panel.end() == 0, panel.story()
                assert "Traceback" not in panel.story(), panel.story()

            made.callback(end)
            return panel

        yield start


def test_a_stranger_restores_to_ten_minutes_ago(
    service: Service, start_panel: Callable[..., PanelProcess]
) -> None:
    """In six presses and a hold, knowing only the words on the glass; and the bytes are those."""
    service.command = [sys.executable, "-m", "tests.service.earlier", str(12 * MINUTE)]
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    with service.connect("finance") as client:
        client.write(0, b"then" * 4096)
        client.flush()
    then = service.contents("finance")
    service.stop()
    service.command = [BIN / "cdpd"]
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    with service.connect("finance") as client:
        client.write(0, b"ruin" * 8192)
    panel = start_panel()
    panel.until("protected")
    assert restore_ten_minutes(panel, "finance") <= 6
    panel.until("restore done")
    service.until(
        "finance", lambda status: status["job"] is None and status["state"] == "protected"
    )
    assert service.contents("finance") == then
    (asked,) = (event for event in service.events("EV903") if "restore" in event["text"])
    assert " at panel asked for: restore finance --to write:" in asked["text"]


def test_pressed_and_seen_by_cdpctl(
    service: Service, start_panel: Callable[..., PanelProcess]
) -> None:
    service.start("alpha", "beta")
    assert service.refusal("panel")[1] == "EB605"
    start_panel().until("No volumes yet")
    glass = service.do("panel", "--press", "select")
    assert glass == {
        "schema": 1,
        "lines": ["Menu           ▼", "▶Restore       ↵"],
        "backlight": "white",
    }
    assert service.do("panel") == glass


def test_a_service_that_dies_and_comes_back(
    service: Service, start_panel: Callable[..., PanelProcess]
) -> None:
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    panel = start_panel()
    panel.until("finance")
    for lives in (1, 2):
        service.kill()
        service.start("alpha", "beta")
        service.wait(lambda n=lives: panel.story().count(BACK) == n, BACK)  # type: ignore[misc]
        panel.until("protected")
        panel.tap(Key.SELECT)
        assert panel.lines[0].startswith("Menu")
    assert panel.process.poll() is None
    assert panel.story().count("the service is away") == 2


def before_a_plan(service: Service, start_panel: Callable[..., PanelProcess]) -> PanelProcess:
    """Somebody stands at the panel before the plan of a restore, and may hold."""
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    service.ask("snapshot", volume="finance", name="good")
    panel = start_panel()
    panel.until("protected")
    panel.tap(Key.SELECT, Key.SELECT, Key.DOWN, Key.SELECT, Key.SELECT)
    panel.until("Hold Select")
    return panel


def test_a_plan_before_the_service_died_is_not_confirmed_after(
    service: Service, start_panel: Callable[..., PanelProcess]
) -> None:
    panel = before_a_plan(service, start_panel)
    service.kill()
    service.start("alpha", "beta")
    panel.until("finance")
    panel.hold(Key.SELECT, 4.0)
    assert service.status("finance")["last_job"] is None
    assert not [event for event in service.events("EV903") if "restore" in event["text"]]


def test_a_disk_that_comes_is_told(
    service: Service, start_panel: Callable[..., PanelProcess]
) -> None:
    service.start("alpha", "beta")
    panel = start_panel()
    panel.until("No volumes yet")
    service.disk("gamma", 8 * MIB)
    assert panel.until("disk is here")[0].strip() == "gamma"
    (service.disks / "gamma.img").unlink()
    assert panel.until("disk is gone")[0].strip() == "gamma"


def test_one_volume_at_two_faces(
    service: Service, start_panel: Callable[..., PanelProcess]
) -> None:
    """While somebody stands before a plan, nobody else changes anything."""
    panel = before_a_plan(service, start_panel)
    code, error, sentence = service.refusal("sync", "finance")
    assert (code, error) == (3, "EB604")
    assert "at panel" in sentence
    panel.tap(Key.LEFT)
    service.wait(lambda: service.ask("status")["operator"] is None, "the panel to give way")
    service.do("sync", "finance", "--wait")
    with ControlClient(service.socket, "console ttyS0") as console:
        console.request("lock", {})
        panel.tap(Key.SELECT)
        assert panel.until("EB604")


def test_a_pin(service: Service, start_panel: Callable[..., PanelProcess]) -> None:
    done = subprocess.run(
        [BIN / "cdp-panel", "--hash-pin"], input=b"1021\n", capture_output=True, check=True
    )
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    panel = start_panel(f'pin_hash = "{done.stdout.decode().strip()}"')
    panel.until("protected")
    panel.tap(Key.SELECT, Key.DOWN, Key.SELECT)
    assert panel.lines[0].startswith("PIN")
    panel.tap(Key.SELECT)
    panel.until("Wrong PIN")
    failures = service.room / "state" / "panel" / "failures"
    assert failures.read_text() == "1\n"
    panel.tap(Key.UP, Key.RIGHT, Key.RIGHT, Key.UP, Key.UP, Key.RIGHT, Key.UP, Key.SELECT)
    panel.until("Snapshot of fina")
    panel.tap(Key.SELECT)
    panel.until("Taken:")
    (taken,) = service.ask("timeline", volume="finance")["snapshots"]
    assert re.fullmatch(r"20\d{6}T\d{6}Z", taken["name"])
    assert failures.read_text() == "0\n"
    assert "1021" not in panel.story() + service.story()


@pytest.mark.parametrize("pin", ["", "123", "1234567890123", "12a4", "１２３４"])
def test_what_is_no_pin(pin: str) -> None:
    done = subprocess.run(
        [BIN / "cdp-panel", "--hash-pin"],
        input=f"{pin}\n".encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == b""


def test_of_two_panels_the_second_waits(
    service: Service, start_panel: Callable[..., PanelProcess]
) -> None:
    service.start("alpha", "beta")
    first = start_panel()
    first.until("No volumes yet")
    second = start_panel()
    service.wait(lambda: "another front panel is connected" in second.story(), "EB608 to be told")
    first.tap(Key.SELECT)
    assert first.lines[0].startswith("Menu")
    assert first.end() == 0
    second.until("No volumes yet")


def test_a_panel_that_is_not_there_is_waited_for(
    service: Service, start_panel: Callable[..., PanelProcess], tmp_path: Path
) -> None:
    service.start("alpha", "beta")
    panel = start_panel()
    text = panel.config.read_text().replace('"simulated"', f'"{tmp_path}/i2c-9"')
    panel.end()
    panel.config.write_text(text)
    with panel.log.open("ab") as log:
        panel.process = subprocess.Popen(
            [BIN / "cdp-panel", "--config", panel.config], stdout=log, stderr=log
        )
    panel.until("No volumes yet")
    panel.tap(Key.SELECT)
    assert panel.lines[0].startswith("Menu")
    assert "no panel: No such file or directory" in panel.story()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('board = "no-such-plate"', "EB620"),
        ("address = 0x50", "EB601"),
        ('pin_hash = "1234"', "EB601"),
    ],
)
def test_bad_settings_are_told(service: Service, line: str, code: str) -> None:
    panel = PanelProcess(service, line)
    assert panel.process.wait(20) == 1
    assert code in panel.story()
    assert "Traceback" not in panel.story()
