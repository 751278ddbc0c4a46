"""Contacts that bounce, stick, and were down when nobody looked."""

import random

from appliance.glass import Key
from appliance.operators.panel.keypad import STUCK_SECONDS, Edge, Keypad

UP: frozenset[Key] = frozenset()
SELECT = frozenset({Key.SELECT})
POLL = 0.015


class Reader:
    """Reads a keypad every 15 ms."""

    def __init__(self) -> None:
        self.keypad = Keypad()
        self.now = 50.0
        self.read(UP, 0.1)

    def read(self, down: frozenset[Key], seconds: float) -> list[Edge]:
        changes: list[Edge] = []
        end = self.now + seconds
        while self.now < end:
            self.now += POLL
            changes += self.keypad.read(down, self.now)
        return changes


def test_a_press_and_a_release() -> None:
    reader = Reader()
    assert reader.read(SELECT, 0.1) == [(Key.SELECT, True)]
    assert reader.read(UP, 0.1) == [(Key.SELECT, False)]


def test_a_press_is_felt_at_once() -> None:
    assert Reader().read(SELECT, 0.045) == [(Key.SELECT, True)]


def test_contacts_bounce() -> None:
    reader, dice = Reader(), random.Random(1)
    changes: list[Edge] = []
    for settled in (SELECT, UP) * 20:
        for _ in range(dice.randrange(6)):
            changes += reader.read(dice.choice((SELECT, UP)), POLL)
        changes += reader.read(settled, 0.1)
    assert changes == [(Key.SELECT, True), (Key.SELECT, False)] * 20


def test_a_spike_is_no_press() -> None:
    reader = Reader()
    assert reader.read(SELECT, POLL) + reader.read(UP, 0.2) == []


def test_a_key_that_is_down_at_the_start_is_believed_once_it_was_up() -> None:
    reader = Reader()
    reader.keypad = Keypad()
    assert reader.read(SELECT, 5) == []
    assert reader.read(UP, 0.1) == []
    assert reader.read(SELECT, 0.1) == [(Key.SELECT, True)]


def test_a_key_held_while_the_panel_is_away_is_let_go() -> None:
    reader = Reader()
    reader.read(SELECT, 1)
    assert reader.keypad.lose() == [(Key.SELECT, False)]
    assert reader.keypad.lose() == []
    assert reader.read(SELECT, 5) == []


def test_a_key_held_while_nobody_looks_is_let_go() -> None:
    reader = Reader()
    reader.read(SELECT, 1)
    reader.now += 2.9
    assert reader.read(SELECT, 1) == [(Key.SELECT, False)]
    assert reader.read(UP, 1) == []


def test_a_stuck_key_is_told_and_ignored() -> None:
    reader = Reader()
    assert reader.read(SELECT, STUCK_SECONDS - 1) == [(Key.SELECT, True)]
    assert reader.keypad.stuck == frozenset()
    assert reader.read(SELECT, 60) == [(Key.SELECT, False)]
    assert reader.keypad.stuck == {Key.SELECT}
    both = SELECT | {Key.DOWN}
    assert reader.read(both, 0.1) == [(Key.DOWN, True)]
    assert reader.read(UP, 0.1) == [(Key.DOWN, False)]
    assert reader.keypad.stuck == frozenset()
    assert reader.read(SELECT, 0.1) == [(Key.SELECT, True)]


def test_a_key_stuck_from_the_start_is_told() -> None:
    reader = Reader()
    reader.keypad = Keypad()
    assert reader.read(SELECT, STUCK_SECONDS + 1) == []
    assert reader.keypad.stuck == {Key.SELECT}


def test_releases_come_first() -> None:
    for first, second in ((Key.SELECT, Key.UP), (Key.UP, Key.SELECT)):
        reader = Reader()
        reader.read(frozenset({first}), 0.1)
        assert reader.read(frozenset({second}), 0.1) == [(first, False), (second, True)]
