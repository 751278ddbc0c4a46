"""Whatever comes in on the control socket: answers in lines, and nothing worse."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.loop import Loop
from appliance.operators import actions
from appliance.operators.control.messages import REQUEST_MAXIMUM
from appliance.operators.control.session import Session
from appliance.operators.operator_lock import Operator
from appliance.operators.requests import Desk
from appliance.operators.verbs import VERBS
from tests.operators.fake_appliance import FakeAppliance

HARMLESS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 1 << 70),
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.sampled_from(["finance", "a", "b", "write:7", "-10m", "EB101", "finance@write:7"]),
    st.lists(st.sampled_from(["ack=both", "ack=primary", "ack", "x=y", ""]), max_size=3),
)
parameters = sorted({parameter.name for verb in VERBS.values() for parameter in verb.parameters})
requests = st.fixed_dictionaries(
    {"id": values, "verb": st.sampled_from([*VERBS, "fly", ""])},
    optional={"args": st.dictionaries(st.sampled_from([*parameters, "zz"]), values, max_size=5)},
).map(lambda request: json.dumps(request).encode())
lines = st.one_of(requests, st.binary(max_size=100), st.text(max_size=100).map(str.encode))


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as running:
        yield running


def converse(loop: Loop, directory: Path, chunks: list[bytes]) -> list[dict[str, Any]]:
    """What a session answers to bytes, with the input's end behind them."""
    appliance = FakeAppliance(loop, directory)

    operator = Operator("root")
    perform = partial(actions.perform, Desk(appliance, loop), operator)
    session = Session(operator, perform, lambda: None)
    sent = bytearray()
    pending = [*chunks, b""]
    for _ in range(10_000):
        if session.wants_input and pending:
            session.receive(pending.pop(0))
        session.fill()
        sent += session.output
        session.output.clear()
        if session.over:
            break
        loop.turn(0)
    assert session.over
    return [json.loads(line) for line in sent.splitlines()]


@settings(suppress_health_check=HARMLESS, max_examples=150)
@given(sent=st.lists(lines, max_size=12), cut=st.integers(1, 4000))
def test_every_line_is_answered_once(
    loop: Loop, tmp_path: Path, sent: list[bytes], cut: int
) -> None:
    stream = b"".join(line + b"\n" for line in sent)
    chunks = [stream[start : start + cut] for start in range(0, len(stream), cut)]
    messages = converse(loop, tmp_path, chunks)
    assert messages[0]["schema"] == 1
    ended = [message for message in messages[1:] if "ok" in message or "error" in message]
    assert len(ended) == sum(1 for line in stream.split(b"\n") if line.strip())
    for message in ended:
        if "error" in message:
            assert message["error"]["code"] != "EB900" or "view" in message["error"]["sentence"]
            assert "Traceback" not in json.dumps(message)


@settings(suppress_health_check=HARMLESS, max_examples=50)
@given(start=st.binary(max_size=50), length=st.integers(REQUEST_MAXIMUM, REQUEST_MAXIMUM + 3))
def test_no_line_grows_without_end(loop: Loop, tmp_path: Path, start: bytes, length: int) -> None:
    stream = start.replace(b"\n", b"").ljust(length, b"[")
    messages = converse(loop, tmp_path, [stream])
    assert messages[-1]["error"]["code"] == "EB602"
    assert len(messages) == 2
