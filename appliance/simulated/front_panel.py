"""A front panel, played."""

import json
import os
from errno import ENXIO

from smbus2 import i2c_msg

from appliance.boards import Board
from appliance.glass import DARK, Backlight, Glass, Key


class SimulatedPanel:
    """The part on its bus; implements `appliance.drivers.i2c_bus.Bus`."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._glass = DARK
        self._down: set[Key] = set()
        self._stuck: set[Key] = set()
        self._plugged = True
        self._naks = 0

    def i2c_rdwr(self, *i2c_msgs: i2c_msg) -> None:
        if self._naks or not self._plugged:
            self._naks = max(0, self._naks - 1)
            raise OSError(ENXIO, os.strerror(ENXIO))
        for message in i2c_msgs:
            if message.flags:
                message.buf[0] = sum(1 << bit for bit, key in enumerate(Key) if key in self._down)
            else:
                first, second, backlight = json.loads(message.buf[: message.len])
                self._glass = Glass((first, second), Backlight(backlight))

    def sleep(self, seconds: float) -> None:
        """Time passes on the played clock; nobody waits."""

    # What a test or a person does.

    def press(self, key: Key) -> None:
        """A finger goes down on it."""
        self._down.add(key)

    def release(self, key: Key) -> None:
        """The finger leaves it; a stuck key stays down."""
        self._down -= {key} - self._stuck

    def stick(self, key: Key) -> None:
        """It goes down for good."""
        self._down.add(key)
        self._stuck.add(key)

    def unplug(self) -> None:
        """The cable is pulled: no power, and nobody acknowledges."""
        self._plugged = False
        self._glass = DARK

    def plug(self) -> None:
        """The cable is back; the parts start from their reset."""
        self._plugged = True

    def nak(self, transactions: int = 1) -> None:
        """So many of the next transactions are not acknowledged."""
        self._naks = transactions

    def glass(self) -> Glass:
        """What a person sees."""
        return self._glass
