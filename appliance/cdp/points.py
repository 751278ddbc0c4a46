"""Points in time: how people name them, and which of them can be restored."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from appliance.errors import BadPoint

_AGO = re.compile(r"-(\d{1,9})(s|m|h|d|w)\Z")
_NANOSECONDS = re.compile(r"[.,]\d{6}(\d{1,3})")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A named point; `time_ns` is nanoseconds since 1970."""

    name: str
    write: int
    time_ns: int
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of the timeline, both ends included, with no restorable points."""

    from_write: int
    to_write: int
    reason: str
    time_ns: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """The protection window."""

    oldest_ns: int
    newest_ns: int
    oldest_write: int
    newest_write: int


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of a volume: just after this write.

    `text` is how it was asked for; `time_ns` the time of the write's record.
    """

    write: int
    time_ns: int | None
    text: str


@dataclass(frozen=True, slots=True)
class MapSummary:
    """A delta map as the timeline shows it; times in nanoseconds since 1970."""

    id: int
    kind: str
    order: str
    first_write: int
    last_write: int
    opened_ns: int
    closed_ns: int | None
    bytes: int
    suspect: bool


@dataclass(frozen=True, slots=True)
class ByTime:
    """The newest write at or before this many nanoseconds since 1970."""

    wall_ns: int


@dataclass(frozen=True, slots=True)
class ByName:
    """A snapshot."""

    name: str


@dataclass(frozen=True, slots=True)
class ByWrite:
    """Just after a write number."""

    write: int


def parse(text: str, now_ns: int) -> ByTime | ByName | ByWrite:
    """Read a point as people write it; BadPoint if it is none.

    `2026-11-22T10:00:00Z` (any RFC 3339 time with a zone), `-10m` (s, m, h, d
    or w before `now_ns`), `snapshot:NAME`, `write:NUMBER`.
    """
    if text.startswith("snapshot:"):
        if not text[9:]:
            raise BadPoint(point=text, reason="the name is missing")
        return ByName(text[9:])
    if text.startswith("write:"):
        digits = text[6:]
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise BadPoint(point=text, reason="the number is missing or no number")
        return ByWrite(int(digits))
    if ago := _AGO.match(text):
        return ByTime(now_ns - _duration_ns(text, ago))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadPoint(point=text, reason="it is neither a time, a snapshot nor a write") from error
    if moment.tzinfo is None:
        raise BadPoint(point=text, reason="the time zone is missing (Z for UTC)")
    # In whole numbers, and to the nanosecond: a printed time names the very write it stands by.
    below = _NANOSECONDS.search(text)
    rest = int(below[1].ljust(3, "0")) if below else 0
    return ByTime((moment - _EPOCH) // timedelta(microseconds=1) * 1000 + rest)


def _duration_ns(text: str, ago: re.Match[str]) -> int:
    try:
        return timedelta(**{_UNITS[ago[2]]: int(ago[1])}) // timedelta(microseconds=1) * 1000
    except OverflowError as error:
        raise BadPoint(point=text, reason="that is too long ago") from error
