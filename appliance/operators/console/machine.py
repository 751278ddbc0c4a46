"""The console without its line, its clock and its service.

Bytes of the line go in by `feed`, the time by `tick` (and with every call),
answers of the service by `answered` and `progressed`.  Bytes for the line are
taken by `take`, as many as it has room for, so that what waits here can still
be dropped by ^C; what the service shall do is taken from `orders`.  It raises
nothing, whatever comes in, and everything that waits in it is bounded, except
for an answer that is being shown.

What is typed while the machine is not asking waits, up to `AHEAD_MAXIMUM`
bytes; but a question that wants a *fresh* answer (a password, a confirmation)
drops it, and listens only when its prompt has left.  (Repeated because of noise
or ^U, the prompt has been seen before, and the machine listens on.)

Who types nothing for too long is logged out, and that is told like an error's
answer, since one may have been due.  Waiting for the service is not silence:
who asks to see a job to its end may go for a coffee.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from appliance.errors import EbbtideError, LineGarbled, LoggedOut
from appliance.operators.console.conversation import (
    Ask,
    Conversation,
    Ended,
    Interrupted,
    Json,
    Manner,
    Note,
    Perform,
    Rest,
    Tell,
    TimedOut,
    Want,
)
from appliance.operators.console.display import Display, Shown
from appliance.operators.console.line_editor import Control, Fault, Key, Line, LineEditor
from appliance.operators.console.paper import plain
from appliance.operators.parameters import Value
from appliance.operators.text import progress

AHEAD_MAXIMUM: Final = 512
FORGET_SECONDS: Final = 60.0
"""What lies half typed at a login prompt is forgotten then."""
_log = logging.getLogger("ebbtide.console")


class Phase(Enum):
    """What the machine is at."""

    ASKING = "a line is being typed"
    PROMPTING = "the prompt of a fresh question is on its way"
    SHOWING = "text is on its way"
    PAUSED = "a page is full"
    WAITING = "the service works"
    RESTING = "deaf for a while"
    OFF = "no line"


@dataclass(frozen=True, slots=True)
class Errand:
    """The service shall do a verb, and `answered` tell of it with this number.  Errands between
    `lock` and `unlock` belong on one connection."""

    number: int
    verb: str
    arguments: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Abandon:
    """Let go of the errand under way, if any, and of the operator lock."""


Order = Errand | Abandon | Note


class Console:
    """See the module.  `session` makes the dialogue of one login, from the prompt on; it is made
    anew after each.  `manner` is what dialogues change."""

    def __init__(
        self,
        session: Callable[[], Conversation[None]],
        manner: Manner,
        idle_seconds: float = 600.0,
    ) -> None:
        self._make_session = session
        self._manner = manner
        self._idle_seconds = idle_seconds
        self._session: Conversation[None] | None = None
        self._want: Want | None = None
        self._editor = LineEditor()
        self._display = Display()
        self._ahead = bytearray()
        self._ahead_lost = False
        self._after_return = False
        self._number = 0
        self._now = 0.0
        self._last_stir = 0.0
        """When somebody typed, or got an answer."""
        self._deadline: float | None = None
        self.phase = Phase.OFF
        self.orders: deque[Order] = deque()

    # From outside

    def connect(self, now: float) -> None:
        """There is a line, with nobody logged in."""
        self.hang_up()
        self._now = self._last_stir = now
        self._begin()
        self._flow()

    def hang_up(self) -> None:
        """The line is gone: whoever was there is logged out."""
        self._end_session()
        self._display.drop_output()
        self.phase = Phase.OFF

    def feed(self, data: bytes, now: float) -> None:
        """Bytes came in."""
        self._now = self._last_stir = now
        for byte in data:
            if self.phase is Phase.OFF:
                return
            self._hear(byte)
            self._flow()

    def tick(self, now: float) -> None:
        """Time went by; to be called each second or so."""
        self._now = now
        if self._deadline is not None and now >= self._deadline:
            self._step(None, None if self.phase is Phase.RESTING else TimedOut())
        elif not self._manner.logged_in:
            if now - self._last_stir >= FORGET_SECONDS:
                self._editor.clear()
        elif self.phase is not Phase.WAITING and now - self._last_stir >= self._idle_seconds:
            self._log_out(LoggedOut(seconds=round(self._idle_seconds)))
        self._flow()

    def progressed(self, number: int, job: Json, now: float) -> None:
        """How far the job of an errand is."""
        self._now = now
        if number != self._number or self.phase is not Phase.WAITING:
            return
        assert isinstance(self._want, Perform)
        self._manner.last_job = job
        if self._want.follow:
            self._display.follow(progress.describe(job))

    def answered(self, number: int, reply: Json | Exception, now: float) -> None:
        """What came of an errand, or what went wrong."""
        self._now = now
        if number == self._number and self.phase is Phase.WAITING:
            self._last_stir = now
            if isinstance(reply, Exception):
                self._step(None, reply)
            else:
                self._step(reply)
            self._flow()

    def take(self, most: int) -> bytes:
        """Bytes for the line, at most so many."""
        self._flow()
        taken = self._display.take(most)
        self._flow()
        return taken

    @property
    def waits_for_room(self) -> bool:
        """`take` would give something."""
        return self._display.waiting > 0

    # Keys

    def _hear(self, byte: int) -> None:
        after_return, self._after_return = self._after_return, False
        if byte == Control.LINE_FEED or (byte == 0 and after_return):
            if after_return:
                return
            byte = Control.ENTER
        elif byte == Control.ENTER:
            self._after_return = True
        if byte == Control.INTERRUPT and (self._ahead or self.phase is not Phase.ASKING):
            self._interrupt()
            return
        match self.phase:
            case Phase.ASKING if not self._ahead:
                self._type(byte)
            case Phase.PAUSED:
                self._turn_page(byte)
            case Phase.ASKING | Phase.WAITING | Phase.SHOWING:
                if len(self._ahead) < AHEAD_MAXIMUM:
                    self._ahead.append(byte)
                else:
                    self._ahead_lost = True
            case _:
                pass

    def _type(self, byte: int) -> None:
        assert isinstance(self._want, Ask)
        came = self._editor.press(byte)
        self._display.echo(bytes(self._editor.echo))
        self._editor.echo.clear()
        match came:
            case Line():
                self._display.turn_page()
                self._display.put_line()
                if came.fault is None:
                    self._step(came.text)
                else:
                    self._tell_error(LineGarbled(reason=came.fault.value))
                    self._prompt()
            case Key.INTERRUPT:
                self._interrupt()
            case Key.END:
                self._display.put_line()
                self._step(None, Ended())
            case Key.REDRAW | Key.ERASED:
                self._display.put_line()
                self._prompt()
            case None:
                pass

    def _turn_page(self, byte: int) -> None:
        character = chr(byte).lower()
        if character not in "\r anq0":
            return
        self._display.wipe_more()
        self.phase = Phase.SHOWING
        if character == "a":
            self._manner.paged = False
        elif character in "q0":
            self._display.drop_lines()

    def _interrupt(self) -> None:
        """^C: what is on its way is dropped, and what is asked or waited for is left."""
        self._ahead.clear()
        self._ahead_lost = False
        self._display.drop_output()
        was = self.phase
        self._display.put("^C")
        self._display.put_line()
        if was in (Phase.SHOWING, Phase.PAUSED):
            # What is being shown has happened; only the rest of it is not wanted.
            self._display.drop_lines()
            self.phase = Phase.SHOWING
        elif was is Phase.RESTING:
            return
        else:
            if was is Phase.WAITING:
                self.orders.append(Abandon())
            self._step(None, Interrupted())

    # The dialogue

    def _begin(self) -> None:
        self._session = self._make_session()
        self._step(None)

    def _step(self, reply: Json | str | None, error: Exception | None = None) -> None:
        """Go on with the dialogue, to what it wants next.  At its end it begins anew."""
        assert self._session is not None
        self._display.end_following()
        self._deadline = None
        self._editor.clear()
        try:
            want = self._session.throw(error) if error is not None else self._session.send(reply)
        except StopIteration:
            self._restart()
        except Exception as failure:
            # A bug must not leave a trace on the line, nor somebody logged in behind it.
            _log.error("a dialogue of the console failed", exc_info=failure)
            self._restart()
            self._tell_error(EbbtideError(reason=type(failure).__name__))
            self._deadline = self._now + 1.0
            self.phase = Phase.RESTING
        else:
            self._enter(want)

    def _restart(self) -> None:
        """A dialogue that ends is followed by the next, whose first want is shown by `_flow`."""
        self._end_session()
        self._session = self._make_session()
        self._want = Tell(())
        self.phase = Phase.SHOWING

    def _enter(self, want: Want) -> None:
        self._want = want
        match want:
            case Tell():
                self._display.add(want.lines)
                self.phase = Phase.SHOWING
            case Ask():
                self._editor.secret = want.secret
                if want.seconds is not None:
                    self._deadline = self._now + want.seconds
                if want.fresh:
                    self._ahead.clear()
                    self._ahead_lost = False
                self.phase = Phase.PROMPTING if want.fresh else Phase.ASKING
                self._prompt()
            case Perform():
                self._number += 1
                self._manner.last_job = {}
                self.orders.append(Errand(self._number, want.verb, dict(want.arguments)))
                self.phase = Phase.WAITING
            case Note():
                self.orders.append(want)
                self.phase = Phase.SHOWING
            case Rest():
                self._deadline = self._now + want.seconds
                self._ahead.clear()
                self.phase = Phase.RESTING

    def _flow(self) -> None:
        """Do what can be done without anything from outside."""
        while True:
            match self.phase:
                case Phase.SHOWING:
                    if not self._show():
                        return
                    self._step(None)
                case Phase.PROMPTING if not self._display.waiting:
                    self.phase = Phase.ASKING
                case Phase.ASKING if self._ahead and self._display.has_room:
                    byte = self._ahead[0]
                    del self._ahead[0]
                    self._type(byte)
                case Phase.ASKING if self._ahead_lost and not self._ahead:
                    self._ahead_lost = False
                    self._editor.fault = Fault.FLOOD
                case _:
                    return

    def _show(self) -> bool:
        """Make lines ready; is that all of them?"""
        paged = isinstance(self._want, Tell) and self._want.paged and self._manner.paged
        shown = self._display.show(paged)
        if shown is Shown.PAGE:
            self.phase = Phase.PAUSED
        return shown is Shown.ALL

    # Output

    def _prompt(self) -> None:
        """The question, with what was typed so far."""
        assert isinstance(self._want, Ask)
        self._display.put(self._want.prompt)
        if not self._want.secret:
            self._display.put(self._editor.text)

    def _tell_error(self, error: EbbtideError) -> None:
        self._display.put_line(plain(f"{error.code}: {error}"))
        self._display.put_line(f"ERR {error.code}")

    # Endings

    def _log_out(self, why: EbbtideError) -> None:
        self._display.drop_output()
        self._end_session()
        self._display.put_line()
        self._tell_error(why)
        self._begin()

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
            if self._manner.logged_in:
                self.orders.append(Note("logout"))
            self.orders.append(Abandon())
        self._number += 1
        self._manner.logged_in = False
        self._manner.paged = True
        self._display.drop_lines()
        self._display.turn_page()
        self._ahead.clear()
        self._ahead_lost = False
        self._editor.clear()
        self._deadline = None
