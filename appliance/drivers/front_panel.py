"""The front panel on an I2C bus."""

import json
from collections.abc import Callable
from time import sleep as system_sleep

from smbus2 import i2c_msg

from appliance.boards import Board
from appliance.drivers.i2c_bus import Bus
from appliance.glass import Glass, Key


class FrontPanel:
    """Implements `appliance.glass.Panel`.  Both methods raise OSError on a bus error, after which
    the next one initialises the part anew."""

    def __init__(
        self, bus: Bus, board: Board, sleep: Callable[[float], None] = system_sleep
    ) -> None:
        self._bus = bus
        self._board = board
        self._sleep = sleep

    def show(self, glass: Glass) -> None:
        """Make it look so; only what differs is written."""
        played = json.dumps([*glass.lines, glass.backlight.value]).encode()
        self._bus.i2c_rdwr(i2c_msg.write(self._board.address, played))

    def keys(self) -> frozenset[Key]:
        """The keys that are down now; contacts bounce."""
        played = i2c_msg.read(self._board.address, 1)
        self._bus.i2c_rdwr(played)
        return frozenset(key for bit, key in enumerate(Key) if played.buf[0][0] >> bit & 1)
