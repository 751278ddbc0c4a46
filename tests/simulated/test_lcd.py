"""The played HD44780, held to the tables and figures of its data sheet."""

from dataclasses import dataclass

import pytest

from appliance.glyphs import GLYPHS
from appliance.simulated.lcd import DATA_NS, EXECUTION_NS, HOME_NS, POWER_ON_NS, PlayedLcd

BLANK = " " * 16


@dataclass
class Wires:
    """The pins by hand; a step takes a microsecond."""

    lcd: PlayedLcd
    now_ns: int = 0
    rs: bool = False

    def set(self, e: bool, data: int, *, rs: bool | None = None, rw: bool = False) -> None:
        self.now_ns += 1000
        self.rs = self.rs if rs is None else rs
        self.lcd.move(self.now_ns, self.rs, rw, e, data)

    def nibble(self, data: int, *, rs: bool = False, rw: bool = False) -> None:
        self.set(False, data, rs=rs, rw=rw)
        self.set(True, data, rw=rw)
        self.set(False, data, rw=rw)

    def send(self, value: int, *, rs: bool = False, wait_ns: int = DATA_NS) -> None:
        self.nibble(value >> 4, rs=rs)
        self.nibble(value & 0xF, rs=rs)
        self.now_ns += wait_ns

    def text(self, text: str) -> None:
        for code in text.encode():
            self.send(code, rs=True)

    def start(self) -> None:
        """Figure 24, and switched on."""
        for nibble, wait_ns in ((3, 4_100_000), (3, 100_000), (3, EXECUTION_NS), (2, EXECUTION_NS)):
            self.nibble(nibble)
            self.now_ns += wait_ns
        for value in (0x28, 0x08, 0x01, 0x06, 0x0C):
            self.send(value, wait_ns=HOME_NS)


@pytest.fixture
def powered() -> Wires:
    """Its power came on long ago."""
    return Wires(PlayedLcd("A00"), POWER_ON_NS)


@pytest.fixture
def wires(powered: Wires) -> Wires:
    powered.start()
    return powered


def test_it_shows_nothing_until_it_is_switched_on(powered: Wires) -> None:
    assert powered.lcd.lines() == (BLANK, BLANK)
    powered.start()
    assert powered.lcd.lines() == (BLANK, BLANK)
    powered.text("on")
    assert powered.lcd.lines() == ("on".ljust(16), BLANK)
    powered.send(0x08)
    assert powered.lcd.lines() == (BLANK, BLANK)


def test_just_powered_it_holds_garbage(powered: Wires) -> None:
    powered.nibble(0x0)
    powered.now_ns += 4_100_000
    powered.nibble(0x2)
    powered.now_ns += 100_000
    powered.send(0x0C)
    assert powered.lcd.lines() == ("█" * 16, "█" * 16)


@pytest.mark.parametrize("early_ns", [3_000, 0])
def test_just_powered_it_is_deaf(early_ns: int) -> None:
    wires = Wires(PlayedLcd("A00"), POWER_ON_NS - early_ns)
    wires.nibble(0x2)
    wires.now_ns += 4_100_000
    wires.nibble(0x2)
    wires.now_ns += 100_000
    wires.send(0x2C)
    wires.send(0x0C)
    assert (wires.lcd.lines()[0] == BLANK) is (early_ns > 0)


@pytest.mark.parametrize(
    ("value", "rs", "time_ns"),
    [(0x0C, False, EXECUTION_NS), (0x41, True, DATA_NS), (0x01, False, HOME_NS)],
)
@pytest.mark.parametrize("early", [True, False])
def test_what_is_told_to_a_busy_display_is_lost(
    wires: Wires, value: int, rs: bool, time_ns: int, early: bool
) -> None:
    wires.send(value, rs=rs, wait_ns=0)
    fell = wires.now_ns
    # The levels stand a microsecond before E rises.
    wires.now_ns = fell + time_ns - 2000 - (1 if early else 0)
    wires.send(0x42, rs=True)
    assert ("B" in wires.lcd.lines()[0]) is not early


def test_times_are_those_of_the_slowest_oscillator() -> None:
    assert (EXECUTION_NS, DATA_NS, HOME_NS) == (52_579, 58_263, 2_160_000)


def test_addresses_of_both_lines(wires: Wires) -> None:
    wires.text("0123456789abcdef")
    wires.send(0x80 | 0x40)
    wires.text("second")
    wires.send(0x80 | 0x0F)
    wires.text("F")
    assert wires.lcd.lines() == ("0123456789abcdeF", "second".ljust(16))


