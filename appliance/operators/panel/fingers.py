"""Keys pressed from afar: a finger that presses one after the other, for a given time each."""

from collections import deque
from typing import Final

from appliance.glass import Key
from appliance.operators.answers import KeyDescription
from appliance.operators.panel.keypad import SETTLE_SECONDS

TAP_SECONDS: Final = 2 * SETTLE_SECONDS
"""A key is down, and then up, for at least so long: long enough to be believed."""
ANSWER_SECONDS: Final = 2.0
"""So long a key is not done with while the glass waits for the answer to what it asked."""


class Fingers:
    """`handled` is the number of the newest key that is done with."""

    def __init__(self) -> None:
        self.handled = 0
        self._waiting: deque[KeyDescription] = deque()
        self._pressed: KeyDescription | None = None
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
        if self._pressed is not None and self._is_over(now, busy):
            self.handled = self._pressed.number
            self._pressed = None
        if self._pressed is None and self._waiting:
            self._pressed, self._since = self._waiting.popleft(), now
        if self._pressed is None or now - self._since >= self._hold:
            return frozenset()
        return frozenset({Key(self._pressed.key)})

    @property
    def _hold(self) -> float:
        assert self._pressed is not None
        return max(TAP_SECONDS, self._pressed.hold)

    def _is_over(self, now: float, busy: bool) -> bool:
        up = now - self._since - self._hold
        return up >= TAP_SECONDS and not (busy and up < ANSWER_SECONDS)
