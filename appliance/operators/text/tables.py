"""What answers are written on, and tables of plain text."""

from collections.abc import Sequence
from typing import Final, Protocol

FOLD_INDENT: Final = 4


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


def folded_table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The table in lines of at most `width`, where its cells allow that: columns that have no room
    stand on further lines, a little to the right."""
    if not columns:
        return []
    widths = [
        max(len(column.removeprefix(">")), *(len(row[index]) for row in rows), 0)
        for index, column in enumerate(columns)
    ]
    bands: list[list[int]] = [[]]
    taken = 0
    for index, needed in enumerate(widths):
        if bands[-1] and taken + 2 + needed > width:
            bands.append([])
            taken = FOLD_INDENT - 2
        bands[-1].append(index)
        taken += needed if taken == 0 else 2 + needed
    drawn = [
        plain_table(
            [columns[index] for index in band], [[row[index] for index in band] for row in rows]
        )
        for band in bands
    ]
    return [
        " " * (FOLD_INDENT if number else 0) + band[line]
        for line in range(len(rows) + 1)
        for number, band in enumerate(drawn)
    ]
