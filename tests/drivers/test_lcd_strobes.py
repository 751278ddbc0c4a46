"""The levels that an HD44780 is told by, counted byte by byte."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.boards import pin
from appliance.drivers.lcd_strobes import Strobes
from tests.drivers.panel_rig import BOARDS

EXECUTION_SECONDS = 41e-6 * 270 / 190
PLATE = BOARDS["lcd-plate"]
RS, E = 0x80, 0x20


def told(bus_hertz: int) -> tuple[Strobes, float]:
    """A bus of that speed, and how long a byte takes on it."""
    return Strobes(msgspec.structs.replace(PLATE, bus_hertz=bus_hertz), 0), 9 / bus_hertz


def pauses(strobes: Strobes) -> list[int]:
    """The bytes from each fall of E to its next rise."""
    mask = pin(PLATE.lcd.e).mask
    levels = [bool(byte & mask) for byte in strobes.bytes]
    rises = [place for place, high in enumerate(levels) if high]
    assert all(not levels[place + 1] for place in rises), "E is high for one byte"
    return [after - before - 1 for before, after in pairwise(rises)]


def test_a_character_on_the_common_plate() -> None:
    """0x41, whose pins run backwards: D6 is B2, D4 is B4."""
    strobes = Strobes(PLATE, 0x01)
    strobes.data(b"A")
    assert list(strobes.bytes) == [
        RS | 1,
        *(RS | 1 | E | 0x04, RS | 1 | 0x04),
        *(RS | 1 | E | 0x10, RS | 1 | 0x10),
    ]


@pytest.mark.parametrize("kind", ["instruction", "data", "nibble"])
@settings(max_examples=200, deadline=None)
@given(bus_hertz=st.integers(10_000, 400_000))
def test_what_is_executed_has_its_time_on_any_bus(kind: str, bus_hertz: int) -> None:
    strobes, byte_seconds = told(bus_hertz)
    for _ in range(2):
        if kind == "data":
            strobes.data(b"AB")
        else:
            getattr(strobes, kind)(0x3)
    executions = pauses(strobes) if kind == "nibble" else pauses(strobes)[1::2]
    for count in executions:
        assert count * byte_seconds >= EXECUTION_SECONDS
        assert (count - 1) * byte_seconds < 60e-6, "and hardly more"


@settings(max_examples=200, deadline=None)
@given(bus_hertz=st.integers(10_000, 400_000), seconds=st.floats(1e-6, 1e-3))
def test_a_wait_is_as_long_as_told(bus_hertz: int, seconds: float) -> None:
    strobes, byte_seconds = told(bus_hertz)
    strobes.nibble(3)
    strobes.wait(seconds)
    strobes.nibble(3)
    (count,) = pauses(strobes)
    assert count * byte_seconds >= seconds * (1 - 1e-9)


def test_rs_settles_before_e_rises() -> None:
    strobes = Strobes(PLATE, 0)
    strobes.instruction(0x80)
    strobes.data(b"AB")
    strobes.instruction(0x80)
    for before, after in pairwise(strobes.bytes):
        if after & E and not before & E:
            assert before & RS == after & RS
    assert len(strobes.bytes) == (1 + 4) + (1 + 8) + (1 + 4)
