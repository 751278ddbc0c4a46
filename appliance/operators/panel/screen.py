"""What every screen is: two lines now, and what keys do there.

Screens lie on a stack; Left goes back by one, and after a while without a key
the panel goes back to the idle page by itself, which cancels whatever was
begun and never commits it.  A screen asks the appliance for something by
`Face.ask`; the answer is dropped once the screen has been left.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from appliance.glass import Key
from appliance.operators.answers import AlertAnswer, DiskAnswer, ErrorAnswer, VolumeAnswer
from appliance.operators.panel.gate import Gate
from appliance.operators.panel.text import Lines, fit, heading, marquee, wrap

Json = dict[str, Any]
Arguments = Mapping[str, str | bool]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a screen does with the answer to a request, or with its refusal."""

    answered: Callable[[Json], None]
    refused: Callable[[ErrorAnswer], None]


class Face(Protocol):
    """What screens see of the panel around them.  `now` is monotonic, `wall` since 1970, both in
    seconds; `seen` is the volume that the idle page showed last, `image_alerts` are the
    firmware image's."""

    now: float
    wall: float
    volumes: Sequence[VolumeAnswer]
    disks: Sequence[DiskAnswer]
    image_alerts: Sequence[AlertAnswer]
    seen: str | None
    gate: Gate

    def open(self, screen: "Screen") -> None:
        """Lay a screen on the stack."""

    def replace(self, screen: "Screen") -> None:
        """Leave the screen on top for this one."""

    def back(self) -> None:
        """Leave the screen on top."""

    def home(self) -> None:
        """Leave everything for the idle page."""

    def ask(self, screen: "Screen", verb: str, arguments: Arguments, reply: Reply) -> None:
        """Request a verb; `reply` hears of it while `screen` is on the stack."""

    def tell(self, verb: str, arguments: Arguments) -> None:
        """Request a verb whose answer nobody waits for."""

    def check_pin(self, screen: "Screen", pin: str, reply: Callable[[bool], None]) -> None:
        """Have a PIN compared; as with `ask`."""


class Screen:
    """`since` is when what it shows began to stand there: names start to move from then on."""

    def __init__(self, face: Face) -> None:
        self.face = face
        self.since = face.now

    def lines(self) -> Lines:
        """What is shown."""
        raise NotImplementedError

    def press(self, key: Key) -> None:
        """A key went down, or repeats."""
        if key is Key.LEFT:
            self.face.back()

    def release(self) -> None:
        """A key went up."""

    def tick(self) -> None:
        """`face.now` is later now."""

    def leave(self) -> None:
        """It goes from the stack for good."""

    @property
    def elapsed(self) -> float:
        return self.face.now - self.since

    def stand(self) -> None:
        """What is shown begins to stand there now."""
        self.since = self.face.now


@dataclass(frozen=True, slots=True)
class Choice:
    """An entry of a list.  `identity` is what it stands for, so that it is known again when the
    list has changed, though others have its label; it is the label where labels differ."""

    label: str
    act: Callable[[], None]
    identity: Hashable = None

    @property
    def known_by(self) -> Hashable:
        return self.label if self.identity is None else self.identity


class Choices(Screen):
    """A list to choose from, one entry at a time.

    The entries may change while it is shown: the entry under the eye stays
    there as long as it exists.  Of equal labels all but the first are numbered.
    """

    def __init__(
        self,
        face: Face,
        title: str,
        entries: Callable[[], Sequence[Choice]],
        none: str,
        first: str | None = None,
    ) -> None:
        super().__init__(face)
        self._title, self._entries, self._none = title, entries, none
        self._eye: tuple[Hashable, int] = (first, 0)
        """What the eye is on: its identity, and how many of the same stand before it."""
        self._index = 0

    def _find(self) -> tuple[Sequence[Choice], int]:
        entries = self._entries()
        places = _counted([entry.known_by for entry in entries])
        if self._eye in places:
            self._index = places.index(self._eye)
        self._index = max(0, min(self._index, len(entries) - 1))
        if places:
            self._eye = places[self._index]
        return entries, self._index

    def lines(self) -> Lines:
        entries, index = self._find()
        if not entries:
            return heading(self._title), fit(self._none)
        label, before = _counted([entry.label for entry in entries])[index]
        told = f"({before + 1}) {label}" if before else str(label)
        title = heading(self._title, index > 0, index + 1 < len(entries))
        return title, f"▶{marquee(told, self.elapsed, 14)}↵"

    def press(self, key: Key) -> None:
        entries, index = self._find()
        if key is Key.LEFT or not entries:
            self.face.back()
        elif key is Key.SELECT:
            entries[index].act()
        elif key in (Key.UP, Key.DOWN):
            index += 1 if key is Key.DOWN else -1
            index = min(len(entries) - 1, max(0, index))
            self._eye = _counted([entry.known_by for entry in entries])[index]
            self.stand()


class Pages(Screen):
    """Lines to read, one at a time below a title; Select and Left leave it.

    With `turning` seconds they turn by themselves, until somebody turns them.
    """

    def __init__(
        self,
        face: Face,
        title: str,
        pages: Callable[[], Sequence[str]],
        turning: float = 0.0,
    ) -> None:
        super().__init__(face)
        self._title, self._pages, self._turning = title, pages, turning
        self._index = 0

    def lines(self) -> Lines:
        pages = self._pages() or [""]
        index = self._index = min(self._index, len(pages) - 1)
        return (
            heading(self._title, index > 0, index + 1 < len(pages)),
            marquee(pages[index], self.elapsed),
        )

    def press(self, key: Key) -> None:
        if key in (Key.UP, Key.DOWN):
            self._turning = 0.0
            self._turn(1 if key is Key.DOWN else -1)
        elif key is not Key.RIGHT:
            self.face.back()

    def tick(self) -> None:
        if self._turning and self.elapsed >= self._turning:
            if self._index + 1 >= len(self._pages()):
                self._index = -1
            self._turn(1)

    def _turn(self, by: int) -> None:
        self._index = max(0, min(len(self._pages()) - 1, self._index + by))
        self.stand()


def _counted(things: Sequence[Hashable]) -> list[tuple[Hashable, int]]:
    """Each with how many equal ones stand before it."""
    return [(thing, things[:place].count(thing)) for place, thing in enumerate(things)]


READING_SECONDS = 1.5
"""A line of a sentence stands so long."""


def sentence(face: Face, title: str, text: str) -> Pages:
    """Something to read that turns by itself."""
    lines = wrap(text)
    return Pages(face, title, lambda: lines, READING_SECONDS)


def refusal(face: Face, error: ErrorAnswer) -> Pages:
    """An error in words, and what to do."""
    return sentence(face, error.code, f"{error.sentence}. To do: {error.remedy}.")
