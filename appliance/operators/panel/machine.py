"""The panel as a pure machine: keys, time and answers go in, a glass and requests come out.

No clock, socket or bus is in here.  Time comes by `tick`, which is called
often and before anything else that happened then; requests are data, taken by
`wishes`, done by somebody else one after the other over one connection, and
their answers come back by number.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from appliance.events import KINDS
from appliance.glass import Backlight, Glass, Key
from appliance.operators.answers import (
    AlertAnswer,
    DiskAnswer,
    DisksAnswer,
    ErrorAnswer,
    OperatorAnswer,
    StatusAnswer,
    VolumeAnswer,
)
from appliance.operators.panel.gate import Gate, Tries
from appliance.operators.panel.idle import IdlePage, Page, alert_pages, every_alert, pages_of
from appliance.operators.panel.menu import open_menu
from appliance.operators.panel.screen import Arguments, Json, Reply, Screen
from appliance.operators.panel.text import Lines, fit

IDLE_SECONDS: Final = 60.0
"""So long after the last key the panel is nobody's."""
STALE_SECONDS: Final = 5.0
"""A service that has not said for so long how things are is away: it may hang."""
REPEAT_AFTER_SECONDS: Final = 0.6
REPEAT_SECONDS: Final = 0.15
REPEATED: Final = frozenset({Key.UP, Key.DOWN})

STATE_COLOURS: Final = {
    "offline": Backlight.RED,
    "failover": Backlight.VIOLET,
    "restoring": Backlight.BLUE,
    "recovering": Backlight.YELLOW,
    "tracking": Backlight.YELLOW,
    "syncing": Backlight.YELLOW,
    "protected": Backlight.GREEN,
}
"""Worst first.  Each state is on the glass as a word, too."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A verb to be requested."""

    number: int
    verb: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class CheckPin:
    """A PIN to be compared with the one in the settings."""

    number: int
    pin: str

    def __repr__(self) -> str:
        return f"CheckPin({self.number})"


Wish = Ask | CheckPin


