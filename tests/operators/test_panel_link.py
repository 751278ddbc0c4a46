"""The panel worked from afar, in virtual time: no key is handled twice, or lost in silence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.cdp.tasks import Task
from appliance.errors import AnotherPanel, EbbtideError, KeyNotHandled, NoPanel
from appliance.operators.panel_link import (
    HANDLE_SECONDS,
    KEYS_MAXIMUM,
    POLL_SECONDS,
    SILENT_SECONDS,
    SITTING_SECONDS,
)
from tests.operators.office import Connection, Office


def glass(text: str) -> list[str]:
    return [text.ljust(16), "▲" * 16]


class Panel:
    """A panel's process, that does what it is told."""

    def __init__(self, office: Office, user: str = "cdp-panel") -> None:
        self.connection: Connection = office.connect(user, "panel")

    def ask(self, text: str, handled: int = 0) -> Task[Any]:
        return self.connection.ask(
            "panel exchange", lines=glass(text), backlight="green", handled=handled
        )


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    opened = Office(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def panel(office: Office) -> Panel:
    return Panel(office)


def keys(poll: Task[Any]) -> list[tuple[int, str, float]]:
    assert poll.finished
    return [(key.number, key.key, key.hold) for key in poll.result().keys]


def shown(office: Office) -> str:
    return str(office.do(office.bob, "panel").lines[0]).rstrip()


def test_there_is_no_panel(office: Office) -> None:
    for arguments in ({}, {"press": "select"}):
        with pytest.raises(NoPanel):
            office.do(office.bob, "panel", **arguments)


def test_the_glass_is_what_the_panel_said_last(office: Office, panel: Panel) -> None:
    panel.ask("one")
    answer = office.do(office.bob, "panel")
    assert (answer.lines, answer.backlight) == (glass("one"), "green")
    panel.ask("two")
    assert shown(office) == "two"


def test_a_question_is_answered_by_the_next_one_or_after_a_while(
    office: Office, panel: Panel
) -> None:
    first = panel.ask("one")
    second = panel.ask("two")
    assert keys(first) == []
    office.world.run_for(POLL_SECONDS - 0.001)
    assert not second.finished
    office.world.run_for(0.001)
    assert keys(second) == []


def test_a_key_is_handed_over_once_and_the_glass_after_it_is_the_answer(
    office: Office, panel: Panel
) -> None:
    poll = panel.ask("one")
    press = office.bob.ask("panel", press="select", hold=3)
    assert keys(poll) == [(1, "select", 3.0)]
    filling = panel.ask("holding", handled=0)
    assert not filling.finished
    assert not press.finished
    after = panel.ask("done", handled=1)
    assert press.result().lines == glass("done")
    assert not after.finished
    office.world.run_for(POLL_SECONDS)
    assert keys(after) == []


def test_keys_that_came_while_the_panel_was_busy_wait_for_it(office: Office, panel: Panel) -> None:
    panel.ask("one")
    first = office.bob.ask("panel", press="up")
    others = [office.ann.ask("panel", press=key) for key in ("down", "left")]
    poll = panel.ask("after up", handled=99)
    assert first.result().lines == glass("after up")
    assert not any(other.finished for other in others)
    assert keys(poll) == [(2, "down", 0.0), (3, "left", 0.0)]
    panel.ask("after all", handled=3)
    assert [other.result().lines[0].rstrip() for other in others] == ["after all"] * 2


def test_a_key_that_is_not_handled_in_time_is_told_and_not_handed_over_later(
    office: Office, panel: Panel
) -> None:
    panel.ask("one")
    office.bob.ask("panel", press="up")
    press = office.bob.ask("panel", press="select", hold=2.5)
    office.world.run_for(HANDLE_SECONDS + 2)
    assert not press.finished
    office.world.run_for(0.5)
    with pytest.raises(KeyNotHandled, match="key select: it took longer than 10 s"):
        press.result()
    poll = panel.ask("back again", handled=1)
    assert not poll.finished


def test_a_presser_that_goes_away_takes_its_key_back(office: Office, panel: Panel) -> None:
    panel.ask("one")
    office.bob.ask("panel", press="up")
    office.ann.ask("panel", press="select")
    office.ann.close()
    poll = panel.ask("two", handled=1)
    assert not poll.finished


@pytest.mark.parametrize("user", ["cdp-panel", "bob"])
def test_the_panel_that_is_there_stays_it(office: Office, panel: Panel, user: str) -> None:
    poll = panel.ask("first")
    other = Panel(office, user)
    for _ in range(2):
        with pytest.raises(AnotherPanel):
            other.ask("second", handled=99).result()
    press = office.bob.ask("panel", press="up")
    assert keys(poll) == [(1, "up", 0.0)]
    other.connection.close()
    assert not press.finished
    panel.ask("pressed", handled=1)
    assert press.result().lines == glass("pressed")
    assert shown(office) == "pressed"


def test_another_panel_follows_one_that_goes_away(office: Office, panel: Panel) -> None:
    panel.ask("first")
    other = Panel(office)
    panel.connection.close()
    waiting = other.ask("second")
    assert shown(office) == "second"
    office.bob.ask("panel", press="down")
    assert keys(waiting) == [(1, "down", 0.0)]


def test_another_panel_follows_one_that_hangs(office: Office, panel: Panel) -> None:
    panel.ask("hangs")
    office.world.run_for(POLL_SECONDS + SILENT_SECONDS + 0.001)
    other = Panel(office)
    waiting = other.ask("second")
    with pytest.raises(AnotherPanel):
        panel.ask("awake again").result()
    panel.connection.close()
    assert shown(office) == "second"
    assert not waiting.finished


def test_a_panel_that_goes_away_is_none(office: Office, panel: Panel) -> None:
    panel.ask("one")
    office.bob.ask("panel", press="up")
    panel.ask("two")
    press = office.bob.ask("panel", press="down")
    panel.connection.close()
    with pytest.raises(KeyNotHandled, match="it went away"):
        press.result()
    with pytest.raises(NoPanel):
        office.do(office.bob, "panel")


def test_a_panel_that_goes_silent_is_none_until_it_speaks_again(
    office: Office, panel: Panel
) -> None:
    panel.ask("one")
    office.world.run_for(POLL_SECONDS + SILENT_SECONDS - 0.001)
    assert shown(office) == "one"
    office.world.run_for(0.001)
    with pytest.raises(NoPanel):
        office.do(office.bob, "panel")
    panel.ask("awake")
    assert shown(office) == "awake"


def test_keys_that_wait_are_bounded(office: Office, panel: Panel) -> None:
    panel.ask("one")
    for _ in range(KEYS_MAXIMUM):
        office.bob.ask("panel", press="up")
    with pytest.raises(KeyNotHandled, match="16 keys wait already"):
        office.do(office.ann, "panel", press="up")
    panel.ask("two", handled=1)
    assert not office.ann.ask("panel", press="up").finished


def test_who_works_the_panel_is_told_once_a_sitting(office: Office, panel: Panel) -> None:
    panel.ask("one")
    texts = ["bob works the front panel from afar"]
    for _ in range(3):
        office.bob.ask("panel", press="up")
        assert office.texts("EV906") == texts
    office.ann.ask("panel", press="up")
    texts.append("ann at console ttyS0 works the front panel from afar")
    assert office.texts("EV906") == texts
    for pause in (SITTING_SECONDS - 1, SITTING_SECONDS):
        for _ in range(int(pause // POLL_SECONDS)):
            panel.ask("one", handled=99)
            office.world.run_for(POLL_SECONDS)
        office.world.run_for(pause % POLL_SECONDS)
        panel.ask("one", handled=99)
        office.ann.ask("panel", press="up")
    assert office.texts("EV906") == [*texts, texts[-1]]


def test_keys_are_pressed_whoever_holds_the_lock(office: Office, panel: Panel) -> None:
    """The panel itself may hold it: how else would its dialogue be confirmed from afar?"""
    panel.connection.ask("lock")
    poll = panel.ask("hold to restore")
    office.bob.ask("panel", press="select", hold=3)
    assert keys(poll) == [(1, "select", 3.0)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"lines": glass("x")},
        {"lines": glass("x"), "backlight": "green"},
        {"lines": ["x" * 16], "backlight": "green", "handled": 0},
        {"lines": ["x" * 16, "x" * 15], "backlight": "green", "handled": 0},
        {"lines": ["x" * 16, "\x1b" * 16], "backlight": "green", "handled": 0},
        {"lines": glass("x"), "backlight": "pink", "handled": 0},
        {"lines": glass("x"), "backlight": "green", "handled": -1},
    ],
)
def test_a_glass_is_checked(office: Office, panel: Panel, arguments: dict[str, object]) -> None:
    with pytest.raises(EbbtideError) as refused:
        panel.connection.ask("panel exchange", **arguments).result()
    assert refused.value.code == "EB602"


@pytest.mark.parametrize(
    "arguments",
    [
        {"press": "enter"},
        {"press": "select", "hold": -1},
        {"press": "select", "hold": 10.5},
        {"press": "select", "hold": True},
        {"hold": 3},
    ],
)
def test_a_press_is_checked(office: Office, panel: Panel, arguments: dict[str, object]) -> None:
    panel.ask("one")
    with pytest.raises(EbbtideError) as refused:
        office.do(office.bob, "panel", **arguments)
    assert refused.value.code == "EB602"
