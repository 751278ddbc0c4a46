"""Keys pressed from afar: a finger that presses one after the other, for a given time each.

It goes by what is felt of it: a key is down until the keypad has believed it,
and up again before the next one; so however slowly this machine turns, none
is lost and none counts twice.
"""

from collections import deque
from enum import Enum
from typing import Final

from appliance.glass import Key
from appliance.operators.answers import KeyDescription
from appliance.operators.panel.keypad import Edge

ANSWER_SECONDS: Final = 2.0
"""So long a key is not done with while the glass waits for the answer to what it asked."""


class PressStage(Enum):
    """Of a key that is pressed."""

    PRESSING = "it is to be felt"
    HOLDING = "it was felt, and stays down for its time"
    LIFTING = "its end is to be felt"
    ANSWERING = "what it asked for is to be answered"


class Fingers:
    """`handled` is the number of the newest key that is done with."""

    def __init__(self) -> None:
        self.handled = 0
        self._waiting: deque[KeyDescription] = deque()
        self._pressed: KeyDescription | None = None
        self._stage = PressStage.PRESSING
        self._since = 0.0

    def add(self, keys: list[KeyDescription]) -> None:
        """Press these, too."""
        self._waiting += keys

    def forget(self) -> None:
        """Whoever pressed is gone, and numbers begin anew."""
        self.handled = 0
        self._waiting.clear()
        self._pressed = None

    def down(self, now: float, busy: bool) -> frozenset[Key]:
        """What the finger presses now; `busy` while the glass waits for an answer."""
        stood = now - self._since
        if self._pressed is not None:
            if self._stage is PressStage.HOLDING and stood >= self._pressed.hold:
                self._stage = PressStage.LIFTING
            elif self._stage is PressStage.ANSWERING and not (busy and stood < ANSWER_SECONDS):
                self.handled = self._pressed.number
                self._pressed = None
        if self._pressed is None and self._waiting:
            self._pressed, self._stage = self._waiting.popleft(), PressStage.PRESSING
        if self._pressed is None or self._stage not in (PressStage.PRESSING, PressStage.HOLDING):
            return frozenset()
        return frozenset({Key(self._pressed.key)})

    def feel(self, edges: list[Edge], now: float) -> None:
        """This is what the keypad made of it."""
        for key, down in edges:
            if self._pressed is not None and key.value == self._pressed.key:
                self._stage = PressStage.HOLDING if down else PressStage.ANSWERING
                self._since = now
