"""Where `cdpctl` writes for people: rich on a terminal, plain text elsewhere."""

import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appliance.operators.text.tables import plain_table
from appliance.wording import printable

PLAIN_WIDTH = 80


class Terminal:
    """The `Screen` on a stream.  What is written is never taken for markup or control."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._stream = stream

    @property
    def is_terminal(self) -> bool:
        return self._console.is_terminal

    @property
    def width(self) -> int:
        """Columns."""
        return shutil.get_terminal_size().columns if self.is_terminal else PLAIN_WIDTH

    @property
    def ascii_only(self) -> bool:
        """The stream cannot be trusted with more than ASCII."""
        return not self._console.encoding.startswith("utf")

    def line(self, text: str = "", style: str = "") -> None:
        if self.ascii_only:
            text = text.encode("ascii", "replace").decode()
        self._console.print(Text(printable(text), style=style), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns whose name begins with `>` are numbers, and go to the right."""
        cells = [[printable(cell) for cell in row] for row in rows]
        if not self.is_terminal:
            for text in plain_table(columns, cells):
                self.line(text)
            return
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(
                column.removeprefix(">"), justify="right" if column.startswith(">") else "left"
            )
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print(table)


def output() -> Terminal:
    return Terminal(sys.stdout)


def errors() -> Terminal:
    return Terminal(sys.stderr)
