"""Suspects: which points may not match what the host had, and for which blocks.

A block that a scan finds different, although nothing explains it, was changed
behind our back; when is unknown.  So every point that answers with this block
is suspect: from the map that wrote it last until it is written again.

A suspicion is open until then.  Rows are sectors of the primary, with the
writes from and to which points are suspect, both included, and the newest
write when they were seen.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from appliance.cdp.extents import EMPTY, Extents, extents, intersect, subtract, widen
from appliance.cdp.format import SUSPECT_DTYPE, Rows

OPEN: Final = (1 << 64) - 1
"""As the write to which points are suspect: to the newest."""
_COARSEST: Final = 1 << 40
"""Sectors."""


class Suspicion(NamedTuple):
    """Blocks that are suspect for the same points."""

    blocks: Extents
    from_write: int
    to_write: int
    seen_write: int

    @property
    def rows(self) -> Rows:
        rows = np.zeros(len(self.blocks.starts), SUSPECT_DTYPE)
        rows["start"] = self.blocks.starts
        rows["length"] = self.blocks.ends - self.blocks.starts
        rows["from_write"], rows["to_write"] = self.from_write, self.to_write
        rows["seen_write"] = self.seen_write
        return rows


class Suspects:
    """All suspicions of a chain; immutable."""

    def __init__(self, rows: Rows | None = None) -> None:
        self.rows: Rows = np.empty(0, SUSPECT_DTYPE) if rows is None else rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Suspects) and np.array_equal(self.rows, other.rows)

    __hash__ = None  # type: ignore[assignment]  # rows are no key

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def open(self) -> Extents:
        """The blocks that are suspect for the newest point."""
        rows = self.rows[self.rows["to_write"] == OPEN]
        if not len(rows):
            return EMPTY
        starts = rows["start"].astype(np.int64)
        return extents(starts, starts + rows["length"].astype(np.int64))

    @property
    def open_seen(self) -> int:
        """The newest write when any of those was seen; 0 without any."""
        return int(self.rows["seen_write"][self.rows["to_write"] == OPEN].max(initial=0))

    def concern(self, first_write: int, last_write: int) -> bool:
        """Is any point from one write to another suspect?"""
        ends = self.rows["to_write"]
        behind = (ends == OPEN) | (ends >= first_write)
        return bool((behind & (self.rows["from_write"] <= last_write)).any())

    def span(self) -> tuple[int, int]:
        """The first and the last suspect write, OPEN if that is the newest; not of none."""
        ends = self.rows["to_write"]
        last = OPEN if (ends == OPEN).any() else int(ends.max())
        return int(self.rows["from_write"].min()), last

    def suspicions(self) -> Iterator[Suspicion]:
        """The rows by what they say of points."""
        about = ["from_write", "to_write", "seen_write"]
        for begin, end, seen in np.unique(self.rows[about]).tolist():
            same = (
                (self.rows["from_write"] == begin)
                & (self.rows["to_write"] == end)
                & (self.rows["seen_write"] == seen)
            )
            starts = self.rows["start"][same].astype(np.int64)
            lengths = self.rows["length"][same].astype(np.int64)
            yield Suspicion(extents(starts, starts + lengths), begin, end, seen)

    def plus(self, *more: Suspicion) -> "Suspects":
        return Suspects(np.concatenate([self.rows, *(suspicion.rows for suspicion in more)]))

    def closed(self, to_write: int, but: Extents) -> "Suspects":
        """The blocks were written again: what was open ends with that point, but for some."""
        closed = Suspects(self.rows[self.rows["to_write"] != OPEN])
        for old in self.suspicions():
            if old.to_write == OPEN:
                again = old._replace(blocks=subtract(old.blocks, but), to_write=to_write)
                closed = closed.plus(again, old._replace(blocks=intersect(old.blocks, but)))
        return closed

    def above(self, floor: int) -> "Suspects":
        """Without what concerns only points below the floor."""
        ends = self.rows["to_write"]
        return Suspects(self.rows[(ends == OPEN) | (ends >= floor)])

    def limited(self, count: int) -> "Suspects":
        """At most so many rows: neighbouring blocks share one, and what lies between is suspect."""
        unit, found = 8, self
        while len(found) > count and unit < _COARSEST:
            unit *= 4
            coarse = [s._replace(blocks=widen(s.blocks, unit)) for s in self.suspicions()]
            found = Suspects().plus(*coarse)
        if len(found) <= count:
            return found
        begin, end = self.span()
        everything = Extents(
            np.array([self.rows["start"].min()], np.int64),
            np.array([(self.rows["start"] + self.rows["length"]).max()], np.int64),
        )
        # Seen last: what was written before that does not end it.
        return Suspects().plus(
            Suspicion(everything, begin, end, int(self.rows["seen_write"].max()))
        )
