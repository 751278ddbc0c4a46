"""Figures for people."""

import pytest

from appliance.operators.text import words


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10_239, "10.0 KiB"),
        (102_400, "100 KiB"),
        (1_048_575, "1.0 MiB"),
        (1 << 40, "1.0 TiB"),
        ((1 << 64) - 1, "16.0 EiB"),
        (1 << 80, "1048576 EiB"),
    ],
)
def test_sizes(count: int, said: str) -> None:
    assert words.size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (-3, "0 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_moments_are_points() -> None:
    assert words.moment("2026-11-22T12:00:00.000000001Z") == "2026-11-22T12:00:00Z"
    assert words.moment("2026-11-22T12:00:00Z") == "2026-11-22T12:00:00Z"
