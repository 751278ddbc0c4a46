"""Sets of extents, and their algebra, exact to the sector and without loops.

A set is a pair of equally long int64 arrays, starts and ends (exclusive), in
sectors, sorted and disjoint.  `paint` is the heart of every PIT map: it lays
extents over each other in order and tells which one is seen where.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from appliance.cdp.interfaces import SECTOR

Sectors = npt.NDArray[np.int64]

SHOWN: Final = 12
"""Extents of a set that are printed."""


class Extents(NamedTuple):
    """Sorted, disjoint, non-empty extents."""

    starts: Sectors
    ends: Sectors

    def __bool__(self) -> bool:
        return bool(len(self.starts))

    def __str__(self) -> str:
        """`16+8 40+16 (2 extents, 24 sectors)`: start and length, of the first ones."""
        shown = [
            f"{a}+{b - a}" for a, b in zip(*(side[:SHOWN].tolist() for side in self), strict=True)
        ]
        more = ["..."] if len(self.starts) > SHOWN else []
        return " ".join([*shown, *more, f"({len(self.starts)} extents, {self.total} sectors)"])

    @property
    def total(self) -> int:
        """Sectors covered."""
        return int((self.ends - self.starts).sum())


class Painting(NamedTuple):
    """Sorted, disjoint pieces, each with the row of the extent that is seen there."""

    starts: Sectors
    ends: Sectors
    rows: Sectors


WINDOW: Final = 128 << 10
"""Extents that are painted at once."""
SHORT_RUN: Final = 32
"""An extent that others cut into at most so many intervals is painted one by one."""
_FAR: Final = int(np.iinfo(np.int64).max)

EMPTY = Extents(np.empty(0, np.int64), np.empty(0, np.int64))


def extents(starts: npt.ArrayLike, ends: npt.ArrayLike) -> Extents:
    """The union of any extents, in any order, overlapping or not."""
    first = np.asarray(starts, np.int64)
    last = np.asarray(ends, np.int64)
    kept = last > first
    return _sweep(first[kept], last[kept], *EMPTY, lambda a, b: a > 0)


def one(start: int, end: int) -> Extents:
    """A single extent, of more than nothing."""
    return Extents(np.array([start], np.int64), np.array([end], np.int64))


def union(a: Extents, b: Extents) -> Extents:
    """What lies in `a` or in `b`."""
    return _sweep(*a, *b, lambda in_a, in_b: (in_a > 0) | (in_b > 0))


def union_all(parts: Iterable[Extents]) -> Extents:
    """What lies in any of them."""
    some = [part for part in parts if part]
    if not some:
        return EMPTY
    return extents(*(np.concatenate(side) for side in zip(*some, strict=True)))


def subtract(a: Extents, b: Extents) -> Extents:
    """What lies in `a` and not in `b`."""
    return _sweep(*a, *b, lambda in_a, in_b: (in_a > 0) & (in_b == 0))


def intersect(a: Extents, b: Extents) -> Extents:
    """What lies in both."""
    return _sweep(*a, *b, lambda in_a, in_b: (in_a > 0) & (in_b > 0))


def widen(a: Extents, unit: int) -> Extents:
    """Each extent grown to whole multiples of `unit` sectors."""
    return extents(a.starts // unit * unit, -(-a.ends // unit) * unit)


def byte_ranges(a: Extents, base: int = 0) -> list[tuple[int, int]]:
    """Offset and length in bytes of each extent, `base` bytes further on."""
    starts, lengths = base + a.starts * SECTOR, (a.ends - a.starts) * SECTOR
    return list(zip(starts.tolist(), lengths.tolist(), strict=True))


def in_steps(a: Extents, size: int) -> Iterator[Extents]:
    """The extents in turns of about `size` sectors; those longer than that are cut."""
    counts = -(-(a.ends - a.starts) // size)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(a.starts, counts) + within * size
    ends = np.minimum(starts + size, np.repeat(a.ends, counts))
    turn = (np.cumsum(ends - starts) - 1) // size
    cuts = np.flatnonzero(turn[1:] != turn[:-1]) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(starts)]):
        if last > first:
            yield Extents(starts[first:last], ends[first:last])


def by_window(a: Extents, size: int) -> Iterator[Extents]:
    """The extents cut at multiples of `size` sectors, in turns of one such window each."""
    first = a.starts // size
    counts = (a.ends - 1) // size - first + 1
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    window = np.repeat(first, counts) + within
    starts = np.maximum(np.repeat(a.starts, counts), window * size)
    ends = np.minimum(np.repeat(a.ends, counts), (window + 1) * size)
    cuts = np.flatnonzero(window[1:] != window[:-1]) + 1
    for begin, behind in pairwise([0, *cuts.tolist(), len(window)]):
        if behind > begin:
            yield Extents(starts[begin:behind], ends[begin:behind])


def _sweep(
    a_starts: Sectors, a_ends: Sectors, b_starts: Sectors, b_ends: Sectors, wanted: object
) -> Extents:
    """Walk over all boundaries at once: how often is each interval covered by a, and by b?"""
    bounds = np.concatenate([a_starts, a_ends, b_starts, b_ends])
    if not len(bounds):
        return EMPTY
    step_a = np.zeros(len(bounds), np.int64)
    step_b = np.zeros(len(bounds), np.int64)
    of_a = len(a_starts)
    step_a[:of_a], step_a[of_a : 2 * of_a] = 1, -1
    step_b[2 * of_a : 2 * of_a + len(b_starts)], step_b[2 * of_a + len(b_starts) :] = 1, -1
    order = np.argsort(bounds, kind="stable")
    bounds = bounds[order]
    inside = wanted(np.cumsum(step_a[order]), np.cumsum(step_b[order]))  # type: ignore[operator]
    # The count that matters for an interval is the one behind the last of equal bounds.
    last = np.empty(len(bounds), bool)
    last[:-1] = bounds[1:] != bounds[:-1]
    last[-1] = True
    bounds, inside = bounds[last], inside[last]
    edge = np.empty(len(bounds), bool)
    edge[0] = inside[0]
    edge[1:] = inside[1:] != inside[:-1]
    edges = bounds[edge]
    return Extents(edges[0::2], edges[1::2])


def paint(starts: Sectors, ends: Sectors) -> Painting:
    """Lay non-empty extents over each other, later rows on top; which row is seen where?

    Any overlap is resolved exactly; neighbouring pieces of one row are one
    piece.  The extents are sorted by their starts and laid window by window,
    so that nearly all of the work is done in the processor's caches.  What
    reaches out of a window is cut, and its rest laid in the next one.
    """
    order = _Order(starts)
    # Each of its two ends makes at most one piece more; memory that is not
    # reached is never touched, and so costs nothing.
    painted = Painting(*(np.empty(2 * len(starts), np.int64) for _ in range(3)))
    count = 0
    rest = np.empty(0, np.int64)
    for at in range(0, len(starts), WINDOW):
        begin, end = order.start(at), order.start(at + WINDOW)
        firsts, rows = order.take(at, at + WINDOW)
        if len(rest):
            same = int(np.searchsorted(firsts, begin, side="right"))
            rows = np.concatenate([np.sort(np.append(rest, rows[:same])), rows[same:]])
            firsts = np.append(np.full(len(rest), begin), firsts)
        lasts = ends[rows]
        rest = _seen_behind(end, rows, lasts)
        if len(rest):
            inside = int(np.searchsorted(firsts, end))
            firsts, rows = firsts[:inside], rows[:inside]
            lasts = np.minimum(lasts[:inside], end)
        if len(rows):
            count = _append(painted, count, _paint_window(firsts, lasts, rows))
    return Painting(*(field[:count] for field in painted))


class _Order:
    """Rows by their starts, equal ones in their own order."""

    def __init__(self, starts: Sectors) -> None:
        self._starts = starts
        self._bits = len(starts).bit_length()
        if len(starts) and int(starts.max()) >> (63 - self._bits):
            self._keys = np.argsort(starts, kind="stable")
            self._packed = False
        else:
            self._keys = (starts << self._bits) | np.arange(len(starts), dtype=np.int64)
            self._keys.sort()  # many times as fast as argsort
            self._packed = True

    def take(self, begin: int, end: int) -> tuple[Sectors, Sectors]:
        """Starts and rows of some places in the order."""
        keys = self._keys[begin:end]
        if self._packed:
            return keys >> self._bits, keys & ((1 << self._bits) - 1)
        return self._starts[keys], keys

    def start(self, place: int) -> int:
        """The start at a place in the order; far away behind the last."""
        starts, _ = self.take(place, place + 1)
        return int(starts[0]) if len(starts) else _FAR


def _seen_behind(end: int, rows: Sectors, lasts: Sectors) -> Sectors:
    """Of extents that begin before `end`, the rows that are seen behind it, if nothing else is.

    A row is not if a later one reaches as far.
    """
    reaching = np.flatnonzero(lasts > end)
    if not len(reaching):
        return reaching
    reaching = reaching[np.argsort(-rows[reaching])]
    furthest = np.maximum.accumulate(lasts[reaching])
    further = np.append(True, furthest[1:] > furthest[:-1])
    found: Sectors = rows[reaching[further]]
    return found


def _append(painted: Painting, count: int, piece: Painting) -> int:
    """Put what was painted next behind the `count` pieces that are there; how many there are now.

    A row that goes on stays one piece.
    """
    joins = (
        count > 0
        and painted.rows[count - 1] == piece.rows[0]
        and painted.ends[count - 1] == piece.starts[0]
    )
    if joins:
        painted.ends[count - 1] = piece.ends[0]
    first = int(joins)
    behind = count + len(piece.rows) - first
    for whole, part in zip(painted, piece, strict=True):
        whole[count:behind] = part[first:]
    return behind


def _paint_window(starts: Sectors, ends: Sectors, rows: Sectors) -> Painting:
    """Paint extents that are sorted by start and row."""
    return _paint_equal_or_disjoint(starts, ends, rows) or _paint_tangled(starts, ends, rows)


def _paint_equal_or_disjoint(starts: Sectors, ends: Sectors, rows: Sectors) -> Painting | None:
    """The commonest case; None if it is another."""
    top = np.append(starts[1:] != starts[:-1], True)
    seen, seen_ends = starts[top], ends[top]
    if (seen_ends[:-1] > seen[1:]).any():
        return None
    if len(seen) < len(starts):
        # A hidden extent must not reach out from under the one on top of it.
        covers = np.repeat(seen_ends, np.diff(np.flatnonzero(top), prepend=-1))
        if (ends > covers).any():
            return None
    return Painting(seen, seen_ends, rows[top])


def _paint_tangled(starts: Sectors, ends: Sectors, rows: Sectors) -> Painting:
    """Only extents that meet another one are cut; what lies alone, mostly the most, is seen."""
    begins = np.empty(len(starts) + 1, bool)
    begins[0] = begins[-1] = True
    np.greater_equal(starts[1:], np.maximum.accumulate(ends)[:-1], out=begins[1:-1])
    alone = begins[:-1] & begins[1:]
    free = np.flatnonzero(alone)
    met = np.flatnonzero(~alone)
    pieces = _paint_any(starts[met], ends[met], rows[met])
    places = np.searchsorted(pieces.starts, starts[free]) + np.arange(len(free))
    others = np.ones(len(free) + len(pieces.starts), bool)
    others[places] = False
    painted = Painting(*(np.empty(len(others), np.int64) for _ in range(3)))
    for whole, lone, cut in zip(painted, (starts, ends, rows), pieces, strict=True):
        whole[places] = lone[free]
        whole[others] = cut
    return painted


def _paint_any(starts: Sectors, ends: Sectors, rows: Sectors) -> Painting:
    """Cut the window at every bound; the highest row wins each interval between two bounds."""
    bounds = np.sort(np.concatenate([starts, ends]))
    bounds = bounds[np.append(True, bounds[1:] != bounds[:-1])]
    upwards = np.argsort(rows)
    first = np.searchsorted(bounds, starts)[upwards]
    run = np.searchsorted(bounds, ends)[upwards] - first
    rows = rows[upwards]
    seen = np.full(len(bounds) - 1, -1, np.int64)
    short = np.flatnonzero(run <= SHORT_RUN)
    counts = run[short]
    begins = np.cumsum(counts) - counts
    at = np.arange(int(counts.sum())) + np.repeat(first[short] - begins, counts)
    seen[at] = np.repeat(short, counts)  # ascending, and numpy keeps the last assigned
    if len(short) < len(run):
        long = np.flatnonzero(run > SHORT_RUN)
        _paint_long(seen, first[long], run[long], long)
    edge = np.flatnonzero(np.append(True, seen[1:] != seen[:-1]))
    visible = seen[edge] >= 0
    piece_ends = bounds[np.append(edge[1:], len(seen))]
    return Painting(bounds[edge][visible], piece_ends[visible], rows[seen[edge][visible]])


def _paint_long(seen: Sectors, first: Sectors, run: Sectors, order: Sectors) -> None:
    """Raise `seen` to the highest of `order` (ascending) wherever such a run of intervals covers.

    A sparse table of maxima, filled from the longest runs down.  Two windows
    of the largest power of two that fits cover a run; a window hands its
    number down to its two halves.
    """
    level = np.frexp(run.astype(np.float64))[1] - 1  # floor(log2(run))
    highest = np.full(len(seen), -1, np.int64)
    for k in range(int(level.max()), -1, -1):
        chosen = np.flatnonzero(level == k)
        for at in (first[chosen], first[chosen] + run[chosen] - (1 << k)):
            painted = np.full(len(seen), -1, np.int64)
            painted[at] = order[chosen]
            np.maximum(highest, painted, out=highest)
        if k:
            half = 1 << (k - 1)
            handed = highest.copy()
            np.maximum(handed[half:], highest[:-half], out=handed[half:])
            highest = handed
    np.maximum(seen, highest, out=seen)
