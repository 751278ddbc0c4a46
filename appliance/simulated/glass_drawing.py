"""The glass of the front panel, drawn dot by dot as an SVG."""

import re
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

from appliance.glass import COLUMNS, Backlight, Glass
from appliance.simulated.dot_font import dots

PITCH: Final = 6
"""From character to character; a dot and its gap are one unit, and five dots are drawn."""
LINE_PITCH: Final = 9
BORDER: Final = 4
BEZEL: Final = 2
ENLARGED: Final = 5
"""Pixels that a unit is drawn as, unless its page says otherwise."""

_LIT: Final = {
    Backlight.OFF: "#6d7566",
    Backlight.RED: "#ff5a4d",
    Backlight.GREEN: "#7be36a",
    Backlight.YELLOW: "#ffd83d",
    Backlight.BLUE: "#5aa2ff",
    Backlight.VIOLET: "#c987ff",
    Backlight.TEAL: "#4fe0d2",
    Backlight.WHITE: "#f1f4ee",
}


def draw(glass: Glass) -> str:
    """An SVG document: black dots on the colour of the light, in a bezel.

    Its title says the two lines, for whoever cannot see it.
    """
    width = COLUMNS * PITCH - 1 + 2 * BORDER
    height = len(glass.lines) * LINE_PITCH - 1 + 2 * BORDER
    total_width, total_height = width + 2 * BEZEL, height + 2 * BEZEL
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-BEZEL} {-BEZEL} {total_width} {total_height}" \
width="{total_width * ENLARGED}" height="{total_height * ENLARGED}" role="img">
<title>{escape(" / ".join(glass.lines))} ({glass.backlight.value})</title>
<defs>
<pattern id="lit" width="1" height="1" patternUnits="userSpaceOnUse">\
<rect width=".9" height=".9" fill="#10140f"/></pattern>
<pattern id="unlit" width="1" height="1" patternUnits="userSpaceOnUse">\
<rect width=".9" height=".9" fill="#10140f" fill-opacity=".07"/></pattern>
</defs>
<rect x="{-BEZEL}" y="{-BEZEL}" width="{total_width}" height="{total_height}" rx="2" \
fill="#1c1f1d"/>
<rect width="{width}" height="{height}" rx="1" fill="{_LIT[glass.backlight]}"/>
<path fill="url(#unlit)" d="{"".join(_cells(glass))}"/>
<path fill="url(#lit)" d="{"".join(_runs(glass))}"/>
</svg>
"""


def _places(glass: Glass) -> Iterator[tuple[int, int, str]]:
    """The upper left corner of every character, and the character."""
    for line, text in enumerate(glass.lines):
        for column, character in enumerate(text):
            yield BORDER + column * PITCH, BORDER + line * LINE_PITCH, character


def _cells(glass: Glass) -> Iterator[str]:
    for left, top, _ in _places(glass):
        yield f"M{left} {top}h5v8h-5z"


def _runs(glass: Glass) -> Iterator[str]:
    """Dots side by side are one rectangle; the pattern parts them."""
    for left, top, character in _places(glass):
        for row, bits in enumerate(dots(character)):
            for run in re.finditer("1+", f"{bits:05b}"):
                length = run.end() - run.start()
                yield f"M{left + run.start()} {top + row}h{length}v1h-{length}z"