class PanelMachine:
    """Implements `screen.Face`.  It starts without knowing anything of the service."""

    def __init__(self, tries: Tries | None = None) -> None:
        self.now = 0.0
        self.wall = 0.0
        self.volumes: Sequence[VolumeAnswer] = ()
        self.disks: Sequence[DiskAnswer] = ()
        self.image_alerts: Sequence[AlertAnswer] = ()
        self.seen: str | None = None
        self.gate = Gate(tries)
        self._operator: OperatorAnswer | None = None
        self._stuck: frozenset[Key] = frozenset()
        self._heard = False
        self._heard_at = 0.0
        self._away = False
        self._wishes: list[Wish] = []
        self._numbers = count(1)
        self._waiting: dict[int, tuple[Screen, Reply | Callable[[bool], None]]] = {}
        self._idle = IdlePage(self, self._open_menu)
        self._screens: list[Screen] = [self._idle]
        self._last_key = 0.0
        self._down: set[Key] = set()
        self._repeating: tuple[Key, Screen, float] | None = None

    # What comes in.

    def tick(self, now: float, wall: float) -> None:
        """It is `now` (monotonic) and `wall` (since 1970), in seconds."""
        self.now, self.wall = now, wall
        if self._heard and now - self._heard_at > STALE_SECONDS:
            self.lose_service()
        self._top.tick()
        if self._repeating is not None:
            key, screen, due = self._repeating
            if screen is not self._top:
                self._repeating = None
            elif now >= due:
                self._repeating = key, screen, now + REPEAT_SECONDS
                screen.press(key)
        if self._down:
            self._last_key = now
        if self._top is not self._idle and now - self._last_key >= IDLE_SECONDS:
            self.home()

    def press(self, key: Key) -> None:
        """A key went down."""
        self._last_key = self.now
        self._down.add(key)
        self._repeating = None
        if self._away or not self._heard:
            return
        screen = self._top
        screen.press(key)
        if key in REPEATED and screen is self._top:
            self._repeating = key, screen, self.now + REPEAT_AFTER_SECONDS

    def release(self, key: Key) -> None:
        """A key went up."""
        self._last_key = self.now
        self._down.discard(key)
        if self._repeating is not None and self._repeating[0] is key:
            self._repeating = None
        self._top.release()

    def stick(self, keys: frozenset[Key]) -> None:
        """These keys are down for good, and do nothing."""
        if keys != self._stuck:
            self._stuck = keys
            self._renew()

    def hear(self, status: StatusAnswer, disks: DisksAnswer) -> None:
        """How the appliance is now."""
        news = self._news(disks.disks) if self._heard and not self._away else None
        self.volumes, self.disks = status.volumes, disks.disks
        self.image_alerts = status.image.alerts if status.image is not None else ()
        self._operator = status.operator
        self._heard, self._away = True, False
        self._heard_at = self.now
        self._renew()
        if news is not None:
            self._idle.notice(*news)

    def lose_service(self) -> None:
        """The service does not answer: whatever was begun here is cancelled."""
        if self._away:
            return
        self._away = True
        self._waiting.clear()
        self._wishes = [wish for wish in self._wishes if isinstance(wish, CheckPin)]
        self.home()

    def answered(self, number: int, answer: Json) -> None:
        """The answer to an `Ask`."""
        screen, reply = self._waiting.pop(number, (None, None))
        if isinstance(reply, Reply) and screen in self._screens:
            self._last_key = self.now
            reply.answered(answer)

    def refused(self, number: int, error: ErrorAnswer) -> None:
        """An `Ask` was answered by an error."""
        screen, reply = self._waiting.pop(number, (None, None))
        if isinstance(reply, Reply) and screen in self._screens:
            self._last_key = self.now
            reply.refused(error)

    def checked(self, number: int, right: bool) -> None:
        """What came of a `CheckPin`: it counts, whether or not somebody still waits for it."""
        self.gate.tried(right)
        screen, reply = self._waiting.pop(number, (None, None))
        if reply is not None and not isinstance(reply, Reply) and screen in self._screens:
            self._last_key = self.now
            reply(right)

    # What comes out.

    def glass(self) -> Glass:
        """What is shown now."""
        return Glass(self._lines(), self._backlight())

    def wishes(self) -> list[Wish]:
        """The requests since the last call, to be done in this order."""
        wishes, self._wishes = self._wishes, []
        return wishes

    @property
    def busy(self) -> bool:
        """A screen on the glass waits for an answer."""
        return any(screen is self._top for screen, _ in self._waiting.values())

    # What screens ask for.

    def open(self, screen: Screen) -> None:
        self._screens.append(screen)

    def replace(self, screen: Screen) -> None:
        self.back()
        self.open(screen)

    def back(self) -> None:
        if len(self._screens) > 1:
            self._screens.pop().leave()
        if len(self._screens) == 1:
            self._idle.stand()
            self.gate.shut()

    def home(self) -> None:
        while len(self._screens) > 1:
            self.back()

    def ask(self, screen: Screen, verb: str, arguments: Arguments, reply: Reply) -> None:
        number = next(self._numbers)
        self._waiting[number] = screen, reply
        self._wishes.append(Ask(number, verb, arguments))

    def tell(self, verb: str, arguments: Arguments) -> None:
        self._wishes.append(Ask(next(self._numbers), verb, arguments))

    def check_pin(self, screen: Screen, pin: str, reply: Callable[[bool], None]) -> None:
        number = next(self._numbers)
        self._waiting[number] = screen, reply
        self._wishes.append(CheckPin(number, pin))

    # Inside.

    @property
    def _top(self) -> Screen:
        return self._screens[-1]

    def _open_menu(self) -> None:
        open_menu(self)

    def _lines(self) -> Lines:
        if self._away:
            return fit("Service away"), fit("trying again...")
        return self._top.lines()

    def _backlight(self) -> Backlight:
        if self._away:
            return Backlight.RED
        if not self._heard or not self.volumes:
            return Backlight.WHITE
        severities = {
            KINDS[alert.code].severity if alert.code in KINDS else "error"
            for _, alert in every_alert(self)
        }
        states = {volume.state for volume in self.volumes}
        if "error" in severities or not states <= STATE_COLOURS.keys():
            return Backlight.RED
        colour = next(colour for state, colour in STATE_COLOURS.items() if state in states)
        return Backlight.YELLOW if colour is Backlight.GREEN and severities else colour

    def _renew(self) -> None:
        """The idle page tells of what is known now."""
        pages = [page for volume in self.volumes for page in pages_of(volume)]
        pages += alert_pages(self)
        if not self.volumes and self._heard:
            pages.append(Page(None, "No volumes yet", "↵menu"))
        if self._stuck:
            names = " ".join(sorted(key.value for key in self._stuck))
            pages.append(Page(None, f"{names}: stuck key, ignored", title="! keys"))
        if self._operator is not None:
            pages.append(Page(None, self._operator.actor, title="Being changed by"))
        if self._heard:
            pages.append(Page(None, "Press Select", "for the menu"))
        self._idle.renew(pages or [Page(None, "Ebbtide", "starting...")])

    def _news(self, disks: Sequence[DiskAnswer]) -> tuple[str, str] | None:
        """What has become of disks since the last time, as two lines."""
        known, there = Counter(disk.id for disk in self.disks), Counter(disk.id for disk in disks)
        if gone := sorted(known - there):
            return gone[0], "disk is gone"
        if came := sorted(there - known):
            return came[0], "disk is here"
        return None
