"""A volume's timeline as a picture of text, from the answer of the verb `timeline`.

Time runs from left to right.  Maps and snapshots carry times, gaps only write
numbers: those are placed between the nearest writes whose time is known.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, Final

from appliance.operators.text import words

LABEL_WIDTH: Final = 12
SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
STEPS: Final = tuple(
    amount * SECOND
    for amount in (
        *(1, 2, 5, 10, 15, 30),
        *(60 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
        *(3600 * hours for hours in (1, 2, 3, 6, 12)),
        *(86_400 * days for days in (1, 2, 7, 14, 28, 56, 112, 364)),
    )
)
"""Round distances of ticks."""
FORMS: Final = (
    (DAY, "%H:%M:%S", 8),
    (300 * DAY, "%m-%d %H:%M", 11),
    (1 << 64, "%Y-%m-%d", 10),
)
"""How ticks are labelled in pictures shorter than so much, and the length of a label."""
MOST_MARKS: Final = 9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """How things look.  `heights` go from little written to much."""

    heights: str
    first: str
    last: str
    whole: str
    suspect: str
    gap: str


UNICODE: Final = Glyphs("▁▂▃▄▅▆▇█", "├", "┤", "─", "?", "×")
ASCII: Final = Glyphs(".:-=+*#@", "|", "|", "-", "?", "x")


class _Scale:
    """Times (microseconds since 1970) and write numbers to columns."""

    def __init__(self, timeline: Json, columns: int) -> None:
        window = timeline["window"]
        oldest, newest = _microseconds(window["oldest"]), _microseconds(window["newest"])
        anchors = [(window["oldest_write"], oldest), (window["newest_write"], newest)]
        for delta_map in timeline["maps"]:
            anchors.append((delta_map["first_write"], _microseconds(delta_map["opened"])))
            if delta_map["closed"] is not None:
                anchors.append((delta_map["last_write"], _microseconds(delta_map["closed"])))
        anchors += [(name["write"], _microseconds(name["time"])) for name in timeline["snapshots"]]
        anchors.sort()
        self._writes = [write for write, _ in anchors]
        self._times: list[int] = []
        latest = anchors[0][1]
        for _, moment in anchors:
            # A clock that was set back must not turn the picture's order of writes around.
            latest = max(latest, moment)
            self._times.append(latest)
        self.start, self.end = min(self._times[0], oldest), max(self._times[-1], newest)
        self.columns = columns

    def position(self, moment: int) -> float:
        """From 0 to the number of columns."""
        if self.end == self.start:
            return 0
        share = (moment - self.start) / (self.end - self.start)
        return min(1.0, max(0.0, share)) * self.columns

    def column(self, moment: int) -> int:
        return min(self.columns - 1, int(self.position(moment)))

    def column_of_write(self, write: int) -> int:
        after = bisect_right(self._writes, write)
        if after == 0:
            return 0
        if after == len(self._writes):
            return self.column(self._times[-1])
        low, high = self._writes[after - 1], self._writes[after]
        share = (write - low) / (high - low)
        earlier, later = self._times[after - 1], self._times[after]
        return self.column(earlier + int((later - earlier) * share))


def draw(timeline: Json, width: int, ascii_only: bool) -> list[str]:
    """The picture in lines of at most `width` columns (at least 40)."""
    if timeline["window"] is None:
        return ["no moment can be restored yet"]
    glyphs = ASCII if ascii_only else UNICODE
    scale = _Scale(timeline, max(40, width) - LABEL_WIDTH - 1)
    lines = [
        *_axis(scale),
        _row("restorable", _restorable(timeline, scale, glyphs)),
        _row("written", _written(timeline, scale, glyphs)),
    ]
    if timeline["snapshots"]:
        lines.append(_row("snapshots", _marks(timeline, scale)))
    legend = []
    if timeline["gaps"]:
        legend.append(f"{glyphs.gap} gap")
    if any(delta_map["suspect"] for delta_map in timeline["maps"]):
        legend.append(f"{glyphs.suspect} suspect")
    if legend:
        lines += ["", _row("", "   ".join(legend))]
    return [line.rstrip() for line in lines]


def _row(label: str, content: str) -> str:
    return label.ljust(LABEL_WIDTH) + content


def _axis(scale: _Scale) -> Iterator[str]:
    """Times, and where they are.  Days are told when the picture has more than one."""
    span = scale.end - scale.start
    form, length = next((form, length) for longest, form, length in FORMS if span < longest)
    labels = [" "] * (scale.columns + LABEL_WIDTH)
    marks = [" "] * scale.columns
    # Half a label more than its length, since the last one is moved to the left.
    for moment in _ticks(scale, scale.columns // (length * 3 // 2 + 1)):
        column = scale.column(moment)
        text = (_EPOCH + timedelta(microseconds=moment)).strftime(form)
        # Centred on the mark, but within the line.
        start = min(max(0, LABEL_WIDTH + column - len(text) // 2), len(labels) - len(text))
        labels[start : start + len(text)] = text
        marks[column] = "|"
    yield "".join(labels)
    yield _row("UTC", "".join(marks))


def _ticks(scale: _Scale, most: int) -> list[int]:
    """Round times, about `most`; of a picture too short for two, its ends."""
    span = scale.end - scale.start
    step = next((step for step in STEPS if span // step <= most), -(-span // most))
    ticks = list(range(-(-scale.start // step) * step, scale.end + 1, step))
    return ticks if len(ticks) > 1 else [scale.start, scale.end]


def _restorable(timeline: Json, scale: _Scale, glyphs: Glyphs) -> str:
    window = timeline["window"]
    first = scale.column(_microseconds(window["oldest"]))
    last = scale.column(_microseconds(window["newest"]))
    row = [" "] * scale.columns
    row[first : last + 1] = glyphs.whole * (last - first + 1)
    row[first], row[last] = glyphs.first, glyphs.last
    for delta_map in timeline["maps"]:
        if delta_map["suspect"]:
            begin, end = _span(delta_map, scale)
            row[begin : end + 1] = glyphs.suspect * (end - begin + 1)
    for gap in timeline["gaps"]:
        begin, end = (
            scale.column_of_write(gap["from_write"]),
            scale.column_of_write(gap["to_write"]),
        )
        row[begin : end + 1] = glyphs.gap * (end - begin + 1)
    return "".join(row)


def _written(timeline: Json, scale: _Scale, glyphs: Glyphs) -> str:
    """A column's height is what was written in its time, beside the most of any."""
    amounts = [0.0] * scale.columns
    for delta_map in timeline["maps"]:
        opened, closed = _times(delta_map, scale)
        begin, end = scale.position(opened), scale.position(closed)
        if end <= begin:
            amounts[scale.column(opened)] += delta_map["bytes"]
            continue
        for column in range(int(begin), min(scale.columns, ceil(end))):
            overlap = min(end, column + 1) - max(begin, column)
            amounts[column] += delta_map["bytes"] * overlap / (end - begin)
    most = max(amounts)
    heights = len(glyphs.heights)
    return "".join(
        " " if not amount else glyphs.heights[min(heights - 1, int(amount / most * heights))]
        for amount in amounts
    )


