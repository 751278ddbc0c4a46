"""The plate at the end of the adapter's wires, in real time: the in-package model of its parts.

The model has a clock of its own, on which each byte takes what it takes on a bus at its fastest.
Here what passes between two messages passes on it too, as it did on the rig's clock: what the
driver waits, and what the guest takes for its transfers.  So a wait that is missing shows if the
guest is fast, and a wait that is there never seems too short.
"""

from collections.abc import Callable
from errno import ENXIO
from math import inf
from time import monotonic

from smbus2 import i2c_msg

from appliance.boards import Board
from appliance.glass import Glass, Key
from appliance.operators.panel.keypad import WATCH_SECONDS
from appliance.simulated.front_panel import SimulatedPanel


class Plate:
    """Implements `hil_tests.panel.i2c_tiny_usb.Wires`; without power until `power_on`."""

    def __init__(self, board: Board, clock: Callable[[], float] = monotonic) -> None:
        self._board = board
        self._clock = clock
        self._idle_since = clock()
        self._part = SimulatedPanel(board)
        self._part.unplug()
        self.is_silent = False
        """Nobody acknowledges, as behind a broken wire; the display stands as it is."""
        self.read_at = self.watched_since = self.watched_until = -inf
        """When its pins were last read; since when they are read without a pause, and when the
        last one began.  What happens to a key in a pause is not believed."""
        self.slowest = 0.0
        """Seconds from reading to reading, at the worst, since `watched_since`."""

    # What comes over the wires.

    def write(self, address: int, data: bytes) -> None:
        self._pass(i2c_msg.write(address, data))

    def read(self, address: int, length: int) -> bytes:
        message = i2c_msg.read(address, length)
        self._pass(message)
        now = self._clock()
        if now - self.read_at > WATCH_SECONDS:
            self.watched_since, self.watched_until, self.slowest = now, self.read_at, 0.0
        else:
            self.slowest = max(self.slowest, now - self.read_at)
        self.read_at = now
        return bytes(message)

    def _pass(self, message: i2c_msg) -> None:
        self._part.sleep(self._clock() - self._idle_since)
        try:
            if self.is_silent:
                raise OSError(ENXIO, "a broken wire")
            self._part.i2c_rdwr(message)
        finally:
            self._idle_since = self._clock()

    # What a person does and sees.

    def power_on(self) -> None:
        """Its parts start as they do."""
        self._idle_since = self._clock()
        self._part.plug()

    def power_off(self) -> None:
        self._part.unplug()

    def press(self, key: Key) -> None:
        self._part.press(key)

    def release(self, key: Key) -> None:
        self._part.release(key)

    def stick(self, key: Key) -> None:
        """It goes down for good."""
        self._part.stick(key)

    def glass(self) -> Glass:
        return self._part.glass()
