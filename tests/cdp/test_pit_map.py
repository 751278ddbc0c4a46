"""PIT maps, against a list that is written sector by sector."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.cdp.delta_map import up_to
from appliance.cdp.format import ENTRY_DTYPE, ZEROS, Rows
from appliance.cdp.pit_map import PitMap

SECTORS = 48

entries_lists = st.lists(
    st.tuples(st.integers(0, SECTORS - 1), st.integers(1, 10), st.booleans()), max_size=40
)


def rows_of(entries: list[tuple[int, int, bool]]) -> Rows:
    """Entry n is write n + 1, with its data at sector 1000 (n + 1), or zeros."""
    return np.array(
        [
            (
                start,
                ZEROS if zeros else 1000 * (at + 1),
                at + 1,
                min(length, SECTORS - start),
                at,
            )
            for at, (start, length, zeros) in enumerate(entries)
        ],
        ENTRY_DTYPE,
    )


@given(entries_lists, st.integers(0, 40), st.integers(0, 40))
def test_the_newest_entry_at_or_before_the_point_wins(
    entries: list[tuple[int, int, bool]], write: int, cut: int
) -> None:
    rows = rows_of(entries)
    wanted = [0] * SECTORS
    for row in rows[:write]:
        start, length = int(row["start"]), int(row["length"])
        wanted[start : start + length] = [int(row["write"])] * length
    # The same entries in two maps give the same point.
    pit_map = PitMap(write, [up_to(rows[:cut], write), up_to(rows[cut:], write)])

    found: list[int] = []
    for piece in pit_map.pieces(0, SECTORS):
        assert piece.start == len(found), "a hole or an overlap"
        found += [piece.entry.write if piece.entry else 0] * (piece.end - piece.start)
        if piece.entry is not None:
            row = rows[piece.entry.write - 1]
            assert tuple(piece.entry) == tuple(int(value) for value in row)
            assert piece.entry.is_zeros == (int(row["location"]) == ZEROS)
            assert piece.entry.start <= piece.start
            assert piece.end <= piece.entry.start + piece.entry.length
    assert found == wanted


@given(entries_lists, st.integers(0, SECTORS - 1), st.integers(1, SECTORS))
def test_it_touches_what_it_has_a_piece_of(
    entries: list[tuple[int, int, bool]], start: int, length: int
) -> None:
    pit_map = PitMap(len(entries), [rows_of(entries)])
    pieces = pit_map.pieces(start, start + length)
    assert pit_map.touches(start, start + length) == any(piece.entry for piece in pieces)


@given(entries_lists, st.integers(0, SECTORS - 1), st.integers(1, SECTORS))
def test_any_range_is_a_part_of_the_whole(
    entries: list[tuple[int, int, bool]], start: int, length: int
) -> None:
    end = min(SECTORS, start + length)
    pit_map = PitMap(len(entries), [rows_of(entries)])
    whole = [
        piece.entry for piece in pit_map.pieces(0, SECTORS) for _ in range(piece.start, piece.end)
    ]
    part = [
        piece.entry for piece in pit_map.pieces(start, end) for _ in range(piece.start, piece.end)
    ]
    assert part == whole[start:end]


def test_without_entries_the_base_answers() -> None:
    assert [(p.start, p.end, p.entry) for p in PitMap(0, []).pieces(3, 9)] == [(3, 9, None)]
