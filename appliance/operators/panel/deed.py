"""Whatever changes something: the operator lock, a plan, a person's word, the request.

The lock is asked for first and given back when the screen is left, whichever
way; so nobody changes under a person's eyes what the plan tells of.  A deed
that destroys is done only after Select was seen down for `HOLD_SECONDS`
without a break: letting go, another key, a lost panel, a stalled process and
the end of patience all cancel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from appliance.glass import Key
from appliance.operators.answers import ErrorAnswer
from appliance.operators.panel.pin import PinEntry
from appliance.operators.panel.screen import (
    Arguments,
    Face,
    Json,
    Reply,
    Screen,
    refusal,
)
from appliance.operators.panel.text import Lines, bar, fit, marquee, marquee_seconds

HOLD_SECONDS: Final = 3.0
WATCHED_SECONDS: Final = 0.25
"""At most so much of a hold is believed between two ticks: nobody watched a longer one."""
FACT_SECONDS: Final = 2.0
RELEASED_SECONDS: Final = 2.0


class Stage(Enum):
    """How far a deed is; the value is what the glass says while a person waits."""

    LOCKING = "asking..."
    PLANNING = "planning..."
    READY = ""
    HOLDING = "Keep holding..."
    DOING = "starting..."


@dataclass(frozen=True, slots=True)
class Deed:
    """`plan` is the request for the plan, `request` the one that does it, made of the plan's answer
    and the seconds since 1970 then; `facts` is what a person reads before; `done` the screen
    after."""

    title: str
    facts: Callable[[Json], Sequence[str]]
    request: Callable[[Json, float], tuple[str, Arguments]]
    done: Callable[[Json], Screen]
    plan: tuple[str, Arguments] | None = None
    hold: bool = False


def begin(face: Face, deed: Deed) -> None:
    """Put the deed before a person, behind the PIN if there is one."""
    if face.gate.open:
        face.open(DeedScreen(face, deed))
    else:
        face.open(PinEntry(face, lambda: face.replace(DeedScreen(face, deed))))


class DeedScreen(Screen):
    """One deed, from the lock to its end."""

    def __init__(self, face: Face, deed: Deed) -> None:
        super().__init__(face)
        self._deed = deed
        self._stage = Stage.LOCKING
        self._planned: Json = {}
        self._fact = 0
        self._held = 0.0
        self._watched_at = face.now
        self._released_until = 0.0
        face.ask(self, "lock", {}, Reply(self._locked, self._refused))

    def lines(self) -> Lines:
        match self._stage:
            case Stage.READY if self.face.now < self._released_until:
                return fit("Let go too soon:"), fit("nothing is done")
            case Stage.READY:
                word = "Hold Select 3s ◀" if self._deed.hold else "↵ start   ◀ back"
                return marquee(self._facts[self._fact], self.elapsed), word
            case Stage.HOLDING:
                return fit(self._stage.value), bar(self._held / HOLD_SECONDS)
            case waiting:
                return fit(self._deed.title), fit(waiting.value)

    def press(self, key: Key) -> None:
        if self._stage is Stage.HOLDING:
            self._let_go()
        elif key is Key.LEFT:
            self.face.back()
        elif self._stage is Stage.READY:
            self._press_ready(key)

    def _press_ready(self, key: Key) -> None:
        if key is Key.SELECT and self._deed.hold:
            self._stage, self._held = Stage.HOLDING, 0.0
        elif key is Key.SELECT:
            self._do()
        elif key in (Key.UP, Key.DOWN):
            self._turn(1 if key is Key.DOWN else -1)

    def release(self) -> None:
        if self._stage is Stage.HOLDING:
            self._let_go()

    def tick(self) -> None:
        watched, self._watched_at = self.face.now - self._watched_at, self.face.now
        if self._stage is Stage.HOLDING:
            self._held += min(watched, WATCHED_SECONDS)
            if self._held >= HOLD_SECONDS:
                self._do()
        elif self._stage is Stage.READY:
            fact = self._facts[self._fact]
            if self.elapsed >= max(FACT_SECONDS, marquee_seconds(fact)):
                self._turn(1)

    def leave(self) -> None:
        self.face.tell("unlock", {})

    @property
    def _facts(self) -> Sequence[str]:
        return self._deed.facts(self._planned)

    def _turn(self, by: int) -> None:
        self._fact = (self._fact + by) % len(self._facts)
        self.stand()

    def _let_go(self) -> None:
        self._stage, self._held = Stage.READY, 0.0
        self._released_until = self.face.now + RELEASED_SECONDS

    def _locked(self, _: Json) -> None:
        if self._deed.plan is None:
            self._planned_as({})
            return
        self._stage = Stage.PLANNING
        self.face.ask(self, *self._deed.plan, Reply(self._planned_as, self._refused))

    def _planned_as(self, planned: Json) -> None:
        self._stage, self._planned = Stage.READY, planned
        self.stand()

    def _do(self) -> None:
        self._stage = Stage.DOING
        verb, arguments = self._deed.request(self._planned, self.face.wall)
        self.face.ask(self, verb, arguments, Reply(self._done, self._refused))

    def _done(self, answer: Json) -> None:
        self.face.replace(self._deed.done(answer))

    def _refused(self, error: ErrorAnswer) -> None:
        self.face.replace(refusal(self.face, error))
