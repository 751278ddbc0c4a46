"""The PIN, typed with five keys, and the wait that grows."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from appliance.glass import Key
from appliance.operators.access.lockout import FREE_TRIES, Lockout
from tests.operators.panel.played_panel import PlayedPanel, open_menu, served_panel

SELECT, RIGHT, DOWN, UP, LEFT = Key


@pytest.fixture
def lockout(tmp_path: Path) -> Lockout:
    return Lockout(tmp_path / "lockout")


@pytest.fixture
def panel(tmp_path: Path, lockout: Lockout) -> Iterator[PlayedPanel]:
    with served_panel(tmp_path, tries=lockout, pin="3091") as (panel, _):
        yield panel


def type_pin(panel: PlayedPanel, pin: str, compared: bool = True) -> None:
    """And wait until it was `compared`."""
    for place, digit in enumerate(pin):
        if place:
            panel.tap(RIGHT)
        panel.tap(*[UP] * int(digit) if int(digit) < 6 else [DOWN] * (10 - int(digit)))
    panel.machine.press(SELECT)
    panel.machine.release(SELECT)
    if compared:
        panel.turn(0.25)


def test_it_is_asked_before_anything_that_changes(panel: PlayedPanel) -> None:
    open_menu(panel, "Snapshot")
    assert panel.lines == ("PIN: ▲▼ next ▶ ↵", "0               ")
    assert panel.asked == []
    type_pin(panel, "3091")
    assert panel.lines[1] == "↵ start   ◀ back"
    panel.tap(SELECT)
    assert panel.lines[0].startswith("Taken")


@pytest.mark.parametrize("leave", ["back", "service"])
@pytest.mark.parametrize(("pin", "wrong"), [("3091", 0), ("3092", 1)])
def test_what_comes_of_one_counts_though_nobody_waits_for_it(
    panel: PlayedPanel, lockout: Lockout, leave: str, pin: str, wrong: int
) -> None:
    """And lets nobody in."""
    open_menu(panel, "Snapshot")
    type_pin(panel, pin, compared=False)
    assert lockout.failures == 1
    if leave == "back":
        panel.machine.press(LEFT)
        assert panel.lines[0].startswith("Menu")
    else:
        panel.machine.lose_service()
    panel.turn(1.5)
    assert lockout.failures == wrong
    if leave == "service":
        panel.tap(SELECT, DOWN)
    panel.tap(SELECT)
    assert panel.lines == ("PIN: ▲▼ next ▶ ↵", "0               ")


def test_the_wait_is_not_over_before_it_is_known_what_came_of_one(
    panel: PlayedPanel, lockout: Lockout
) -> None:
    open_menu(panel, "Snapshot")
    for _ in range(FREE_TRIES - 1):
        type_pin(panel, "1")
    type_pin(panel, "1", compared=False)
    assert panel.lines == ("PIN             ", "checking...     ")
    panel.machine.press(LEFT)
    panel.machine.press(SELECT)
    assert panel.lines[0] == "Wrong PIN. Wait "
    panel.turn(0.1)
    assert panel.lines[0] == "Wrong PIN. Wait "
    assert lockout.failures == FREE_TRIES


def test_reading_needs_none(panel: PlayedPanel) -> None:
    for label in ("Status", "Disks", "Alerts"):
        open_menu(panel, label)
        assert "PIN" not in panel.text
        panel.tap(LEFT, LEFT)


def test_only_the_last_digit_is_shown(panel: PlayedPanel) -> None:
    open_menu(panel, "Snapshot")
    panel.tap(UP, RIGHT, DOWN, RIGHT, UP, UP)
    assert panel.lines[1] == "**2             "
    panel.tap(LEFT)
    assert panel.lines[1] == "*9              "
    panel.tap(LEFT, LEFT)
    assert panel.lines[0].startswith("Menu")


def test_it_is_asked_once_until_the_panel_is_left(panel: PlayedPanel) -> None:
    open_menu(panel, "Snapshot")
    type_pin(panel, "3091")
    panel.tap(LEFT, SELECT)
    assert panel.lines[1] == "↵ start   ◀ back"
    panel.tap(LEFT, LEFT)
    open_menu(panel, "Snapshot")
    assert panel.lines[0].startswith("PIN")
    type_pin(panel, "3091")
    panel.turn(65.0)
    open_menu(panel, "Snapshot")
    assert panel.lines[0].startswith("PIN")


def test_a_wrong_one_changes_nothing(panel: PlayedPanel) -> None:
    open_menu(panel, "Snapshot")
    for wrong in ("3092", "309", "30910")[: FREE_TRIES - 1]:
        type_pin(panel, wrong)
        assert panel.lines[0] == "Wrong PIN       "
    panel.tap(LEFT)
    assert panel.asked == []


def test_wrong_ones_make_wait_ever_longer(panel: PlayedPanel) -> None:
    open_menu(panel, "Snapshot")
    for _ in range(FREE_TRIES):
        type_pin(panel, "1")
    waits = []
    for _ in range(4):
        assert panel.lines[0] == "Wrong PIN. Wait "
        began = panel.now
        while panel.lines[0] == "Wrong PIN. Wait ":
            panel.tap(UP)  # does nothing, and keeps the panel from the idle page
            panel.turn(0.5)
        waits.append(panel.now - began)
        type_pin(panel, "1")
    for earlier, later in pairwise(waits):
        assert later > 1.5 * earlier
    while panel.lines[0] == "Wrong PIN. Wait ":
        panel.tap(UP)
    type_pin(panel, "3091")
    assert panel.lines[1] == "↵ start   ◀ back"


def test_a_restart_ends_no_wait(panel: PlayedPanel, tmp_path: Path) -> None:
    open_menu(panel, "Snapshot")
    for _ in range(FREE_TRIES):
        type_pin(panel, "1")
    again = PlayedPanel(panel._ask, Lockout(tmp_path / "lockout"), "3091")
    open_menu(again, "Snapshot")
    assert again.lines[0] == "Wrong PIN. Wait "


def test_walking_away_ends_no_wait(panel: PlayedPanel) -> None:
    open_menu(panel, "Snapshot")
    for _ in range(FREE_TRIES):
        type_pin(panel, "1")
    panel.tap(LEFT, LEFT)
    open_menu(panel, "Snapshot")
    assert panel.lines[0] == "Wrong PIN. Wait "
    panel.tap(LEFT)
    assert panel.lines[0].startswith("Menu")
