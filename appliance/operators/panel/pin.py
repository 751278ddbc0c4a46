"""Typing the PIN with five keys."""

from collections.abc import Callable
from typing import Final

from appliance.glass import Key
from appliance.operators.panel.screen import Face, Screen
from appliance.operators.panel.text import Lines, fit
from appliance.operators.text import words

DIGITS_MAXIMUM: Final = 12


class PinEntry(Screen):
    """Up and down change the last digit, Right begins the next, Left takes it back, and Select has
    all of them compared; `then` is called, with this screen on top, once the PIN is right."""

    def __init__(self, face: Face, then: Callable[[], None]) -> None:
        super().__init__(face)
        self._then = then
        self._digits = [0]
        self._checking = False
        self._wrong = False

    def lines(self) -> Lines:
        if self._checking:
            return fit("PIN"), fit("checking...")
        wait = self.face.gate.wait(self.face.now)
        if wait:
            return fit("Wrong PIN. Wait"), fit(words.duration(wait))
        if self._wrong:
            return fit("Wrong PIN"), fit("again: ▲▼ ◀▶ ↵")
        hidden = "*" * (len(self._digits) - 1) + str(self._digits[-1])
        return fit("PIN: ▲▼ next ▶ ↵"), fit(hidden)

    def press(self, key: Key) -> None:
        if self._checking or self.face.gate.wait(self.face.now):
            if key is Key.LEFT:
                self.face.back()
            return
        self._wrong = False
        match key:
            case Key.UP:
                self._digits[-1] = (self._digits[-1] + 1) % 10
            case Key.DOWN:
                self._digits[-1] = (self._digits[-1] - 1) % 10
            case Key.RIGHT if len(self._digits) < DIGITS_MAXIMUM:
                self._digits.append(0)
            case Key.LEFT if len(self._digits) > 1:
                self._digits.pop()
            case Key.LEFT:
                self.face.back()
            case Key.SELECT:
                self._checking = True
                self.face.gate.trying()
                self.face.check_pin(self, "".join(map(str, self._digits)), self._checked)

    def _checked(self, right: bool) -> None:
        if right:
            self.face.gate.admit()
            self._then()
            return
        self._checking, self._wrong, self._digits = False, True, [0]
