"""Refusals are told, and cannot fill the log."""

from collections.abc import Callable

from appliance.events import HOST_REFUSED, HOSTS_REFUSED, KINDS, FieldValue
from appliance.hosts.nbd.refusals import MINUTE, TOLD_AT_MOST, Refusals
from appliance.loop import LoopTimer


class Told:
    """What was emitted, and the timers that were asked for."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, FieldValue]]] = []
        self.timers: list[LoopTimer] = []
        self.refusals = Refusals(self.emit, self.after)

    def emit(self, code: str, **fields: FieldValue) -> None:
        assert KINDS[code].sentence.format(**fields)
        self.events.append((code, fields))

    def after(self, seconds: float, action: Callable[[], None]) -> LoopTimer:
        assert seconds == MINUTE
        self.timers.append(LoopTimer(action))
        return self.timers[-1]

    def pass_a_minute(self) -> None:
        action = self.timers[-1].action
        assert action is not None
        action()


def test_a_flood_is_a_few_events_a_minute() -> None:
    told = Told()
    for number in range(1000):
        told.refusals.tell(f"192.0.2.{number % 250}", "too many")
    assert [code for code, _ in told.events] == [HOST_REFUSED] * TOLD_AT_MOST
    told.pass_a_minute()
    assert told.events[-1] == (HOSTS_REFUSED, {"count": 1000 - TOLD_AT_MOST})
    told.refusals.tell("192.0.2.1", "too many")
    assert len(told.events) == TOLD_AT_MOST + 2
    assert len(told.timers) == 2


def test_the_same_refusal_is_told_once_a_minute() -> None:
    told = Told()
    for _ in range(3):
        told.refusals.tell("192.0.2.1", "not on the list")
    told.refusals.tell("192.0.2.1", "no certificate")
    assert [fields["reason"] for _, fields in told.events] == ["not on the list", "no certificate"]


def test_a_quiet_minute_says_nothing() -> None:
    told = Told()
    told.refusals.tell("192.0.2.1", "not on the list")
    told.pass_a_minute()
    assert len(told.events) == 1


def test_what_is_left_is_told_at_the_end() -> None:
    told = Told()
    for _ in range(3):
        told.refusals.tell("192.0.2.1", "not on the list")
    told.refusals.close()
    told.refusals.close()
    assert told.events[1:] == [(HOSTS_REFUSED, {"count": 2})]
    assert told.timers[0].action is None
