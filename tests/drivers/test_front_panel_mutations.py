"""The played panel notices whatever the driver of the front panel could get wrong.

Each row breaks one thing: a pin or another fact of the board, a register, a wait, an order of
levels.  The driver must then fail in front of every board named, and so would its tests.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import msgspec
import pytest

from appliance.boards import Board
from appliance.drivers import front_panel, io_expander, lcd_characters, lcd_strobes
from appliance.drivers.lcd_strobes import Strobes
from appliance.glass import Key
from appliance.glyphs import GLYPHS
from tests.drivers.panel_rig import BOARDS, misfit

TWO = ("lcd-plate", "hand-wired")
PINS = {
    "lcd": ("rs", "rw", "e", "d4", "d5", "d6", "d7"),
    "backlight": ("red", "green", "blue"),
    "keys": tuple(key.value for key in Key),
}
NAMES = [(table, name) for table, names in PINS.items() for name in names]


def with_pins(board: Board, pins: dict[tuple[str, str], str]) -> Board:
    document: dict[str, Any] = msgspec.to_builtins(board)
    for (table, name), place in pins.items():
        document[table][name] = place
    return msgspec.convert(document, Board)


def place(board: Board, name: tuple[str, str]) -> str:
    return str(getattr(getattr(board, name[0]), name[1]))


def wrong_pins() -> Iterator[Any]:
    for name in TWO:
        board = BOARDS[name]
        for one, other in combinations(NAMES, 2):
            pins = {one: place(board, other), other: place(board, one)}
            yield pytest.param(board, pins, id=f"{name}: {one[1]} and {other[1]} swapped")
        free = ({f"{port}{bit}" for port in "AB" for bit in range(8)}) - {
            place(board, each) for each in NAMES
        }
        for each in NAMES:
            yield pytest.param(board, {each: min(free)}, id=f"{name}: {each[1]} on {min(free)}")


@pytest.mark.parametrize(("board", "pins"), list(wrong_pins()))
def test_a_wrong_pin(board: Board, pins: dict[tuple[str, str], str]) -> None:
    assert misfit(with_pins(board, pins), wired=board)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda board: msgspec.structs.replace(board, address=board.address ^ 1),
        lambda board: with_pins(
            board, {("lcd", "rom"): "A02" if board.lcd.rom == "A00" else "A00"}
        ),
        lambda board: with_pins(
            board, {("backlight", "lit"): "low" if board.backlight.lit == "high" else "high"}
        ),
    ],
    ids=["address", "rom", "lit"],
)
def test_a_wrong_fact(name: str, wrong: Callable[[Board], Board]) -> None:
    assert misfit(wrong(BOARDS[name]), wired=BOARDS[name])


def test_a_bus_that_is_faster_than_its_board_says() -> None:
    slow = msgspec.structs.replace(BOARDS["hand-wired"], bus_hertz=100_000)
    assert misfit(slow, wired=BOARDS["hand-wired"])


REGISTERS = [
    (io_expander, "IODIR", 0x03),
    (io_expander, "IPOL", 0x03),
    (io_expander, "IOCON", 0x04),
    (io_expander, "IOCON", 0x06),
    (io_expander, "GPPU", 0x07),
    (io_expander, "GPIO", 0x0A),
    (io_expander, "OLAT", 0x08),
    (io_expander, "PORT", 0x08),
    (io_expander, "PORT", 0x01),
    (io_expander, "IOCON_BANK_0", 0x05),
    (io_expander, "FIXED_POINTER", 0x80),
    (io_expander, "FIXED_POINTER", 0x20),
    (io_expander, "FIXED_POINTER", 0x00),
]
INSTRUCTIONS = [
    (front_panel, "EIGHT_BITS", 0x2),
    (front_panel, "TWO_LINES", 0x20),
    (front_panel, "TWO_LINES", 0x38),
    (front_panel, "CLEAR", 0x02),
    (front_panel, "LEFT_TO_RIGHT", 0x04),
    (front_panel, "LEFT_TO_RIGHT", 0x07),
    (front_panel, "DISPLAY_ON", 0x08),
    (front_panel, "CGRAM_ADDRESS", 0x80),
    (front_panel, "DDRAM_ADDRESS", 0x40),
    (front_panel, "SECOND_LINE", 0x28),
    (front_panel, "ROWS_OF_DOTS", 7),
    (lcd_characters, "GLYPHS", {each: rows[::-1] for each, rows in GLYPHS.items()}),
]
WAITS = [
    (front_panel, "POWER_ON_SECONDS", 0.0),
    (front_panel, "FIRST_SECONDS", 0.0),
    (front_panel, "CLEAR_SECONDS", 0.0),
]
SHORT_WAITS = [
    (front_panel, "POWER_ON_SECONDS", 0.036),
    (front_panel, "FIRST_SECONDS", 0.0035),
    (front_panel, "CLEAR_SECONDS", 0.0016),
]


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize(
    ("module", "constant", "value"),
    [*REGISTERS, *INSTRUCTIONS, *WAITS, *SHORT_WAITS],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:20],
)
def test_a_wrong_number(
    name: str, module: Any, constant: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert getattr(module, constant) != value
    monkeypatch.setattr(module, constant, value)
    assert misfit(BOARDS[name], wired=BOARDS[name])


@pytest.mark.parametrize(
    ("constant", "value"), [("FOUR_BITS", front_panel.EIGHT_BITS), ("SECOND_SECONDS", 0.0)]
)
def test_a_display_left_in_8_bit_mode(
    constant: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the fast bus it makes up for it: what would be one nibble too many, it is too busy for."""
    monkeypatch.setattr(front_panel, constant, value)
    assert misfit(BOARDS["lcd-plate"], wired=BOARDS["lcd-plate"])


