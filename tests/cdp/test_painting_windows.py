"""Painting more extents than are painted at once, held against painting sector by sector."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cdp import extents

SPACE = 60

laid = st.lists(st.tuples(st.integers(0, SPACE - 1), st.integers(1, 20)), max_size=40)


def seen_sector_by_sector(starts: list[int], ends: list[int]) -> list[int]:
    seen = [-1] * (SPACE + 20)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        seen[start:end] = [row] * (end - start)
    return seen


@given(laid, st.sampled_from([1, 2, 3, 7]), st.sampled_from([0, 1, 4, 32]), st.booleans())
def test_windows_change_nothing(
    extents_laid: list[tuple[int, int]], window: int, short_run: int, far: bool
) -> None:
    """`far`: where starts and rows do not fit into one sorting key."""
    starts = [start for start, _ in extents_laid]
    ends = [start + length for start, length in extents_laid]
    away = 1 << 60 if far else 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extents, "WINDOW", window)
        patch.setattr(extents, "SHORT_RUN", short_run)
        painting = extents.paint(np.array(starts, np.int64) + away, np.array(ends, np.int64) + away)
    seen = [-1] * (SPACE + 20)
    before = (-1, -1)
    for start, end, row in zip(*(field.tolist() for field in painting), strict=True):
        assert before[0] <= start < end, "pieces are sorted, disjoint and not empty"
        assert before != (start, row), "one row's neighbouring pieces are one piece"
        before = (end, row)
        seen[start - away : end - away] = [row] * (end - start)
    assert seen == seen_sector_by_sector(starts, ends)
