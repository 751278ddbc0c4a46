"""PIT maps: where each sector of the primary lies on the secondary, for one point in time.

The newest entry at or before the point wins; where there is none, the base
image answers.  A PIT map is immutable: views, restores and synchronisations
read through it while the chain grows.
"""

from bisect import bisect_right
from typing import NamedTuple

import numpy as np

from appliance.cdp.extents import Extents, Sectors, extents, paint
from appliance.cdp.format import ENTRY_DTYPE, LOST, ZEROS, Rows


class Piece(NamedTuple):
    """Sectors `start` to `end` of the primary, and the entry that holds them.

    `entry` is None where the base image answers.
    """

    start: int
    end: int
    entry: "EntryAt | None"


class EntryAt(NamedTuple):
    """A whole entry: its CRC covers all of it, however little of it is seen."""

    start: int
    location: int
    write: int
    length: int
    crc: int

    @property
    def is_zeros(self) -> bool:
        return self.location == ZEROS

    @property
    def is_lost(self) -> bool:
        return self.location == LOST


class PitMap:
    """The newest version of everything up to `write`."""

    def __init__(self, write: int, entries: list[Rows]) -> None:
        """`entries` in the order of their writes, none behind `write`."""
        self.write = write
        starts = _column("start", entries)
        ends = _column("length", entries)
        ends += starts
        painting = paint(starts, ends)
        del starts, ends
        # Keep only the entries that are still seen, part by part: of tens of
        # millions of entries there must not be one copy more than needed.
        seen = np.zeros(sum(map(len, entries)), bool)
        seen[painting.rows] = True
        numbers = np.cumsum(seen, dtype=np.int32)
        numbers -= 1
        painting.rows[:] = numbers[painting.rows]
        del numbers
        self._painting = painting
        self._parts: list[Rows] = []
        self._firsts: list[int] = []
        """The number of the first entry of each part."""
        at = kept = 0
        for part in entries:
            left = part[seen[at : at + len(part)]]
            at += len(part)
            if len(left):
                self._parts.append(left)
                self._firsts.append(kept)
                kept += len(left)

    def __str__(self) -> str:
        changed = extents(*self.extents)
        return f"PIT map of write {self.write}: {changed} above the base"

    @property
    def rows(self) -> Rows:
        """A copy of the entries that are seen anywhere, in the order of their writes."""
        return np.concatenate([np.empty(0, ENTRY_DTYPE), *self._parts])

    def _entry(self, number: int) -> EntryAt:
        part = bisect_right(self._firsts, number) - 1
        return EntryAt(*self._parts[part][number - self._firsts[part]].item())

    @property
    def extents(self) -> Extents:
        """What was changed since the base image; neighbours are not joined."""
        return Extents(self._painting.starts, self._painting.ends)

    def touches(self, start: int, end: int) -> bool:
        """Is any sector of the range above the base image?"""
        starts, ends, _ = self._painting
        return bool(ends.searchsorted(start, side="right") < starts.searchsorted(end))

    def pieces(self, start: int, end: int) -> list[Piece]:
        """The range, cut where the answer changes; in order and without holes."""
        return self.pieces_of(Extents(np.array([start]), np.array([end])))

    def pieces_of(self, wanted: Extents) -> list[Piece]:
        """The extents, one behind the other, each cut where the answer changes."""
        starts, ends, numbers = self._painting
        found: list[Piece] = []
        for start, end, first, last in zip(
            wanted.starts.tolist(),
            wanted.ends.tolist(),
            np.searchsorted(ends, wanted.starts, side="right").tolist(),
            np.searchsorted(starts, wanted.ends, side="left").tolist(),
            strict=True,
        ):
            at = start
            for piece_start, piece_end, number in zip(
                starts[first:last].tolist(),
                ends[first:last].tolist(),
                numbers[first:last].tolist(),
                strict=True,
            ):
                low, high = max(piece_start, start), min(piece_end, end)
                if low > at:
                    found.append(Piece(at, low, None))
                found.append(Piece(low, high, self._entry(number)))
                at = high
            if at < end:
                found.append(Piece(at, end, None))
        return found


def _column(name: str, entries: list[Rows]) -> Sectors:
    """One field of all entries."""
    column = np.empty(sum(map(len, entries)), np.int64)
    at = 0
    for part in entries:
        column[at : at + len(part)] = part[name]
        at += len(part)
    return column
