"""The front panel: an MCP23017 on an I2C bus, and behind it an HD44780, lamps and keys.

* In whatever state the parts are found (just powered, or left in the middle of a nibble pair by
  somebody who was killed), they are brought to the known one, and again after every error: nobody
  knows how far a failed transaction came.
* The driver remembers what the display holds, and writes what differs, in one transaction.

Instructions and waits are those of the HD44780U's data sheet, table 6 and figure 24.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep as system_sleep
from typing import Final

from appliance.boards import Board, pin
from appliance.drivers.i2c_bus import Bus
from appliance.drivers.io_expander import IoExpander
from appliance.drivers.lcd_characters import Characters
from appliance.drivers.lcd_strobes import Strobes
from appliance.glass import COLUMNS, Backlight, Glass, Key

EIGHT_BITS: Final = 0x3
FOUR_BITS: Final = 0x2
TWO_LINES: Final = 0x28
DISPLAY_OFF: Final = 0x08
CLEAR: Final = 0x01
LEFT_TO_RIGHT: Final = 0x06
DISPLAY_ON: Final = 0x0C
CGRAM_ADDRESS: Final = 0x40
DDRAM_ADDRESS: Final = 0x80
SECOND_LINE: Final = 0x40
ROWS_OF_DOTS: Final = 8

POWER_ON_SECONDS: Final = 0.045
"""Until the first instruction: 40 ms from 2.7 V on."""
FIRST_SECONDS: Final = 0.0045
"""After the first of three: 4.1 ms; it may also be a return home that somebody left half done."""
SECOND_SECONDS: Final = 0.00015
"""After the second: 100 µs."""
CLEAR_SECONDS: Final = 0.0025
"""1.52 ms at 270 kHz, 2.16 ms at the slowest oscillator."""


class FrontPanel:
    """Implements `appliance.glass.Panel`.

    Both methods raise OSError if the part cannot be reached, or was reset; the next call of
    either then initialises it, which takes 59 ms at 100 kHz and leaves it blank,
    with its light as it was, until `show`.
    """

    def __init__(
        self, bus: Bus, board: Board, sleep: Callable[[float], None] = system_sleep
    ) -> None:
        self._expander = IoExpander(bus, board.address)
        self._board = board
        self._sleep = sleep
        self._known = False
        """Whether the part is as the three below say."""
        self._characters = Characters(board.lcd.rom)
        self._codes = (b"", b"")
        self._levels = self._resting(Backlight.OFF)
        """Of both ports, while nothing is told to the display."""

    def show(self, glass: Glass) -> None:
        """Make it look so; only what differs is written."""
        with self._reaching():
            codes, drawn = self._characters.encode(glass.lines)
            levels = self._resting(glass.backlight)
            strobes = Strobes(self._board, levels[self._board.lcd.port])
            for place, rows in drawn.items():
                strobes.instruction(CGRAM_ADDRESS | place * ROWS_OF_DOTS)
                strobes.data(rows)
            for line, (old, new) in enumerate(zip(self._codes, codes, strict=True)):
                for start, end in _differences(old, new):
                    strobes.instruction(DDRAM_ADDRESS | line * SECOND_LINE | start)
                    strobes.data(new[start:end])
            sent = {
                port: bytes((levels[port],))
                for port in range(2)
                if levels[port] != self._levels[port]
            }
            if strobes.bytes:
                sent[self._board.lcd.port] = bytes(strobes.bytes)
            if sent:
                self._expander.send(sent)
            self._codes = codes
            self._levels = levels

    def keys(self) -> frozenset[Key]:
        """The keys that are down now; contacts bounce."""
        with self._reaching():
            levels = self._expander.read(self._board.keys.port)
            return frozenset(
                key for key, each in self._board.keys.pins.items() if not levels & each.mask
            )

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """The part is initialised if need be, and whatever breaks this off makes the need."""
        try:
            if not self._known:
                self._initialise()
                self._known = True
            yield
        except BaseException:
            self._known = False
            raise

    def _initialise(self) -> None:
        self._characters = Characters(self._board.lcd.rom)
        self._codes = (b" " * COLUMNS, b" " * COLUMNS)
        self._expander.initialise(self._outputs(), self._levels)
        self._sleep(POWER_ON_SECONDS)

        # Three times the same: the first may be the second half of what somebody began, and two
        # make one if the display was in 4-bit mode.  Behind the third it surely is in 8-bit mode.
        strobes = self._strobes()
        strobes.nibble(EIGHT_BITS)
        self._tell(strobes)
        self._sleep(FIRST_SECONDS)
        strobes = self._strobes()
        strobes.nibble(EIGHT_BITS)
        strobes.wait(SECOND_SECONDS)
        strobes.nibble(EIGHT_BITS)
        strobes.nibble(FOUR_BITS)
        for instruction in (TWO_LINES, DISPLAY_OFF, CLEAR):
            strobes.instruction(instruction)
        self._tell(strobes)
        self._sleep(CLEAR_SECONDS)
        strobes = self._strobes()
        for instruction in (LEFT_TO_RIGHT, DISPLAY_ON):
            strobes.instruction(instruction)
        self._tell(strobes)

    def _strobes(self) -> Strobes:
        return Strobes(self._board, self._levels[self._board.lcd.port])

    def _tell(self, strobes: Strobes) -> None:
        self._expander.send({self._board.lcd.port: bytes(strobes.bytes)})

    def _resting(self, backlight: Backlight) -> tuple[int, int]:
        """The levels of both ports with these lamps lit, and the display told nothing."""
        lamps = self._board.backlight
        levels = [0, 0]
        for each in lamps.pins:
            if lamps.lit == "low":
                levels[each.port] |= each.mask
        for lit, each in zip(backlight.lamps, lamps.pins, strict=True):
            if lit and lamps.lit == "low":
                levels[each.port] &= ~each.mask
            elif lit:
                levels[each.port] |= each.mask
        return levels[0], levels[1]

    def _outputs(self) -> tuple[int, int]:
        """The pins of both ports that the expander drives."""
        lcd = self._board.lcd
        masks = [0, 0]
        for each in (pin(lcd.rs), pin(lcd.rw), pin(lcd.e), *lcd.data, *self._board.backlight.pins):
            masks[each.port] |= each.mask
        return masks[0], masks[1]


def _differences(old: bytes, new: bytes) -> list[tuple[int, int]]:
    """Where they differ: [start, end).  One equal character between is cheaper written along."""
    runs: list[tuple[int, int]] = []
    for place, (before, after) in enumerate(zip(old, new, strict=True)):
        if before != after:
            if runs and place - runs[-1][1] <= 1:
                runs[-1] = runs[-1][0], place + 1
            else:
                runs.append((place, place + 1))
    return runs
