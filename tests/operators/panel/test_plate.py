"""A panel on a bus that fails, with the driver and the played parts."""

import random

from appliance.boards import read_board
from appliance.drivers.front_panel import FrontPanel
from appliance.glass import DARK, Backlight, Glass, Key
from appliance.operators.answers import KeyDescription
from appliance.operators.panel.fingers import Fingers
from appliance.operators.panel.machine import PanelMachine
from appliance.operators.panel.plate import PAUSES, Plate
from appliance.operators.panel.step import PanelStep
from appliance.simulated.front_panel import SimulatedPanel

HELLO = Glass(("Hello ▶        ↵", "█▌░             "), Backlight.TEAL)
BYE = Glass(("Bye             ", "                "), Backlight.RED)
POLL = 0.015


def played() -> tuple[SimulatedPanel, Plate]:
    board = read_board("lcd-plate")
    part = SimulatedPanel(board)
    return part, Plate(FrontPanel(part, board, part.sleep))


def test_what_is_shown_is_seen() -> None:
    part, plate = played()
    plate.show(HELLO, 1.0)
    assert part.glass() == HELLO
    part.press(Key.UP)
    assert plate.keys(1.1) == frozenset({Key.UP})


def test_the_same_glass_costs_nothing() -> None:
    part, plate = played()
    plate.show(HELLO, 1.0)
    spent = part.transactions
    plate.show(HELLO, 2.0)
    assert part.transactions == spent


def test_a_pulled_panel_is_asked_ever_more_rarely_and_comes_back_by_itself() -> None:
    part, plate = played()
    plate.show(HELLO, 1.0)
    part.unplug()
    assert plate.keys(2.0) is None
    tried = []
    for step in range(2000):
        now = 2.0 + step * 0.01
        before = part.transactions
        assert plate.keys(now) is None
        plate.show(BYE, now)
        if part.transactions > before:
            tried.append(now)
    pauses = [later - earlier for earlier, later in zip([2.0, *tried], tried, strict=False)]
    assert [round(pause, 1) for pause in pauses[: len(PAUSES)]] == list(PAUSES)
    assert max(pauses) < PAUSES[-1] + 0.02
    part.plug()
    now = 2.0 + 2000 * 0.01 + PAUSES[-1]
    assert part.glass() == DARK
    assert plate.keys(now) == frozenset()
    plate.show(BYE, now)
    assert part.glass() == BYE


def test_one_lost_transaction_is_hardly_seen() -> None:
    part, plate = played()
    plate.show(HELLO, 1.0)
    part.nak(1, after=9)
    plate.show(BYE, 2.0)
    assert part.glass() != BYE
    plate.show(BYE, 2.0 + PAUSES[0])
    assert part.glass() == BYE


def test_a_panel_that_was_never_there() -> None:
    part, plate = played()
    part.unplug()
    for step in range(100):
        plate.show(HELLO, float(step))
        assert plate.keys(float(step)) is None
    part.plug()
    plate.show(HELLO, 200.0)
    assert part.glass() == HELLO


