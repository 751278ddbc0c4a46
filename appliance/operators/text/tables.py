"""What answers are written on, and tables of plain text."""

from collections.abc import Sequence
from typing import Protocol


class Screen(Protocol):
    """Lines and tables for people.  What is written is never taken for markup or control."""

    @property
    def width(self) -> int:
        """Columns."""
        ...

    @property
    def ascii_only(self) -> bool:
        """It cannot be trusted with more than ASCII."""
        ...

    def line(self, text: str = "", style: str = "") -> None:
        """`style` is a rich style, for who can show it."""
        ...

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns whose name begins with `>` are numbers, and go to the right."""
        ...


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The table as lines, two spaces between columns."""
    table = [[column.removeprefix(">").upper() for column in columns], *map(list, rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if column.startswith(">") else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in table
    ]
