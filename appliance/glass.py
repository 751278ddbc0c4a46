"""What a person sees and presses on the front panel: two lines of sixteen characters before a
coloured light, and five keys.

The faces, the driver of the real part and the simulated one speak of the panel in these words.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

COLUMNS: Final = 16


class Key(Enum):
    """The buttons."""

    SELECT = "select"
    RIGHT = "right"
    DOWN = "down"
    UP = "up"
    LEFT = "left"


class Backlight(Enum):
    """The colours that a red, a green and a blue lamp make, each lit or dark."""

    OFF = "off"
    RED = "red"
    GREEN = "green"
    YELLOW = "yellow"
    BLUE = "blue"
    VIOLET = "violet"
    TEAL = "teal"
    WHITE = "white"

    @property
    def lamps(self) -> tuple[bool, bool, bool]:
        """Which of red, green and blue are lit."""
        return _LAMPS[self]


_LAMPS: Final = {
    Backlight.OFF: (False, False, False),
    Backlight.RED: (True, False, False),
    Backlight.GREEN: (False, True, False),
    Backlight.YELLOW: (True, True, False),
    Backlight.BLUE: (False, False, True),
    Backlight.VIOLET: (True, False, True),
    Backlight.TEAL: (False, True, True),
    Backlight.WHITE: (True, True, True),
}


@dataclass(frozen=True, slots=True)
class Glass:
    """Two lines of exactly sixteen characters, and the light behind them.

    Beside printable ASCII a line may hold the characters of `GLYPHS`, at most eight different
    ones at a time; what the part cannot show, it shows as `?`.
    """

    lines: tuple[str, str]
    backlight: Backlight

    def __post_init__(self) -> None:
        if any(len(line) != COLUMNS for line in self.lines):
            raise ValueError(f"not lines of {COLUMNS} characters: {self.lines}")


DARK: Final = Glass((" " * COLUMNS, " " * COLUMNS), Backlight.OFF)
"""A panel that shows nothing."""


class Panel(Protocol):
    """A front panel, real or played.  Both methods raise OSError while it cannot be reached."""

    def show(self, glass: Glass) -> None:
        """Make it look so."""

    def keys(self) -> frozenset[Key]:
        """The keys that are down now; contacts bounce."""