@pytest.mark.parametrize("seconds", [0.0, 30e-6, 41e-6])
def test_without_its_execution_time_a_display_on_a_fast_bus_shows_garbage(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 100 kHz the next byte is late enough by itself."""
    monkeypatch.setattr(lcd_strobes, "EXECUTION_SECONDS", seconds)
    assert misfit(BOARDS["hand-wired"], wired=BOARDS["hand-wired"])
    assert not misfit(BOARDS["lcd-plate"], wired=BOARDS["lcd-plate"])


def _levels(strobes: Strobes, nibble: int) -> int:
    return strobes._steady | (strobes._selected or 0) | strobes._nibbles[nibble]


def rs_moves_with_e(strobes: Strobes, rs: int) -> None:
    strobes._selected = rs


def data_falls_with_e(strobes: Strobes, nibble: int) -> None:
    levels = _levels(strobes, nibble)
    strobes.bytes += bytes((levels | strobes._e, strobes._steady | (strobes._selected or 0)))


def data_comes_after_e(strobes: Strobes, nibble: int) -> None:
    strobes.bytes += bytes((strobes._steady | (strobes._selected or 0) | strobes._e,))
    strobes.bytes += bytes((_levels(strobes, nibble),))


def e_stays_low(strobes: Strobes, nibble: int) -> None:
    strobes.bytes += bytes((_levels(strobes, nibble),))


def e_stays_high(strobes: Strobes, nibble: int) -> None:
    strobes.bytes += bytes((_levels(strobes, nibble) | strobes._e,))


def low_nibble_first(strobes: Strobes, value: int) -> None:
    strobes._strobe(value & 0xF)
    strobes._strobe(value >> 4)
    strobes.wait(lcd_strobes.EXECUTION_SECONDS)


def lamps_forgotten(strobes: Strobes, rs: int) -> None:
    strobes._steady = 0
    if strobes._selected != rs:
        strobes._selected = rs
        strobes.bytes.append(rs)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("_select", rs_moves_with_e),
        ("_select", lamps_forgotten),
        ("_strobe", data_falls_with_e),
        ("_strobe", data_comes_after_e),
        ("_strobe", e_stays_low),
        ("_strobe", e_stays_high),
        ("_both_nibbles", low_nibble_first),
    ],
)
def test_a_wrong_order_of_levels(
    name: str,
    method: str,
    wrong: Callable[[Strobes, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Strobes, method, wrong)
    assert misfit(BOARDS[name], wired=BOARDS[name])
