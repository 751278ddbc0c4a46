"""Between the process of the front panel and those who work it from afar.

The panel's process asks again and again for keys, and says with each question
what the glass shows now and which key it has dealt with last; the answer comes
when a key waits, when the next question comes, or after a while.  The process
that is the panel stays it until its connection is gone or it goes silent; until
then another one is refused, whoever it belongs to: so nobody takes the panel
away from whoever stands before it, and one that hangs does not keep it.

A key goes to one process, once.  Whoever pressed it is told the glass after
it, or that the panel did not deal with it: no key is lost in silence.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from appliance.cdp.interfaces import Timer
from appliance.cdp.tasks import Completion
from appliance.errors import AnotherPanel, KeyNotHandled, NoPanel
from appliance.events import PANEL_WORKED, Emit
from appliance.operators.answers import GlassAnswer, KeyDescription
from appliance.operators.interfaces import Timers
from appliance.operators.operator_lock import Operator

POLL_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 30.0
"""A process that asks for no keys for so long is no panel any more."""
HANDLE_SECONDS: Final = 10.0
"""How long the panel may take over a key, after it was held."""
KEYS_MAXIMUM: Final = 16
SITTING_SECONDS: Final = 300.0
"""Somebody who presses nothing for so long, and then does again, is told of anew."""


@dataclass(slots=True, eq=False)
class _Press:
    key: KeyDescription
    sent: bool = False
    glass: Completion[GlassAnswer] = field(default_factory=Completion)


class PanelLink:
    """See the module."""

    def __init__(self, timers: Timers, emit: Emit) -> None:
        self._timers = timers
        self._emit = emit
        self._numbers = count(1)
        self._panel: Operator | None = None
        self._glass: GlassAnswer | None = None
        self._poll: Completion[list[KeyDescription]] | None = None
        self._timer: Timer | None = None
        self._presses: list[_Press] = []
        self._sitting: tuple[str, Timer] | None = None

    def glass(self) -> GlassAnswer:
        """What the panel shows; raises NoPanel."""
        if self._panel is None or self._glass is None:
            raise NoPanel
        return self._glass

    async def press(self, operator: Operator, key: str, hold: float) -> GlassAnswer:
        """Press a key, for `hold` seconds: what the panel shows after it has dealt with it.

        Raises NoPanel or KeyNotHandled.
        """
        self.glass()
        if len(self._presses) >= KEYS_MAXIMUM:
            raise KeyNotHandled(key=key, reason=f"{KEYS_MAXIMUM} keys wait already")
        self._note_sitting(operator)
        press = _Press(KeyDescription(next(self._numbers), key, hold))
        self._presses.append(press)
        timer = self._timers.after(
            hold + HANDLE_SECONDS,
            lambda: self._fail(press, f"it took longer than {HANDLE_SECONDS:.0f} s"),
        )
        self._hand_over()
        try:
            return await press.glass
        finally:
            timer.cancel()
            if press in self._presses:
                self._presses.remove(press)

    async def exchange(
        self, operator: Operator, glass: GlassAnswer, handled: int
    ) -> list[KeyDescription]:
        """The panel's question: its glass, after the key numbered `handled`.  Keys to press, once
        there are any; none after POLL_SECONDS.  Raises AnotherPanel."""
        if self._panel is None:
            self._panel = operator
        if self._panel is not operator:
            raise AnotherPanel
        handled_now = [
            press for press in self._presses if press.sent and press.key.number <= handled
        ]
        poll: Completion[list[KeyDescription]] = Completion()
        older, self._poll, self._glass = self._poll, poll, glass
        self._set_timer(POLL_SECONDS, lambda: self._answer([]))
        if older is not None:
            older.succeed([])
        for press in handled_now:
            self._presses.remove(press)
            press.glass.succeed(glass)
        self._hand_over()
        try:
            return await poll
        finally:
            if self._poll is poll:  # its connection went away
                self._poll = None

    def leave(self, operator: Operator) -> None:
        """The connection is gone."""
        if self._panel is operator:
            self._lose("it went away")

    def _lose(self, reason: str) -> None:
        self._panel = self._glass = self._poll = None
        self._stop_timer()
        for press in list(self._presses):
            self._fail(press, reason)

    def _hand_over(self) -> None:
        waiting = [press for press in self._presses if not press.sent]
        if waiting and self._poll is not None:
            for press in waiting:
                press.sent = True
            self._answer([press.key for press in waiting])

    def _answer(self, keys: list[KeyDescription]) -> None:
        poll, self._poll = self._poll, None
        if poll is not None:
            self._set_timer(SILENT_SECONDS, lambda: self._lose("it went silent"))
            poll.succeed(keys)

    def _fail(self, press: _Press, reason: str) -> None:
        if press in self._presses:
            self._presses.remove(press)
            press.glass.fail(KeyNotHandled(key=press.key.key, reason=reason))

    def _set_timer(self, seconds: float, action: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._timers.after(seconds, action)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note_sitting(self, operator: Operator) -> None:
        """An event for each key would push all others out of the log."""
        actor = operator.actor
        if self._sitting is None or self._sitting[0] != actor:
            self._emit(PANEL_WORKED, actor=actor)
        if self._sitting is not None:
            self._sitting[1].cancel()
        self._sitting = actor, self._timers.after(SITTING_SECONDS, self._end_sitting)

    def _end_sitting(self) -> None:
        self._sitting = None
