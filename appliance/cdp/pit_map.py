"""PIT maps: where each sector of the primary lies on the secondary, for one point in time.

The newest entry at or before the point wins; where there is none, the base
image answers.  A PIT map is immutable: views, restores and synchronisations
read through it while the chain grows.
"""

from typing import NamedTuple

import numpy as np

from appliance.cdp.delta_map import spans
from appliance.cdp.extents import Extents, Painting, paint
from appliance.cdp.format import ENTRY_DTYPE, ZEROS, Rows


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


class PitMap:
    """The newest version of everything up to `write`."""

    def __init__(self, write: int, entries: list[Rows]) -> None:
        """`entries` in the order of their writes, none behind `write`."""
        self.write = write
        rows = np.concatenate(entries) if entries else np.empty(0, ENTRY_DTYPE)
        painting = paint(*spans(rows))
        # Keep only the entries that are still seen.
        seen = np.zeros(len(rows), bool)
        seen[painting.rows] = True
        renumbered = np.cumsum(seen) - 1
        self._rows: Rows = rows[seen]
        self._painting = Painting(painting.starts, painting.ends, renumbered[painting.rows])

    @property
    def rows(self) -> Rows:
        """The entries that are seen anywhere, in the order of their writes."""
        return self._rows

    @property
    def extents(self) -> Extents:
        """What was changed since the base image; neighbours are not joined."""
        return Extents(self._painting.starts, self._painting.ends)

    def pieces(self, start: int, end: int) -> list[Piece]:
        """The range, cut where the answer changes; in order and without holes."""
        starts, ends, rows = self._painting
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(starts, end, side="left"))
        found: list[Piece] = []
        at = start
        for piece_start, piece_end, row in zip(
            starts[first:last].tolist(),
            ends[first:last].tolist(),
            rows[first:last].tolist(),
            strict=True,
        ):
            low, high = max(piece_start, start), min(piece_end, end)
            if low > at:
                found.append(Piece(at, low, None))
            entry = self._rows[row]
            found.append(
                Piece(
                    low,
                    high,
                    EntryAt(
                        int(entry["start"]),
                        int(entry["location"]),
                        int(entry["write"]),
                        int(entry["length"]),
                        int(entry["crc"]),
                    ),
                )
            )
            at = high
        if at < end:
            found.append(Piece(at, end, None))
        return found
