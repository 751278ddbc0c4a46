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
from appliance.operators.panel.keypad import Change

ANSWER_SECONDS: Final = 2.0
"""So long a key is not done with while the glass waits for the answer to what it asked."""


class Stage(Enum):
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
        self._stage = Stage.PRESSING
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
            if self._stage is Stage.HOLDING and stood >= self._pressed.hold:
                self._stage = Stage.LIFTING
            elif self._stage is Stage.ANSWERING and not (busy and stood < ANSWER_SECONDS):
                self.handled = self._pressed.number
                self._pressed = None
        if self._pressed is None and self._waiting:
            self._pressed, self._stage = self._waiting.popleft(), Stage.PRESSING
        if self._pressed is None or self._stage not in (Stage.PRESSING, Stage.HOLDING):
            return frozenset()
        return frozenset({Key(self._pressed.key)})

    def feel(self, changes: list[Change], now: float) -> None:
        """This is what the keypad made of it."""
        for key, down in changes:
            if self._pressed is not None and key.value == self._pressed.key:
                self._stage = Stage.HOLDING if down else Stage.ANSWERING
                self._since = now
