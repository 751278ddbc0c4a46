"""How people name points in time."""

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cdp.points import ByName, ByTime, ByWrite, parse
from appliance.errors import BadPoint

NOW = 1_800_000_000 * 10**9
MINUTE = 60 * 10**9


@pytest.mark.parametrize(
    ("text", "wall_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-22T10:00:00Z", 1_795_341_600 * 10**9),
        ("2026-11-22T11:00:00+01:00", 1_795_341_600 * 10**9),
        ("2026-11-22 10:00:00Z", 1_795_341_600 * 10**9),
        ("2026-11-22T10:00:00.000001Z", 1_795_341_600 * 10**9 + 1000),
        ("2026-11-22T10:00Z", 1_795_341_600 * 10**9),
        ("-10m", NOW - 10 * MINUTE),
        ("-90s", NOW - 90 * 10**9),
        ("-2h", NOW - 120 * MINUTE),
        ("-1d", NOW - 24 * 60 * MINUTE),
        ("-3w", NOW - 21 * 24 * 60 * MINUTE),
        ("-0s", NOW),
    ],
)
def test_times(text: str, wall_ns: int) -> None:
    assert parse(text, NOW) == ByTime(wall_ns)


def test_snapshots_and_writes() -> None:
    assert parse("snapshot:before-upgrade", NOW) == ByName("before-upgrade")
    assert parse("snapshot:write:7", NOW) == ByName("write:7")
    assert parse("write:123456", NOW) == ByWrite(123456)
    assert parse("write:0", NOW) == ByWrite(0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither"),
        ("yesterday", "neither"),
        ("2026-13-01T00:00:00Z", "neither"),
        ("2026-11-22T10:00:00", "zone"),
        ("2026-11-22", "zone"),
        ("snapshot:", "name is missing"),
        ("write:", "no number"),
        ("write:-1", "no number"),
        ("write:12x", "no number"),
        ("write:٣", "no number"),
        ("write:99999999999999999999", "no number"),
        ("-10", "neither"),
        ("10m", "neither"),
        ("-10M", "neither"),
        ("-1 m", "neither"),
        ("-10m\n", "neither"),
        ("-999999999w", "too long ago"),
        ("Snapshot:a", "neither"),
    ],
)
def test_what_is_no_point(text: str, reason: str) -> None:
    with pytest.raises(BadPoint, match=reason):
        parse(text, NOW)


@given(st.text(max_size=40))
def test_any_text_is_a_point_or_refused_as_one(text: str) -> None:
    with contextlib.suppress(BadPoint):
        parse(text, NOW)


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_are_exact_to_the_microsecond(microseconds: int) -> None:
    moment = datetime.fromtimestamp(microseconds // 10**6, UTC)
    moment = moment.replace(microsecond=microseconds % 10**6)
    assert parse(moment.isoformat(), NOW) == ByTime(microseconds * 1000)
