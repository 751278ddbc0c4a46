"""Which moment, what the plan says, and the hold that it takes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from appliance.cdp.points import Point, Snapshot
from appliance.cdp.tasks import Completion
from appliance.errors import PointSuspect
from appliance.glass import Key
from appliance.operators.control.client import ControlClient
from tests.operators.fake_appliance import MINUTE, NOON, FakePlan
from tests.operators.panel.played_panel import PlayedPanel, open_menu
from tests.operators.running_service import RunningService

SELECT, RIGHT, DOWN, UP, LEFT = Key
READY = "Hold Select 3s ◀"


def plan(panel: PlayedPanel) -> None:
    open_menu(panel, "Restore", "By time", "10 min ago")
    assert panel.lines[1] == READY


def entries(panel: PlayedPanel) -> list[str]:
    """All of the list on the glass."""
    found = [panel.lines[1][1:15].strip()]
    while "▼" in panel.lines[0]:
        panel.tap(DOWN)
        found.append(panel.lines[1][1:15].strip())
    return found


# Which moment


def test_steps_that_the_window_holds(panel: PlayedPanel) -> None:
    open_menu(panel, "Restore", "By time")
    assert entries(panel) == ["1 min ago", "10 min ago", "oldest of all", "other time..."]


def test_all_steps(panel: PlayedPanel, service: RunningService) -> None:
    def stretch() -> None:
        old = NOON - 60 * 24 * 60 * MINUTE
        service.finance.chain[0] = replace(service.finance.chain[0], opened_ns=old)

    service.on_loop(stretch)
    panel.turn(1.1)
    open_menu(panel, "Restore", "By time")
    assert entries(panel)[:7] == [
        "1 min ago",
        "10 min ago",
        "1 hour ago",
        "4 hours ago",
        "1 day ago",
        "1 week ago",
        "4 weeks ago",
    ]


def test_no_past_yet(panel: PlayedPanel, service: RunningService) -> None:
    service.on_loop(service.finance.chain.clear)
    panel.turn(1.1)
    open_menu(panel, "Restore", "By time")
    assert panel.lines[1] == "no past yet     "
    panel.tap(SELECT)
    assert panel.asked == []


def test_the_oldest(panel: PlayedPanel) -> None:
    open_menu(panel, "Restore", "By time", "oldest of all")
    assert panel.requests("restore") == [{"volume": "finance", "to": "write:1", "plan": True}]


def test_a_fine_time(panel: PlayedPanel) -> None:
    open_menu(panel, "Restore", "By time", "other time...")
    first, second = panel.lines
    assert first == " 00d 00h▶10m 00s"
    assert second.startswith("Nov22 11:5")
    assert second.endswith("Z↵")
    panel.tap(UP, UP, RIGHT, DOWN, LEFT, LEFT, UP, LEFT, UP, UP)
    assert panel.lines[0] == "▶02d 01h 11m 59s"
    panel.tap(SELECT)
    seconds = 2 * 86400 + 3600 + 11 * 60 + 59
    assert panel.requests("restore") == [{"volume": "finance", "to": f"-{seconds}s", "plan": True}]


def test_a_fine_time_has_ends(panel: PlayedPanel) -> None:
    open_menu(panel, "Restore", "By time", "other time...")
    panel.hold(DOWN, 5.0)
    assert panel.lines[0] == " 00d 00h▶00m 01s"
    panel.tap(LEFT, LEFT)
    panel.hold(UP, 30.0)
    assert panel.lines[0] == "▶99d 23h 59m 59s"
    panel.tap(LEFT)
    assert panel.lines[1] == "▶other time... ↵"


def test_snapshots_newest_first(panel: PlayedPanel, service: RunningService) -> None:
    names = service.finance.names

    def take() -> None:
        names["after"] = Snapshot("after", 900, NOON - MINUTE, False)

    service.on_loop(take)
    open_menu(panel, "Restore", "By snapshot")
    assert entries(panel) == ["after", "before-upgrade"]
    panel.tap(SELECT)
    assert panel.requests("restore") == [
        {"volume": "finance", "to": "snapshot:before-upgrade", "plan": True}
    ]
    panel.hold(SELECT, 3.2)
    assert panel.destroyed == [{"volume": "finance", "to": "write:450", "yes": True}]


def test_no_snapshots(panel: PlayedPanel, service: RunningService) -> None:
    service.on_loop(service.finance.names.clear)
    open_menu(panel, "Restore", "By snapshot")
    assert panel.lines[1] == "none taken yet  "


# The plan


def test_what_the_plan_says(panel: PlayedPanel) -> None:
    plan(panel)
    read = []
    for _ in range(5):
        read.append(panel.lines[0].strip())
        panel.tap(DOWN)
    assert read == [
        "finance back to",
        "Nov22 11:50:00Z",
        "2.0 MiB change",
        "hosts disconnect",
        "on disk ..SN-p",
    ]
    panel.tap(UP)
    assert panel.lines == ("on disk ..SN-p  ", READY)
    panel.turn(2.1)
    assert panel.lines[0] == "finance back to "


def test_a_suspect_point_is_refused_in_words(panel: PlayedPanel, service: RunningService) -> None:
    def refuse(name: str, point: Point, force: bool) -> Completion[FakePlan]:
        raise PointSuspect(point=point.text, from_write=900, until=1100)

    service.appliance.plan_restore = refuse  # type: ignore[method-assign]
    open_menu(panel, "Restore", "By time", "10 min ago")
    assert panel.lines[0].startswith("EB404")
    panel.hold(SELECT, 5.0)
    assert panel.destroyed == []
    assert panel.asked[-1] == ("unlock", {})


# The hold


def test_the_hold_shows_a_bar_that_fills(panel: PlayedPanel) -> None:
    plan(panel)
    panel.machine.press(SELECT)
    bars = []
    for _ in range(29):
        panel.turn(0.1)
        assert panel.lines[0] == "Keep holding... "
        bars.append(panel.lines[1])
    filled = [bar.count("█") + bar.count("▌") / 2 for bar in bars]
    assert filled == sorted(filled)
    assert filled[0] < 1
    assert 15 <= filled[-1] < 16
    assert panel.destroyed == []
    panel.turn(0.2)
    assert len(panel.destroyed) == 1
    panel.machine.release(SELECT)
    panel.turn(5.0)
    assert len(panel.destroyed) == 1


def test_letting_go_cancels(panel: PlayedPanel) -> None:
    plan(panel)
    for _ in range(5):
        panel.hold(SELECT, 2.9)
        assert panel.lines == ("Let go too soon:", "nothing is done ")
    panel.turn(2.5)
    assert panel.lines[1] == READY
    assert panel.destroyed == []


@pytest.mark.parametrize("other", [RIGHT, DOWN, UP, LEFT, SELECT])
def test_another_key_cancels(panel: PlayedPanel, other: Key) -> None:
    plan(panel)
    panel.machine.press(SELECT)
    panel.turn(2.0)
    panel.machine.press(other)
    panel.turn(10.0)
    assert panel.destroyed == []


@pytest.mark.parametrize("other", [RIGHT, DOWN, UP])
def test_no_other_key_confirms(panel: PlayedPanel, other: Key) -> None:
    plan(panel)
    panel.hold(other, 10.0)
    assert panel.destroyed == []


def test_select_held_since_before_the_plan_confirms_nothing(panel: PlayedPanel) -> None:
    open_menu(panel, "Restore", "By time")
    panel.tap(DOWN)
    panel.machine.press(SELECT)
    panel.turn(20.0)
    assert panel.lines[1] == READY
    assert panel.destroyed == []


def test_a_stretch_that_nobody_watched_is_no_holding(panel: PlayedPanel) -> None:
    plan(panel)
    panel.machine.press(SELECT)
    panel.turn(0.2)
    for _ in range(3):
        panel.now += 4
        panel.turn(0.1)
    assert panel.lines[0] == "Keep holding... "
    assert panel.destroyed == []


def test_the_end_of_patience_cancels(panel: PlayedPanel) -> None:
    plan(panel)
    panel.turn(70.0)
    assert panel.asked[-1] == ("unlock", {})
    panel.hold(SELECT, 4.0)
    assert panel.destroyed == []


def test_the_lock_is_held_from_before_the_plan_to_after_the_request(
    panel: PlayedPanel, service: RunningService
) -> None:
    holders: list[str | None] = []
    ask: Callable[..., dict[str, Any]] = panel._ask

    def watched(verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        answer = ask(verb, arguments)
        with ControlClient(service.socket) as other:
            operator = other.request("status", {})["operator"]
        if verb in ("lock", "restore", "unlock"):
            holders.append(operator and operator["actor"])
        return answer

    panel._ask = watched
    plan(panel)
    panel.hold(SELECT, 3.2)
    assert len(holders) == 4
    assert {str(holder).partition(" at ")[2] for holder in holders[:3]} == {"panel"}
    assert holders[3] is None


def test_who_asked_and_from_where_is_in_the_event_log(
    panel: PlayedPanel, service: RunningService
) -> None:
    plan(panel)
    panel.hold(SELECT, 3.2)
    told = service.on_loop(lambda: msgspec.to_builtins(service.appliance.events(None, 0, 50)))
    assert any(
        event["code"] == "EV903"
        and "at panel" in event["text"]
        and "restore finance --to write:1000" in event["text"]
        for event in told
    )
