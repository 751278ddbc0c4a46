"""Floods of events: a failing disk can raise thousands of one kind in a second.

The first `BURST` of a kind, about one volume and one disk, are kept in a
window of `WINDOW_SECONDS`; the others are counted, and at the window's end one
line says how many they were.  While the flood goes on the next windows keep
one each, so that what is kept is current and the log still reaches back days.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

BURST: Final = 30
WINDOW_SECONDS: Final = 60
KINDS_MAXIMUM: Final = 256
"""Windows open at once; of more, volumes and disks are no longer told apart."""


class After(Protocol):
    """Run an action once, so many seconds later."""

    def __call__(self, seconds: float, action: Callable[[], None]) -> object: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """What is counted together."""

    code: str
    volume: str | None
    disk: str | None


@dataclass(slots=True)
class _Window:
    left: int
    more: int = 0
    last: str = ""


class Floods:
    """`tell` is called with a kind, how many of it were not kept, and the last one's text."""

    def __init__(self, after: After, tell: Callable[[Kind, int, str], None]) -> None:
        self._after = after
        self._tell = tell
        self._windows: dict[Kind, _Window] = {}

    def keep(self, kind: Kind, text: str) -> bool:
        """Whether an event that happens now is kept; otherwise it is counted."""
        if kind not in self._windows and len(self._windows) >= KINDS_MAXIMUM:
            kind = Kind(kind.code, None, None)
        window = self._windows.get(kind) or self._open(kind, BURST)
        if window.left:
            window.left -= 1
            return True
        window.more += 1
        window.last = text
        return False

    def close(self) -> None:
        """Tell what was counted until now; nothing is told later."""
        windows, self._windows = self._windows, {}
        for kind, window in windows.items():
            if window.more:
                self._tell(kind, window.more, window.last)

    def _open(self, kind: Kind, left: int) -> _Window:
        window = self._windows[kind] = _Window(left)
        self._after(WINDOW_SECONDS, lambda: self._end(kind, window))
        return window

    def _end(self, kind: Kind, window: _Window) -> None:
        if self._windows.get(kind) is not window:
            return
        del self._windows[kind]
        if window.more:
            self._open(kind, 1)
            self._tell(kind, window.more, window.last)
