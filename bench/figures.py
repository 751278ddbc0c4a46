"""What a measure brings home: numbers, a target, and whether it is met."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours beside theirs, measured by turns; more is better; `at_least` is the target, if any.

    `ours[n]` and `theirs[n]` are speeds in `unit` that were measured one right
    after the other.
    """

    work: str
    unit: str
    ours: Sequence[float]
    beside: str
    theirs: Sequence[float]
    at_least: float | None

    @property
    def ratios(self) -> list[float]:
        """One of each pair."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        return self.at_least is None or self.median >= self.at_least

    def as_json(self) -> dict[str, Any]:
        return {
            "work": self.work,
            "unit": self.unit,
            "ours": list(self.ours),
            "beside": self.beside,
            "theirs": list(self.theirs),
            "ratios": self.ratios,
            "median_ratio": self.median,
            "at_least": self.at_least,
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class Bound:
    """A quantity of ours in `unit`, measured several times; `at_most` is the target, if any."""

    work: str
    unit: str
    values: Sequence[float]
    at_most: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        return self.at_most is None or self.median <= self.at_most

    def as_json(self) -> dict[str, Any]:
        return {
            "work": self.work,
            "unit": self.unit,
            "values": list(self.values),
            "median": self.median,
            "at_most": self.at_most,
            "met": self.met,
        }


Figure = Ratio | Bound


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: `quick` tells whether things work, and not much more."""

    repeat: int
    quick: bool


def by_turns(
    times: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Both measured in pairs, so that what slows the machine slows both."""
    pairs = [(ours(), theirs()) for _ in range(times)]
    return [a for a, _ in pairs], [b for _, b in pairs]
