"""A front panel on its I2C bus, played: an MCP23017 and an HD44780 wired as a board's file says.

What a person sees is decoded from the traffic that the real parts would get, byte by byte, with
time passing on a played clock as the bytes pass at the bus's speed.  So a driver with a wrong
pin, a wrong register or without a wait shows nothing, or garbage.

The bus refuses what any adapter would: a read before the end of a transaction (i2c-bcm2835), a
message that the firmware of i2c-tiny-usb does not carry, more messages than the kernel's i2c-dev
takes.
"""

import os
from collections.abc import Iterator
from errno import EINVAL, EIO, ENXIO, EOPNOTSUPP
from typing import Final

from smbus2 import i2c_msg

from appliance.boards import Board, Pin, pin
from appliance.glass import DARK, Backlight, Glass, Key
from appliance.simulated.io_expander import PlayedExpander
from appliance.simulated.lcd import PlayedLcd

MESSAGES_MAXIMUM: Final = 42
"""Of one transaction (I2C_RDWR_IOCTL_MAX_MSGS)."""
BYTES_MAXIMUM: Final = 254
"""Of one message (V-USB without long transfers, which has one byte for its length)."""
READ: Final = 1
"""The flag of a message that reads."""

_COLOURS: Final = {colour.lamps: colour for colour in Backlight}


class SimulatedPanel:
    """The panel, plugged in, and the bus that leads to it: implements
    `appliance.drivers.i2c_bus.Bus`."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._expander = PlayedExpander()
        self._lcd = PlayedLcd(board.lcd.rom)
        self._port = board.lcd.port
        self._rs, self._rw = pin(board.lcd.rs).mask, pin(board.lcd.rw).mask
        self._e = pin(board.lcd.e).mask
        self._data = [(1 << bit, each.mask) for bit, each in enumerate(board.lcd.data)]
        self._now_ns = 0
        self._plugged = True
        self._stuck: set[Key] = set()
        self._breaks: list[tuple[int, int]] = []
        self.transactions = 0
        self.bytes = 0
        """That have passed over the bus, addresses included."""

    # What a driver does.

    def i2c_rdwr(self, *i2c_msgs: i2c_msg) -> None:
        """As of `smbus2.SMBus`."""
        if refused := _refused(i2c_msgs):
            raise OSError(refused, os.strerror(refused))
        self.transactions += 1
        left, error = self._breaks.pop(0) if self._breaks else (-1, 0)
        for passed, _ in enumerate(self._passing(i2c_msgs)):
            if passed == left:
                raise OSError(error, os.strerror(error))

    def sleep(self, seconds: float) -> None:
        """Time passes on the played clock; nobody waits."""
        self._now_ns += round(seconds * 1e9)

    @property
    def seconds(self) -> float:
        """What the played clock says: how long all this would have taken."""
        return self._now_ns / 1e9

    # What a person does, or an accident.

    def press(self, key: Key) -> None:
        """A finger goes down on it."""
        self._expander.grounded[self._board.keys.port] |= self._board.keys.pins[key].mask

    def release(self, key: Key) -> None:
        """The finger leaves it."""
        if key not in self._stuck:
            self._expander.grounded[self._board.keys.port] &= ~self._board.keys.pins[key].mask

    def stick(self, key: Key) -> None:
        """It goes down for good."""
        self._stuck.add(key)
        self.press(key)

    def unplug(self) -> None:
        """The cable is pulled: no power, and nobody acknowledges."""
        self._plugged = False

    def plug(self, *, eight_bits: bool = True, half: int | None = None) -> None:
        """The cable is in again, and the parts start as they like: see `PlayedLcd.power_on`."""
        self._plugged = True
        self._expander.reset()
        self._lcd.power_on(self._now_ns, eight_bits=eight_bits, half=half)

    def nak(self, transactions: int = 1, *, after: int = 0, error: int = ENXIO) -> None:
        """So many of the next transactions break off behind their first `after` bytes; which
        error that makes depends on the adapter."""
        self._breaks += [(after, error)] * transactions

    def glass(self) -> Glass:
        """What a person sees."""
        if not self._plugged:
            return DARK
        red, green, blue = (self._is_lit(each) for each in self._board.backlight.pins)
        return Glass(self._lcd.lines(), _COLOURS[red, green, blue])

    def _passing(self, messages: tuple[i2c_msg, ...]) -> Iterator[None]:
        """Yields before each byte that is to be acknowledged, the address of a message first."""
        for message in messages:
            yield
            self._pass_byte()
            if not self._plugged or message.addr != self._board.address:
                raise OSError(ENXIO, os.strerror(ENXIO))
            reads = bool(message.flags & READ)
            if not reads:
                self._expander.start()
            for place in range(message.len):
                yield
                self._pass_byte()
                if reads:
                    message.buf[place] = self._expander.read()
                else:
                    self._expander.write(message.buf[place][0])
                    self._move_lcd()

    def _pass_byte(self) -> None:
        self.bytes += 1
        self._now_ns += 9_000_000_000 // self._board.bus_hertz

    def _move_lcd(self) -> None:
        """The display pulls all its pins but E up by itself."""
        high = self._expander.high(self._port)
        low = self._expander.low(self._port)
        data = 0
        for value, mask in self._data:
            if not low & mask:
                data |= value
        self._lcd.move(
            self._now_ns,
            rs=not low & self._rs,
            rw=not low & self._rw,
            e=bool(high & self._e),
            data=data,
        )

    def _is_lit(self, lamp: Pin) -> bool:
        lit = self._expander.high if self._board.backlight.lit == "high" else self._expander.low
        return bool(lit(lamp.port) & self._expander.driven(lamp.port) & lamp.mask)


def _refused(messages: tuple[i2c_msg, ...]) -> int:
    """The error of a transaction that some adapter does not take; 0 if all do."""
    if len(messages) > MESSAGES_MAXIMUM:
        return EINVAL
    if any(each.flags & READ for each in messages[:-1]):
        return EOPNOTSUPP
    return EIO if any(each.len > BYTES_MAXIMUM for each in messages) else 0