class Person:
    """Turns the panel, with the part in hand."""

    def __init__(self) -> None:
        self.part, plate = played()
        self.machine = PanelMachine()
        self.fingers = Fingers()
        self.changes: list[tuple[str, Key]] = []
        self.machine.press = lambda key: self.changes.append(("down", key))  # type: ignore[method-assign]
        self.machine.release = lambda key: self.changes.append(("up", key))  # type: ignore[method-assign]
        self.step = PanelStep(self.machine, plate, self.fingers)
        self.now = 10.0
        self.turn(0.2)

    def turn(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += POLL
            glass = self.step.turn(self.now, 0.0)
        assert self.part.glass() in (DARK, glass)


def test_keys_of_the_plate_reach_the_machine() -> None:
    person = Person()
    for key in Key:
        person.part.press(key)
        person.turn(0.1)
        person.part.release(key)
        person.turn(0.1)
    assert person.changes == [(change, key) for key in Key for change in ("down", "up")]


def test_a_key_held_over_a_loss_is_let_go_and_not_believed_again() -> None:
    person = Person()
    person.part.press(Key.SELECT)
    person.turn(1.0)
    person.part.unplug()
    person.turn(0.5)
    assert person.changes == [("down", Key.SELECT), ("up", Key.SELECT)]
    person.part.plug()
    person.turn(10.0)
    assert len(person.changes) == 2
    person.part.release(Key.SELECT)
    person.turn(0.1)
    person.part.press(Key.SELECT)
    person.turn(0.1)
    assert person.changes[2:] == [("down", Key.SELECT)]


def test_keys_from_afar_go_the_same_way_without_a_panel_too() -> None:
    person = Person()
    person.part.unplug()
    person.fingers.add([KeyDescription(7, "down", 0.0), KeyDescription(9, "select", 3.2)])
    person.turn(0.06)
    assert person.changes == [("down", Key.DOWN)]
    assert person.fingers.handled == 0
    while len(person.changes) < 3:
        person.turn(POLL)
    assert person.changes[1:] == [("up", Key.DOWN), ("down", Key.SELECT)]
    assert person.fingers.handled == 7
    pressed_at = person.now
    while person.changes[-1] != ("up", Key.SELECT):
        person.turn(POLL)
    assert 3.2 < person.now - pressed_at < 3.3
    person.turn(0.1)
    assert person.fingers.handled == 9


def test_a_key_from_afar_in_the_first_moment_is_not_lost() -> None:
    person = Person()
    person.step = PanelStep(person.machine, played()[1], person.fingers)
    person.fingers.add([KeyDescription(1, "select", 0.0)])
    person.turn(0.2)
    assert person.changes == [("down", Key.SELECT), ("up", Key.SELECT)]
    assert person.fingers.handled == 1


def test_no_key_from_afar_is_lost_however_slowly_the_panel_turns() -> None:
    person, dice = Person(), random.Random(3)
    keys = [dice.choice(list(Key)) for _ in range(50)]
    person.fingers.add([KeyDescription(n + 1, key.value, 0.0) for n, key in enumerate(keys)])
    while person.fingers.handled < 50:
        person.now += dice.choice((0.02, 0.3, 2.0))
        person.step.turn(person.now, 0.0)
    assert person.changes == [(change, key) for key in keys for change in ("down", "up")]


def test_a_stuck_key_stops_no_remote_hand() -> None:
    person = Person()
    person.part.stick(Key.SELECT)
    person.turn(25.0)
    person.changes.clear()
    person.fingers.add([KeyDescription(1, "select", 0.0)])
    person.turn(0.3)
    assert person.changes == [("down", Key.SELECT), ("up", Key.SELECT)]


def test_a_key_is_done_with_when_what_it_asked_for_is_answered() -> None:
    fingers = Fingers()
    fingers.add([KeyDescription(1, "select", 0.0), KeyDescription(2, "up", 0.0)])
    assert fingers.down(5.0, busy=False) == frozenset({Key.SELECT})
    fingers.feel([(Key.SELECT, True)], 5.0)
    assert fingers.down(5.1, busy=True) == frozenset()
    fingers.feel([(Key.SELECT, False)], 5.1)
    assert fingers.down(6.0, busy=True) == frozenset()
    assert fingers.handled == 0
    assert fingers.down(6.1, busy=False) == frozenset({Key.UP})
    assert fingers.handled == 1
    fingers.feel([(Key.UP, True)], 6.1)
    fingers.down(6.2, busy=True)
    fingers.feel([(Key.UP, False)], 6.2)
    fingers.down(8.1, busy=True)
    assert fingers.handled == 1
    fingers.down(8.3, busy=True)
    assert fingers.handled == 2, "an answer that takes long holds up nothing"
