"""The MCP23017: sixteen pins behind an I2C bus, in two ports.

It is used with IOCON.BANK and IOCON.SEQOP set: its address pointer stands still, so that all
bytes of a message go to one port, one level after the other.  Registers are those of its data
sheet (DS20001952C), tables 3-3 and 3-4.
"""

from errno import EIO
from typing import Final

from smbus2 import i2c_msg

from appliance.drivers.i2c_bus import MESSAGE_BYTES, Bus

# Registers of port A with IOCON.BANK set; those of port B stand 0x10 above.
IODIR: Final = 0x00
IPOL: Final = 0x01
IOCON: Final = 0x05
GPPU: Final = 0x06
GPIO: Final = 0x09
OLAT: Final = 0x0A
PORT: Final = 0x10
IOCON_BANK_0: Final = 0x0B
"""IOCON's address while IOCON.BANK is clear, as after a reset; nothing is there while it is set."""
FIXED_POINTER: Final = 0xA0
"""IOCON with BANK and SEQOP."""
LEVELS_A_MESSAGE: Final = MESSAGE_BYTES - 1
"""Behind the register that they go to."""


class IoExpander:
    """Every method raises OSError.  What it writes it writes in one transaction."""

    def __init__(self, bus: Bus, address: int) -> None:
        self._bus = bus
        self._address = address

    def initialise(self, outputs: tuple[int, int], levels: tuple[int, int]) -> None:
        """Whatever its state: `outputs` of both ports drive `levels`, the others are pulled up."""
        messages = [
            # Whichever of its two addresses IOCON has, the other write does nothing.
            self._write(IOCON_BANK_0, FIXED_POINTER),
            self._write(IOCON, FIXED_POINTER),
        ]
        for port in range(2):
            inputs = 0xFF & ~outputs[port]
            messages += [
                self._write(port * PORT + register, value)
                for register, value in (
                    (IPOL, 0),
                    (GPPU, inputs),
                    (OLAT, levels[port]),  # before the pins drive it
                    (IODIR, inputs),
                )
            ]
        self._bus.i2c_rdwr(*messages)

    def send(self, levels: dict[int, bytes]) -> None:
        """The outputs of each port named take these levels, each for as long as a byte lasts at
        least: longer where one message ends and the next begins."""
        self._bus.i2c_rdwr(
            *(
                self._write(port * PORT + OLAT, *each[start : start + LEVELS_A_MESSAGE])
                for port, each in levels.items()
                for start in range(0, len(each), LEVELS_A_MESSAGE)
            )
        )

    def read(self, port: int) -> int:
        """The levels of its pins.

        Raises OSError EIO if the part has been reset since it was initialised, as by a plug that
        was out for a moment: it then pulls nothing up, and every key would look pressed.
        """
        levels = self._read(port * PORT + GPIO)
        # Read behind the levels, since no transaction may hold both: a reset between the two
        # would else let false levels pass.
        if self._read(IOCON) != FIXED_POINTER:
            raise OSError(EIO, "the expander was reset")
        return levels

    def _read(self, register: int) -> int:
        answer = i2c_msg.read(self._address, 1)
        self._bus.i2c_rdwr(self._write(register), answer)
        return int(answer.buf[0][0])

    def _write(self, register: int, *values: int) -> i2c_msg:
        return i2c_msg.write(self._address, (register, *values))
