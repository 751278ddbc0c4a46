"""An HD44780 with two lines of sixteen characters, played from the levels of its pins.

From the HD44780U's data sheet: what it takes in as E falls, in 8-bit mode or by pairs of nibbles,
its instructions (table 6), its address counter, DDRAM, CGRAM and shift, and its times, which are
those of the slowest oscillator that it may have (190 kHz).  D0 to D3 are not connected and
pulled up inside.

It takes every liberty that the data sheet leaves to a part, so that what works here may work
anywhere:

* a nibble is lost if E rises while the display is busy;
* just powered, it is busy for 40 ms, then holds garbage, and is busy for 4.1 ms and for 100 µs
  after the first two falls of E (figure 24): its reset by power is not to be relied upon;
* data that moves as E falls is garbled; RS and R/W that move as E rises are taken as they were,
  and those of a pair are its first nibble's.

With R/W high it would drive its lines itself; whoever reads it sees nothing here, and what is
written thus is lost.
"""

from typing import Final

from appliance.simulated.lcd_rom import ROMS, drawn_character

SLOWEST: Final = 270 / 190
EXECUTION_NS: Final = round(37_000 * SLOWEST)
DATA_NS: Final = round(41_000 * SLOWEST)
HOME_NS: Final = round(1_520_000 * SLOWEST)
POWER_ON_NS: Final = 40_000_000
RESET_WAITS_NS: Final = (100_000, 4_100_000)
"""After the second and after the first fall of E behind power-on."""
COLUMNS: Final = 16
LINE: Final = 0x28
"""Characters that DDRAM has for each of two lines."""
GARBAGE: Final = 0xFF
CGRAM_SIZE: Final = 64


class PlayedLcd:
    """A display of that ROM, just powered."""

    def __init__(self, rom: str) -> None:
        self._rom = ROMS[rom]
        self._levels = (False, False, False, 0)
        self._selected = self._ready = False
        """RS as E rose, and whether what comes as it falls is taken in."""
        self.power_on(0)

    def power_on(self, now_ns: int, *, eight_bits: bool = True, half: int | None = None) -> None:
        """Power comes on, and finds it in one of the interface's states: 8-bit mode, 4-bit mode,
        or with the first half of a pair taken in."""
        self._eight_bits = eight_bits
        self._half = None if half is None else (False, half)
        self._two_lines = False
        self._on = False
        self._step = -1
        self._shifts = True
        self._shift = 5
        self._ddram = bytearray([GARBAGE]) * (2 * LINE)
        self._cgram = bytearray([GARBAGE]) * CGRAM_SIZE
        self._address = 5
        self._in_cgram = True
        self._waits = list(RESET_WAITS_NS)
        self._busy_until_ns = now_ns + POWER_ON_NS

    # What stands on its pins.

    def move(self, now_ns: int, rs: bool, rw: bool, e: bool, data: int) -> None:
        """The levels are these from now on; `data` is D7 to D4."""
        was_rs, was_rw, was_e, was_data = self._levels
        self._levels = (rs, rw, e, data)
        if e and not was_e:
            self._selected = was_rs
            self._ready = now_ns >= self._busy_until_ns and not was_rw
        if was_e and not e and self._ready:
            garbled = data != was_data
            self._take(now_ns, self._selected, 0xF & ~data if garbled else data)

    def _take(self, now_ns: int, rs: bool, nibble: int) -> None:
        if self._eight_bits:
            self._execute(now_ns, rs, nibble << 4 | 0xF)
        elif self._half is None:
            self._half = rs, nibble
        else:
            rs, upper = self._half
            self._half = None
            self._execute(now_ns, rs, upper << 4 | nibble)
        if self._waits:
            self._busy_until_ns = now_ns + self._waits.pop()

    def _execute(self, now_ns: int, rs: bool, value: int) -> None:
        taken_ns = DATA_NS if rs else EXECUTION_NS
        if rs:
            self._store(value)
        elif value & 0x80:
            self._in_cgram, self._address = False, value & 0x7F
        elif value & 0x40:
            self._in_cgram, self._address = True, value & 0x3F
        elif value & 0x20:
            self._eight_bits = bool(value & 0x10)
            self._two_lines = bool(value & 0x08)
            self._half = None
        elif value & 0x10:
            self._move_cursor(shift_display=bool(value & 0x08), step=1 if value & 0x04 else -1)
        elif value & 0x08:
            self._on = bool(value & 0x04)
        elif value & 0x04:
            self._step = 1 if value & 0x02 else -1
            self._shifts = bool(value & 0x01)
        elif value:
            taken_ns = HOME_NS
            self._in_cgram, self._address, self._shift = False, 0, 0
            if value & 0x01:
                self._ddram[:] = b" " * len(self._ddram)
                self._step = 1
        self._busy_until_ns = now_ns + taken_ns

    def _store(self, value: int) -> None:
        if self._in_cgram:
            self._cgram[self._address & 0x3F] = value & 0x1F
        else:
            self._ddram[self._cell(self._address)] = value
            self._shift += self._step if self._shifts else 0
        self._advance(self._step)

    def _move_cursor(self, *, shift_display: bool, step: int) -> None:
        if shift_display:
            self._shift -= step
        else:
            self._advance(step)

    def _advance(self, step: int) -> None:
        if self._in_cgram:
            self._address = (self._address + step) % CGRAM_SIZE
        elif self._two_lines:
            cell = (self._cell(self._address) + step) % (2 * LINE)
            self._address = cell if cell < LINE else 0x40 + cell - LINE
        else:
            self._address = (self._address + step) % (2 * LINE)

    def _cell(self, address: int) -> int:
        """Where in DDRAM an address lies; those behind a line have no cells of their own."""
        if self._two_lines and address >= 0x40:
            return LINE + (address - 0x40) % LINE
        return address % (LINE if self._two_lines else 2 * LINE)

    # What a person sees.

    def lines(self) -> tuple[str, str]:
        """The characters; those of CGRAM by their dots, with � for dots that resemble none."""
        blank = " " * COLUMNS
        if not self._on:
            return blank, blank
        if not self._two_lines:
            return self._line(self._ddram), blank
        return self._line(self._ddram[:LINE]), self._line(self._ddram[LINE:])

    def _line(self, codes: bytearray) -> str:
        return "".join(
            self._character(codes[(column + self._shift) % len(codes)]) for column in range(COLUMNS)
        )

    def _character(self, code: int) -> str:
        if code < 0x10:
            place = code % 8 * 8
            return drawn_character(bytes(self._cgram[place : place + 8]))
        return self._rom[code]
