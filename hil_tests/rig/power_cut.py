"""What is left on a disk when its power goes.

A disk owes whatever came before its last completed flush, and writes with FUA.  Of the rest it
keeps what it likes: each later write may be whole, missing, or torn between two sectors, and what
came later may be there while something earlier is not.  What is there went there in order, so a
sector never shows something older than its last flush.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from random import Random

from hil_tests.rig.write_log import Entry, Flag


class Manner(Enum):
    """How a disk treats what it does not owe."""

    KEEPS_ALL = "keeps all"
    LOSES_ALL = "loses all"
    KEEPS_SOME = "keeps some"


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that reached the medium."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """What a power cut did to one disk; figures count writes."""

    manner: Manner
    owed: int
    kept: int
    torn: int
    lost: int

    def __str__(self) -> str:
        return f"{self.owed} owed, {self.kept} kept, {self.torn} torn, {self.lost} lost"


def survivors(
    log: Sequence[Entry], sector: int, manner: Manner, random: Random
) -> tuple[list[Piece], Cut]:
    """What reached the medium, in order; `sector` is the unit that is never torn, in bytes."""
    # A flush that carries a write is done before it, and covers what came earlier.
    owed_until = max((index + 1 for index, entry in enumerate(log) if entry.flushes), default=0)
    likely = random.random()
    pieces: list[Piece] = []
    owed = kept = torn = lost = 0
    for index, entry in enumerate(log):
        if not entry.count or entry.flags & Flag.MARK:
            continue
        covered = index < owed_until - 1
        data = entry.data if entry.data is not None else bytes(entry.count * sector)
        here = [Piece(entry.sector * sector, data)]
        if covered or (entry.flags & Flag.FUA):
            owed += 1
        elif manner is Manner.KEEPS_ALL:
            kept += 1
        elif manner is Manner.LOSES_ALL:
            lost, here = lost + 1, []
        else:
            chance = random.random()
            if chance < likely:
                kept += 1
            elif chance < (likely + 1) / 2 or entry.count == 1:
                lost, here = lost + 1, []
            else:
                torn += 1
                here = _torn(here[0], sector, random)
        pieces += here
    return pieces, Cut(manner, owed, kept, torn, lost)


def _torn(piece: Piece, sector: int, random: Random) -> list[Piece]:
    """Some sectors of it, seldom all."""
    return [
        Piece(piece.offset + start, piece.data[start : start + sector])
        for start in range(0, len(piece.data), sector)
        if random.random() < 0.5
    ]


def any_manner(random: Random) -> Manner:
    """Mostly the manner that finds the most."""
    (manner,) = random.choices(list[Manner](Manner), [1, 2, 5])
    return manner


def write(disk: Path, pieces: Iterable[Piece]) -> None:
    """Put the pieces onto a medium, in order."""
    descriptor = os.open(disk, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for piece in pieces:
            os.pwrite(descriptor, piece.data, piece.offset)
    finally:
        os.close(descriptor)