def _marks(timeline: Json, scale: _Scale) -> str:
    """Snapshots by their number in the list below; `+` where there are several, or no digit is
    left."""
    row = [" "] * scale.columns
    for number, snapshot in enumerate(timeline["snapshots"], 1):
        column = scale.column(_microseconds(snapshot["time"]))
        row[column] = str(number) if row[column] == " " and number <= MOST_MARKS else "+"
    return "".join(row)


def _span(delta_map: Json, scale: _Scale) -> tuple[int, int]:
    """First and last column."""
    opened, closed = _times(delta_map, scale)
    return scale.column(opened), max(scale.column(opened), scale.column(closed))


def _times(delta_map: Json, scale: _Scale) -> tuple[int, int]:
    closed = delta_map["closed"]
    return (
        _microseconds(delta_map["opened"]),
        scale.end if closed is None else _microseconds(closed),
    )


def _microseconds(time: str) -> int:
    return (datetime.fromisoformat(time) - _EPOCH) // timedelta(microseconds=1)


def summary(timeline: Json) -> str:
    """What can be restored, in a line."""
    window = timeline["window"]
    if window is None:
        return f"{timeline['volume']}: nothing is kept yet"
    seconds = (_microseconds(window["newest"]) - _microseconds(window["oldest"])) / 1e6
    kept = words.size(sum(delta_map["bytes"] for delta_map in timeline["maps"]))
    return (
        f"{timeline['volume']}: {words.duration(seconds)} to go back,"
        f" writes {window['oldest_write']} to {window['newest_write']},"
        f" {kept} in {words.count(len(timeline['maps']), 'delta map')}"
    )
