"""What an HD44780 is told, as levels of the pins that an I2C expander moves.

Each byte that the expander gets sets eight pins at once, and lasts nine clocks of the bus: 90 µs
at 100 kHz.  On such steps the display's times (HD44780U data sheet, at the slowest of its
oscillators and at 2.7 V) come out thus:

* a nibble is two bytes, its data with E high and the same data with E low.  The data stands
  before E falls for a byte (195 ns are asked for) and stays behind it for one (10 ns); E is high
  for a byte (450 ns) and rises again after two at least (1 µs).  This holds for any clock that
  the expander takes;
* RS may not move with E (60 ns before): where it changes, a byte with E low comes first;
* an instruction executes from the fall of E behind its second nibble; 37 µs for most and 41 µs
  for data at the nominal 270 kHz, 1.42 times that at 190 kHz.  At 100 kHz the byte that raises E
  again is late enough by itself; on a faster bus the last byte is repeated.

The busy flag is not read: turning the port round and back takes more bytes than the wait.
"""

from functools import reduce
from math import ceil
from operator import or_
from typing import Final

from appliance.boards import Board, pin

CLOCKS_PER_BYTE: Final = 9
EXECUTION_SECONDS: Final = 59e-6


class Strobes:
    """Collects the bytes of one message.  `steady` are the levels of the port's other pins."""

    def __init__(self, board: Board, steady: int) -> None:
        self._nibbles = [
            reduce(
                or_, (each.mask for bit, each in enumerate(board.lcd.data) if nibble >> bit & 1), 0
            )
            for nibble in range(16)
        ]
        self._rs = pin(board.lcd.rs).mask
        self._e = pin(board.lcd.e).mask
        self._byte_seconds = CLOCKS_PER_BYTE / board.bus_hertz
        self._steady = steady
        self._selected: int | None = None
        self.bytes = bytearray()

    def instruction(self, value: int) -> None:
        """An instruction of the ordinary execution time."""
        self._select(0)
        self._both_nibbles(value)

    def data(self, values: bytes) -> None:
        """Bytes for the place that an instruction named before, and the ones behind it."""
        self._select(self._rs)
        for value in values:
            self._both_nibbles(value)

    def nibble(self, value: int) -> None:
        """The upper half of an instruction, which is all of it before the 4-bit mode is on."""
        self._select(0)
        self._strobe(value)
        self.wait(EXECUTION_SECONDS)

    def wait(self, seconds: float) -> None:
        """At least so long passes from the last fall of E to its next rise."""
        self.bytes += self.bytes[-1:] * (ceil(seconds / self._byte_seconds) - 1)

    def _select(self, rs: int) -> None:
        if self._selected != rs:
            self._selected = rs
            self.bytes.append(self._steady | rs)

    def _both_nibbles(self, value: int) -> None:
        self._strobe(value >> 4)
        self._strobe(value & 0xF)
        self.wait(EXECUTION_SECONDS)

    def _strobe(self, nibble: int) -> None:
        levels = self._steady | (self._selected or 0) | self._nibbles[nibble]
        self.bytes += bytes((levels | self._e, levels))