def test_a_line_goes_on_in_the_other_one(wires: Wires) -> None:
    """Each has forty characters."""
    wires.send(0x80 | 0x27)
    wires.text("xy")
    assert wires.lcd.lines()[1] == "y".ljust(16)
    wires.send(0x80 | 0x67)
    wires.text("xz")
    assert wires.lcd.lines()[0] == "z".ljust(16)


def test_with_one_line_the_second_is_dark(wires: Wires) -> None:
    wires.send(0x80 | 0x40)
    wires.text("second")
    wires.send(0x20)
    assert wires.lcd.lines()[1] == BLANK


def test_entry_modes(wires: Wires) -> None:
    wires.send(0x04)
    wires.send(0x80 | 0x02)
    wires.text("abc")
    assert wires.lcd.lines()[0] == "cba".ljust(16)
    wires.send(0x01, wait_ns=HOME_NS)
    wires.text("ab")
    assert wires.lcd.lines()[0] == "ab".ljust(16), "clearing sets it to increment"
    wires.send(0x07)
    wires.text("cd")
    assert wires.lcd.lines()[0] == "cd".ljust(16), "the display moved along"


def test_shifts_and_the_way_home(wires: Wires) -> None:
    wires.text("abc")
    wires.send(0x18)
    assert wires.lcd.lines()[0].startswith("bc")
    wires.send(0x1C)
    wires.send(0x1C)
    assert wires.lcd.lines()[0].startswith(" abc")
    wires.send(0x02, wait_ns=HOME_NS)
    wires.text("A")
    assert wires.lcd.lines()[0].startswith("Abc")
    wires.send(0x14)
    wires.text("D")
    wires.send(0x10)
    wires.send(0x10)
    wires.text("C")
    assert wires.lcd.lines()[0].startswith("ACD")


def test_characters_of_one_s_own(wires: Wires) -> None:
    wires.send(0x40 | 3 * 8)
    for row in GLYPHS["▲"]:
        wires.send(row | 0xE0, rs=True)
    wires.send(0x80)
    for code in (3, 11, 2):
        wires.send(code, rs=True)
    assert wires.lcd.lines()[0].startswith("▲▲\N{REPLACEMENT CHARACTER} "), "codes 8 to 15 too"


def test_the_rom(wires: Wires) -> None:
    for code in (0x5C, 0x7E, 0x7F, 0xA5, 0xB1, 0xDF, 0xFF, 0x80):
        wires.send(code, rs=True)
    assert wires.lcd.lines()[0].startswith("¥→←·\N{HALFWIDTH KATAKANA LETTER A}°█ ")


def test_the_other_rom() -> None:
    wires = Wires(PlayedLcd("A02"), POWER_ON_NS)
    wires.start()
    for code in (0x10, 0x11, 0x1E, 0x1F, 0x5C, 0x7E, 0xE9, 0xFF):
        wires.send(code, rs=True)
    assert wires.lcd.lines()[0].startswith("▶◀▲▼\\~éÿ")


def test_in_8_bit_mode_a_nibble_is_an_instruction(wires: Wires) -> None:
    wires.send(0x30)
    wires.nibble(0x0)
    wires.now_ns += HOME_NS
    assert wires.lcd.lines() == (BLANK, BLANK), "0x0F: on, with a cursor"
    wires.nibble(0x4, rs=True)
    assert wires.lcd.lines()[0].startswith("O"), "0x4F: its lower lines are pulled up"


def test_data_that_moves_as_e_falls_is_garbled(wires: Wires) -> None:
    wires.nibble(0x4, rs=True)
    wires.set(True, 0x1)
    wires.set(False, 0x0)
    assert wires.lcd.lines()[0].startswith("O"), "neither 0x41 nor 0x40"


def test_rs_that_moves_as_e_rises_is_taken_as_it_was(wires: Wires) -> None:
    wires.set(False, 0x4, rs=False)
    wires.set(True, 0x4, rs=True)
    wires.set(False, 0x4)
    wires.nibble(0x1, rs=True)
    assert wires.lcd.lines() == (BLANK, BLANK), "no data, but an instruction"


def test_with_rw_high_nothing_is_taken_in(wires: Wires) -> None:
    wires.nibble(0x4, rs=True, rw=True)
    wires.nibble(0x1, rs=True, rw=True)
    wires.now_ns += DATA_NS
    wires.text("A")
    assert wires.lcd.lines()[0] == "A".ljust(16)


def test_a_half_that_is_left_behind_shifts_all_that_follows(wires: Wires) -> None:
    wires.nibble(0x4, rs=True)
    wires.text("AB")
    assert "A" not in wires.lcd.lines()[0]
