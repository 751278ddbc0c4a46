"""Sixteen columns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.glyphs import GLYPHS
from appliance.operators.panel import text


def test_a_name_that_fits_stands_still() -> None:
    assert {text.marquee("finance", moment, 9) for moment in (0.0, 1.0, 7.7)} == {"finance  "}
    assert text.marquee_seconds("finance", 9) == 0


def test_a_long_name_is_seen_whole_and_rests_at_both_ends() -> None:
    name = "before-the-upgrade-of-finance"
    seconds = text.marquee_seconds(name)
    seen = [text.marquee(name, step * 0.1) for step in range(int(seconds * 10))]
    assert seen[0] == seen[14] == name[:16]
    assert seen[-1] == seen[-14] == name[-16:]
    assert set(name) <= set("".join(seen))
    assert text.marquee(name, seconds) == name[:16]


@given(st.text(max_size=60), st.integers(1, 16), st.floats(-1, 1e6))
def test_whatever_a_disk_is_called(name: str, width: int, elapsed: float) -> None:
    for shown in (text.fit(name, width), text.marquee(name, elapsed, width)):
        assert len(shown) == width
        assert all(" " <= character <= "~" or character in GLYPHS for character in shown)


@pytest.mark.parametrize(
    ("fraction", "drawn"),
    [(0, "░░░░"), (0.124, "░░░░"), (0.125, "▌░░░"), (0.5, "██░░"), (1, "████"), (7, "████")],
)
def test_bars(fraction: float, drawn: str) -> None:
    assert text.bar(fraction, 4) == drawn


def test_a_bar_is_full_only_at_the_end() -> None:
    assert text.bar(0.999)[-1] != "█"


def test_moments() -> None:
    assert text.moment("2026-11-22T11:50:00.123456789Z") == "Nov22 11:50:00Z"
    assert text.clock(1_795_348_800) == "Nov22 12:00:00Z"
