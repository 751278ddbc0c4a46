"""The algebra of extents, against sets of single sectors."""

from collections.abc import Callable
from itertools import pairwise
from time import process_time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cdp.extents import (
    Extents,
    Painting,
    by_window,
    extents,
    in_steps,
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


@given(lists, st.integers(1, 12))
def test_by_window_cuts_at_every_multiple(pairs: list[tuple[int, int]], size: int) -> None:
    """One turn for each window that holds anything, in order; nothing is lost or doubled."""
    turns = list(by_window(made(pairs), size))
    windows = [{sector // size for sector in sectors_of(turn)} for turn in turns]
    assert [len(window) for window in windows] == [1] * len(turns)
    numbers = [window.pop() for window in windows]
    assert numbers == sorted(set(numbers))
    found = [sector for turn in turns for sector in sectors_of(turn)]
    assert found == sorted(naive(pairs))


@given(lists, st.integers(1, 12))
def test_in_steps_takes_turns_of_about_a_size(pairs: list[tuple[int, int]], size: int) -> None:
    turns = list(in_steps(made(pairs), size))
    assert [sector for turn in turns for sector in sectors_of(turn)] == sorted(naive(pairs))
    assert all(0 < turn.total < 2 * size for turn in turns)


def sectors_of(found: Extents) -> list[int]:
    """In their order; neighbouring extents need not be joined."""
    pairs = zip(found.starts.tolist(), found.ends.tolist(), strict=True)
    return [sector for start, end in pairs for sector in range(start, end)]


@given(painted_lists, painted_lists)
def test_merging_two_maps_keeps_the_newest(
    older: list[tuple[int, int]], newer: list[tuple[int, int]]
) -> None:
    """What the later map has wins, sector by sector; elsewhere the earlier one is seen."""
    merged = seen(painted(older + newer))
    covered = sectors(extents(*list(zip(*newer, strict=True)) or ([], [])))
    for sector, row in enumerate(merged):
        assert (row >= len(older)) == (sector in covered)
        if row >= len(older):
            assert row - len(older) == laid(newer)[sector]
        else:
            assert row == laid(older)[sector]


def test_printed() -> None:
    assert str(made([(16, 24), (40, 48)])) == "16+8 40+8 (2 extents, 16 sectors)"
    assert str(made([])) == "(0 extents, 0 sectors)"
    many = made([(2 * at, 2 * at + 1) for at in range(100)])
    assert str(many).endswith(" 22+1 ... (100 extents, 100 sectors)")


@pytest.mark.parametrize("operation", [union, subtract, intersect])
def test_a_million_extents_in_well_under_a_second(
    operation: Callable[[Extents, Extents], Extents],
) -> None:
    """Processor time; a quarter of a second where this was written."""
    random = np.random.default_rng(1)

    def million() -> Extents:
        starts = np.cumsum(random.integers(2, 4000, 1_000_000))
        lengths = random.integers(1, 2000, len(starts))
        return Extents(starts, np.minimum(starts + lengths, np.append(starts[1:] - 1, 1 << 60)))

    a, b = million(), million()
    began = process_time()
    found = operation(a, b)
    assert process_time() - began < 1
    assert len(found.starts) > 500_000
