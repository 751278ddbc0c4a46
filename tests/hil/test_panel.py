"""The panel that tests of a rig plug in, over a real socket, before a played machine."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from appliance.glass import DARK, Backlight, Key
from hil_tests.panel.panel import Panel, PanelTrouble
from tests.drivers.panel_rig import BOARDS, glass
from tests.hil.played_machine import PlayedMachine

PLATE = BOARDS["lcd-plate"]
GREETING = glass("finance    14:02", "protected", Backlight.GREEN)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[PlayedMachine]:
    machine = PlayedMachine(tmp_path / "panel.sock", PLATE)
    machine.glass = GREETING
    yield machine
    machine.switch_off()


@pytest.fixture
def panel(machine: PlayedMachine, tmp_path: Path) -> Iterator[Panel]:
    """Plugged in."""
    with Panel(tmp_path / "panel.sock", PLATE) as panel:
        panel.plug()
        yield panel


def test_it_shows_what_the_machine_wants(panel: Panel, machine: PlayedMachine) -> None:
    assert panel.wait_for("14:02", 10) == GREETING
    machine.glass = glass("other", backlight=Backlight.RED)
    assert panel.wait_for(lambda glass: glass.backlight is Backlight.RED, 10) == machine.glass
    assert panel.glass() == machine.glass


def test_each_press_is_one_press(panel: Panel, machine: PlayedMachine) -> None:
    for key in Key:
        panel.press(key)
    expected = [(key, down) for key in Key for down in (True, False)]
    assert machine.changes(2 * len(Key)) == expected


def test_a_key_is_held_so_long_at_least(panel: Panel, machine: PlayedMachine) -> None:
    start = monotonic()
    panel.hold(Key.SELECT, 0.5)
    assert monotonic() - start >= 0.6
    assert machine.changes(2) == [(Key.SELECT, True), (Key.SELECT, False)]


def test_a_key_that_sticks(panel: Panel, machine: PlayedMachine) -> None:
    panel.press(Key.UP)
    panel.stick(Key.DOWN)
    assert machine.changes(3)[2] == (Key.DOWN, True)
    panel.press(Key.DOWN)
    panel.press(Key.LEFT)
    assert machine.changes(5)[3:] == [(Key.LEFT, True), (Key.LEFT, False)]


def test_a_press_that_a_busy_machine_did_not_see(panel: Panel, machine: PlayedMachine) -> None:
    """Its keypad does not believe a key that went down while nobody watched."""
    machine.stalls = 2
    panel.press(Key.UP)
    panel.press(Key.DOWN)
    assert machine.changes(4) == [
        (key, down) for key in (Key.UP, Key.DOWN) for down in (True, False)
    ]


def test_a_hold_that_a_busy_machine_did_not_watch(panel: Panel, machine: PlayedMachine) -> None:
    machine.stalls = 1
    with pytest.raises(PanelTrouble, match="with select held"):
        panel.hold(Key.SELECT, 3.0)


def test_pulled_and_plugged_in_again(panel: Panel) -> None:
    for _ in range(3):
        panel.wait_for("14:02", 10)
        panel.pull()
        assert panel.glass() == DARK
        panel.plug()
    panel.wait_for("14:02", 10)


def test_broken_wires(panel: Panel, machine: PlayedMachine) -> None:
    panel.wait_for("14:02", 10)
    with panel.silent():
        machine.glass = glass("unseen")
        with pytest.raises(PanelTrouble, match=r"no 'unseen'.*14:02"):
            panel.wait_for("unseen", 0.3)
    panel.wait_for("unseen", 10)


def test_the_plate_alone_without_power_for_a_moment(panel: Panel) -> None:
    panel.wait_for("14:02", 10)
    panel.blink()
    panel.wait_for(lambda glass: glass == GREETING, 10)


def test_a_machine_that_goes_off(panel: Panel, machine: PlayedMachine) -> None:
    panel.wait_for("14:02", 10)
    machine.switch_off()
    with pytest.raises(PanelTrouble, match="hung up"):
        panel.wait_for("never", 10)
    assert panel.glass() == DARK
    with pytest.raises(PanelTrouble, match="hung up"):
        panel.press(Key.UP)
    with pytest.raises(ConnectionRefusedError):
        panel.plug()


def test_no_machine(tmp_path: Path) -> None:
    panel = Panel(tmp_path / "none.sock", PLATE)
    with pytest.raises(FileNotFoundError):
        panel.plug()
    with pytest.raises(PanelTrouble, match="not plugged in"):
        panel.wait_for("anything", 10)
    panel.pull()
