"""An MCP23017, played: its registers behind its address pointer, and its pins.

From its data sheet (DS20001952C), section 3: both meanings of IOCON.BANK, byte mode and
sequential mode, direction, polarity, pull-ups and output latches.  What is not played:
interrupts, whose registers merely keep what is written.
"""

from enum import IntEnum
from typing import Final

BANK: Final = 0x80
SEQOP: Final = 0x20
REGISTERS: Final = 11


class Register(IntEnum):
    """In the order of the data sheet."""

    IODIR = 0
    IPOL = 1
    GPINTEN = 2
    DEFVAL = 3
    INTCON = 4
    IOCON = 5
    GPPU = 6
    INTF = 7
    INTCAP = 8
    GPIO = 9
    OLAT = 10


_READ_ONLY: Final = (Register.INTF, Register.INTCAP)


class PlayedExpander:
    """Pins are bits of a port, and port A is 0."""

    def __init__(self) -> None:
        self.grounded = [0, 0]
        """The pins of each port that something outside pulls low."""
        self.reset()

    def reset(self) -> None:
        """Power comes on."""
        self._ports = [[0] * REGISTERS for _ in range(2)]
        for registers in self._ports:
            registers[Register.IODIR] = 0xFF
        self._settings = 0
        self._pointer = 0
        self._addressed = False

    # What comes over the bus.

    def start(self) -> None:
        """A message to write begins: its first byte is the address."""
        self._addressed = False

    def write(self, value: int) -> None:
        if not self._addressed:
            self._pointer = value
            self._addressed = True
            return
        place = self._place()
        if place is not None:
            self._store(*place, value)
        self._advance()

    def read(self) -> int:
        place = self._place()
        self._advance()
        return 0 if place is None else self._load(*place)

    # What stands on the pins of a port.

    def driven(self, port: int) -> int:
        return 0xFF & ~self._ports[port][Register.IODIR]

    def high(self, port: int) -> int:
        """Driven or pulled up."""
        registers, driven = self._ports[port], self.driven(port)
        pulled_up = registers[Register.GPPU] & ~driven & ~self.grounded[port]
        return registers[Register.OLAT] & driven | pulled_up

    def low(self, port: int) -> int:
        """Driven or grounded; what is neither high nor low floats."""
        driven = self.driven(port)
        return ~self._ports[port][Register.OLAT] & driven | self.grounded[port] & ~driven

    def _place(self) -> tuple[int, Register] | None:
        """The port and register that the pointer names, if there is one."""
        if self._settings & BANK:
            port, register = self._pointer >> 4, self._pointer & 0xF
        else:
            port, register = self._pointer & 1, self._pointer >> 1
        return (port, Register(register)) if port < 2 and register < REGISTERS else None

    def _advance(self) -> None:
        if self._settings & SEQOP:
            if not self._settings & BANK:
                self._pointer ^= 1  # between the two registers of a pair
        else:
            self._pointer += 1
            if self._settings & BANK and self._pointer == REGISTERS:
                self._pointer = 0x10
            if self._place() is None:
                self._pointer = 0

    def _store(self, port: int, register: Register, value: int) -> None:
        if register == Register.IOCON:
            self._settings = value & 0xFE
        elif register == Register.GPIO:
            self._ports[port][Register.OLAT] = value
        elif register not in _READ_ONLY:
            self._ports[port][register] = value

    def _load(self, port: int, register: Register) -> int:
        if register == Register.IOCON:
            return self._settings
        if register != Register.GPIO:
            return self._ports[port][register]
        # What floats reads as low here: nobody shall rely on it.
        return self.high(port) ^ self._ports[port][Register.IPOL]
