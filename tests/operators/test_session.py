"""The control session without a socket: nothing in it grows without bound."""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from appliance.cdp.tasks import Completion
from appliance.operators.actions import Answer
from appliance.operators.answers import DroppedAnswer, JobDescription
from appliance.operators.control.session import (
    LINES_A_TURN,
    OUTPUT_FULL,
    TASKS_MAXIMUM,
    Perform,
    Session,
)
from appliance.operators.operator_lock import Operator

Report = Callable[[JobDescription], None]
JOB = JobDescription(1, "finance", "resync", "copying", 9, 0, 0, 0, 0, None, "", None, None, None)


def performing(action: Callable[[Report], Coroutine[Any, None, Answer]]) -> Perform:
    """Whatever is asked for, `action` is done."""

    def perform(
        verb: str, arguments: Mapping[str, object], report: Report
    ) -> Coroutine[Any, None, Answer]:
        return action(report)

    return perform


def requests(count: int) -> bytes:
    return b"".join(b'{"id": %d, "verb": "disks"}\n' % number for number in range(count))


def test_a_flood_takes_turns() -> None:
    begun: list[Report] = []

    async def answer(report: Report) -> Answer:
        begun.append(report)
        return DroppedAnswer(dropped="")

    session = Session(Operator("root"), performing(answer), lambda: None)
    session.receive(requests(10))
    assert len(begun) == LINES_A_TURN
    assert not session.wants_input
    assert session.wants_output
    session.fill()
    session.fill()
    assert len(begun) == 10
    assert session.wants_input


def test_requests_under_way_are_bounded() -> None:
    waiting: list[Completion[None]] = []

    async def wait(report: Report) -> Answer:
        waiting.append(Completion())
        await waiting[-1]
        return DroppedAnswer(dropped="")

    session = Session(Operator("root"), performing(wait), lambda: None)
    session.receive(requests(TASKS_MAXIMUM + 1))
    for _ in range(TASKS_MAXIMUM):
        session.fill()
    assert len(waiting) == TASKS_MAXIMUM
    assert not session.wants_input
    waiting[0].succeed(None)
    session.fill()
    assert len(waiting) == TASKS_MAXIMUM + 1


def test_answers_that_nobody_takes_are_bounded() -> None:
    async def answer(report: Report) -> Answer:
        return DroppedAnswer(dropped="x" * 50_000)

    session = Session(Operator("root"), performing(answer), lambda: None)
    session.receive(requests(1000))
    for _ in range(1000):
        session.fill()
    assert OUTPUT_FULL < len(session.output) < OUTPUT_FULL + 51_000
    assert not session.wants_input
    while session.wants_output:
        session.output.clear()
        session.fill()
    assert session.wants_input


def test_a_long_answer_waits_for_room() -> None:
    def parts() -> Any:
        for _ in range(100):
            yield DroppedAnswer(dropped="x" * 50_000)

    async def answer(report: Report) -> Answer:
        return parts()  # type: ignore[no-any-return]

    session = Session(Operator("root"), performing(answer), lambda: None)
    session.receive(requests(1))
    for _ in range(100):
        session.fill()
    assert len(session.output) < OUTPUT_FULL + 51_000
    lines = 0
    while session.wants_output:
        lines += session.output.count(b"\n")
        session.output.clear()
        session.fill()
    assert lines == 1 + 100


def test_progress_is_left_out_while_output_waits() -> None:
    reports: list[Report] = []

    async def wait(report: Report) -> Answer:
        reports.append(report)
        await Completion[None]()
        raise AssertionError

    session = Session(Operator("root"), performing(wait), lambda: None)
    session.receive(requests(1))
    session.output.clear()
    for _ in range(100):
        reports[0](JOB)
    assert json.loads(session.output)["progress"]["kind"] == "resync"


def test_closing_stops_what_waits() -> None:
    ended: list[str] = []

    async def wait(report: Report) -> Answer:
        try:
            await Completion[None]()
        finally:
            ended.append("ended")
            report(JOB)
        raise AssertionError

    session = Session(Operator("root"), performing(wait), lambda: None)
    session.receive(requests(2))
    session.output.clear()
    session.close()
    assert ended == ["ended", "ended"]
    assert session.over
    assert not session.output


def test_a_long_answer_that_fails_midway_is_an_error() -> None:
    def parts() -> Any:
        yield DroppedAnswer(dropped="first")
        yield DroppedAnswer(dropped="second")
        raise OSError

    async def answer(report: Report) -> Answer:
        return parts()  # type: ignore[no-any-return]

    session = Session(Operator("root"), performing(answer), lambda: None)
    session.receive(requests(1))
    for _ in range(5):
        session.fill()
    _, first, last = map(json.loads, session.output.splitlines())
    assert first["part"]["dropped"] == "first"
    assert last["error"]["code"] == "EB900"
