"""The picture of a timeline."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.event_log import rfc3339
from appliance.operators.text.timeline_drawing import draw, summary

NOON = 1_795_348_800_000_000_000
"""2026-11-22T12:00:00Z."""
MINUTE = 60_000_000_000


def timeline(
    maps: list[tuple[int, int, int, int | None]],
    snapshots: tuple[tuple[int, int], ...] = (),
    gaps: tuple[tuple[int, int], ...] = (),
    suspect: int = -1,
    window: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Maps are first write, last write, minute opened, minute closed; snapshots write, minute."""
    ends = [opened if closed is None else closed for _, _, opened, closed in maps]
    oldest, newest = window or (maps[0][2], max(ends))
    return {
        "volume": "finance",
        "window": {
            "oldest": rfc3339(NOON + oldest * MINUTE),
            "newest": rfc3339(NOON + newest * MINUTE),
            "oldest_write": maps[0][0],
            "newest_write": maps[-1][1],
        },
        "maps": [
            {
                "first_write": first,
                "last_write": last,
                "opened": rfc3339(NOON + opened * MINUTE),
                "closed": None if closed is None else rfc3339(NOON + closed * MINUTE),
                "bytes": 1000 * abs(last - first + 1),
                "suspect": number == suspect,
            }
            for number, (first, last, opened, closed) in enumerate(maps)
        ],
        "snapshots": [
            {"name": str(write), "write": write, "time": rfc3339(NOON + minute * MINUTE)}
            for write, minute in snapshots
        ],
        "gaps": [{"from_write": first, "to_write": last} for first, last in gaps],
    }


def rows(drawn: dict[str, Any], ascii_only: bool = True) -> dict[str, str]:
    """The rows of a picture 60 columns wide, by their label."""
    return {line[:12].strip(): line[12:] for line in draw(drawn, 73, ascii_only)}


def test_what_was_written_when() -> None:
    drawn = timeline([(1, 10, 0, 20), (11, 20, 20, 40), (21, 100, 40, 60)])
    assert rows(drawn)["written"] == 20 * ":" + 20 * ":" + 20 * "@"
    assert rows(drawn, ascii_only=False)["written"] == 40 * "▂" + 20 * "█"


def test_gaps_and_suspects_stand_where_they_are() -> None:
    drawn = timeline([(1, 60, 0, 60)], gaps=((16, 30),))
    row = rows(drawn)["restorable"]
    assert (row[0], row[-1]) == ("|", "|")
    assert 14 <= row.index("x") <= 16
    assert 14 <= row.count("x") <= 16
    assert "x gap" in rows(drawn)[""]
    drawn = timeline([(1, 30, 0, 30), (31, 60, 30, 60)], suspect=1)
    row = rows(drawn)["restorable"]
    assert row == "|" + 29 * "-" + 30 * "?"


def test_snapshots_are_numbered() -> None:
    drawn = timeline([(1, 60, 0, 60)], snapshots=((1, 0), (30, 30), (31, 30), (60, 60)))
    row = rows(drawn)["snapshots"]
    assert row == "1" + 29 * " " + "+" + 28 * " " + "4"


def test_times_are_round() -> None:
    lines = draw(timeline([(1, 60, -61, -1)]), 80, ascii_only=True)
    assert lines[0].split() == ["11:00:00", "11:15:00", "11:30:00", "11:45:00"]
    lines = draw(timeline([(1, 60, -4000, 0)]), 80, ascii_only=True)
    assert lines[0].split() == ["11-20", "00:00", "11-21", "00:00", "11-22", "00:00"]
    lines = draw(timeline([(1, 60, -4_000_000, 0)]), 80, ascii_only=True)
    assert lines[0].split()[-1] == "2025-02-19"


def test_a_moment_alone() -> None:
    drawn = timeline([(5, 5, 0, 0)], snapshots=((5, 0),), gaps=((5, 5),))
    assert rows(drawn)["snapshots"] == "1"
    assert summary(drawn) == "finance: 0 s to go back, writes 5 to 5, 1000 B in 1 delta map"


def test_nothing_yet() -> None:
    drawn = timeline([(1, 1, 0, 0)]) | {"window": None}
    assert draw(drawn, 80, ascii_only=True) == ["no moment can be restored yet"]
    assert summary(drawn) == "finance: nothing is kept yet"


@pytest.mark.parametrize("ascii_only", [True, False])
@given(data=st.data())
def test_any_timeline_fits_its_lines(ascii_only: bool, data: st.DataObject) -> None:
    minutes = st.integers(-10_000_000, 10_000_000)
    writes = st.integers(0, 1 << 62)
    drawn = timeline(
        data.draw(st.lists(st.tuples(writes, writes, minutes, minutes), min_size=1, max_size=5)),
        tuple(data.draw(st.lists(st.tuples(writes, minutes), max_size=20))),
        tuple(data.draw(st.lists(st.tuples(writes, writes), max_size=3))),
        data.draw(st.integers(-1, 4)),
        data.draw(st.tuples(minutes, minutes).map(lambda pair: (min(pair), max(pair)))),
    )
    width = data.draw(st.integers(40, 200))
    lines = draw(drawn, width, ascii_only)
    assert all(len(line) <= width for line in lines)
    if ascii_only:
        assert all(line.isascii() for line in lines)
    assert summary(drawn)
