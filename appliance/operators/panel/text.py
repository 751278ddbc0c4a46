"""Words, names and amounts on sixteen columns.

Whatever is written on the glass goes through `fit` or `marquee`: a name from a
disk's firmware may hold any character, and the part shows few.
"""

import textwrap
from datetime import UTC, datetime
from typing import Final

from appliance.glass import COLUMNS
from appliance.glyphs import GLYPHS

Lines = tuple[str, str]

MARQUEE_REST_SECONDS: Final = 1.5
"""How long a name that is too long stands at either end."""
MARQUEE_STEP_SECONDS: Final = 0.3


def legible(text: str) -> str:
    """Only characters that the glass has."""
    return "".join(
        character if " " <= character <= "~" or character in GLYPHS else "?" for character in text
    )


def fit(text: str, width: int = COLUMNS) -> str:
    """Exactly `width` characters."""
    return legible(text)[:width].ljust(width)


def marquee(text: str, elapsed: float, width: int = COLUMNS) -> str:
    """Exactly `width` characters; a longer text moves through them, `elapsed` seconds on."""
    over = len(text) - width
    if over <= 0:
        return fit(text, width)
    into = max(0.0, elapsed) % marquee_seconds(text, width)
    step = int((into - MARQUEE_REST_SECONDS) / MARQUEE_STEP_SECONDS)
    return fit(text[min(over, max(0, step)) :], width)


def marquee_seconds(text: str, width: int = COLUMNS) -> float:
    """How long it takes until all of the text has been seen; nothing if it fits."""
    over = max(0, len(text) - width)
    return over and 2 * MARQUEE_REST_SECONDS + over * MARQUEE_STEP_SECONDS


def heading(title: str, above: bool = False, below: bool = False) -> str:
    """A first line that says whether there is more above or below."""
    return fit(title, COLUMNS - 3) + " " + ("▲" if above else " ") + ("▼" if below else " ")


def bar(fraction: float, width: int = COLUMNS) -> str:
    """A bar that is full at 1."""
    halves = int(min(1.0, max(0.0, fraction)) * width * 2)
    return ("█" * (halves // 2) + "▌" * (halves % 2)).ljust(width, "░")


def wrap(text: str) -> list[str]:
    """A sentence as lines."""
    return textwrap.wrap(text, COLUMNS) or [""]


def moment(time: str) -> str:
    """An RFC 3339 time, to the second."""
    return clock(datetime.fromisoformat(time).timestamp())


def clock(wall: float) -> str:
    """Seconds since 1970, as the glass shows a moment: `Nov22 11:50:00Z`."""
    return datetime.fromtimestamp(wall, UTC).strftime("%b%d %H:%M:%SZ")
