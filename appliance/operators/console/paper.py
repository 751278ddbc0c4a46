"""What answers are written on for the console: plain ASCII, 79 columns, no styles."""

import re
import textwrap
from collections.abc import Sequence
from typing import Final

from appliance.operators.text.tables import folded_table
from appliance.operators.verbs import VERBS
from appliance.wording import printable

WIDTH: Final = 79
"""The eightieth column stays free: some terminals go to the next line behind it."""

_PLAIN: Final = str.maketrans({"…": "...", "–": "-", "×": "x", "’": "'", "→": "->"})
_TYPED_HERE: Final = re.compile(
    r"\bcdpctl (?=(?:"
    + "|".join(sorted({re.escape(v.name.split()[0]) for v in VERBS.values() if not v.offline}))
    + r")\b)"
)
"""Words of `cdpctl` that are typed without its name here."""


class Paper:
    """A screen of `appliance.operators.text`; what was written stands in `lines`."""

    width = WIDTH
    ascii_only = True

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str = "", style: str = "") -> None:
        del style
        self.lines += wrapped(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        cells = [[plain(cell) for cell in row] for row in rows]
        for text in folded_table(columns, cells, WIDTH):
            self.lines += wrapped(text)


def plain(text: str) -> str:
    """`text` in printable ASCII, and as one says it here."""
    text = _TYPED_HERE.sub("", text).replace("cdpctl --help", "help")
    return printable(text.translate(_PLAIN)).encode("ascii", "replace").decode()


def wrapped(text: str) -> list[str]:
    """`text` in lines that fit, those behind the first a little to the right."""
    text = plain(text)
    if len(text) <= WIDTH:
        return [text.rstrip()]
    indent = " " * min(len(text) - len(text.lstrip()) + 2, WIDTH // 2)
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [""]
