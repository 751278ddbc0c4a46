"""The algebra of extents, against sets of single sectors."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cdp.extents import (
    Extents,
    Painting,
    extents,
    intersect,
    paint,
    subtract,
    union,
    widen,
)

SECTORS = 64

ranges = st.tuples(st.integers(0, SECTORS - 1), st.integers(0, 12)).map(
    lambda r: (r[0], min(SECTORS, r[0] + r[1]))
)
lists = st.lists(ranges, max_size=30)
painted_lists = st.lists(ranges.filter(lambda r: r[0] < r[1]), max_size=40)


def made(pairs: list[tuple[int, int]]) -> Extents:
    return extents([a for a, _ in pairs], [b for _, b in pairs])


def naive(pairs: list[tuple[int, int]]) -> set[int]:
    return {sector for a, b in pairs for sector in range(a, b)}


def sectors(found: Extents) -> set[int]:
    pairs = list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))
    assert all(a < b for a, b in pairs), "an empty extent"
    assert all(x[1] < y[0] for x, y in pairwise(pairs)), "neither sorted, disjoint nor joined"
    return naive(pairs)


@given(lists)
def test_extents_are_the_union_of_any(pairs: list[tuple[int, int]]) -> None:
    found = made(pairs)
    assert sectors(found) == naive(pairs)
    assert found.total == len(naive(pairs))
    assert bool(found) == bool(naive(pairs))


@given(lists, lists)
def test_algebra(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    assert sectors(union(made(a), made(b))) == naive(a) | naive(b)
    assert sectors(subtract(made(a), made(b))) == naive(a) - naive(b)
    assert sectors(intersect(made(a), made(b))) == naive(a) & naive(b)


@given(lists, st.sampled_from([1, 2, 8]))
def test_widened_to_whole_units(pairs: list[tuple[int, int]], unit: int) -> None:
    wanted = {
        s
        for sector in naive(pairs)
        for s in range(sector // unit * unit, sector // unit * unit + unit)
    }
    assert sectors(widen(made(pairs), unit)) == wanted


def seen(painting: Painting) -> list[int]:
    """For each sector the row on top, or -1."""
    canvas = [-1] * SECTORS
    previous = 0
    for start, end, row in zip(
        painting.starts.tolist(), painting.ends.tolist(), painting.rows.tolist(), strict=True
    ):
        assert previous <= start < end, "not sorted and disjoint"
        canvas[start:end] = [row] * (end - start)
        previous = end
    return canvas


def laid(pairs: list[tuple[int, int]]) -> list[int]:
    canvas = [-1] * SECTORS
    for row, (start, end) in enumerate(pairs):
        canvas[start:end] = [row] * (end - start)
    return canvas


def painted(pairs: list[tuple[int, int]]) -> Painting:
    return paint(
        np.array([a for a, _ in pairs], np.int64), np.array([b for _, b in pairs], np.int64)
    )


@given(painted_lists)
def test_paint_shows_the_last_that_was_laid(pairs: list[tuple[int, int]]) -> None:
    assert seen(painted(pairs)) == laid(pairs)


@given(st.lists(st.integers(0, 7), max_size=60))
def test_paint_of_equal_or_disjoint_blocks(blocks: list[int]) -> None:
    pairs = [(8 * block, 8 * block + 8) for block in blocks]
    assert seen(painted(pairs)) == laid(pairs)


@pytest.mark.parametrize("far", [1 << 20, 1 << 52])
def test_paint_far_out(far: int) -> None:
    """Sector addresses beyond any disk do not fit packed keys: the general way is taken."""
    starts = np.array([far, far + 4, far], np.int64)
    ends = np.array([far + 8, far + 6, far + 2], np.int64)
    found = paint(starts, ends)
    assert found.starts.tolist() == [far, far + 2, far + 4, far + 6]
    assert found.rows.tolist() == [2, 0, 1, 0]
