"""What happened: the appliance's memory of itself, for people.

Events are kept in memory (the newest few thousand) and appended as JSON lines
to `events.jsonl` in the state directory, which is rotated by size.  The file
is a log and not a fact of any volume: nothing waits for it, trouble with it
stops nothing, and a torn line in it costs that line alone.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec

from appliance.event_floods import WINDOW_SECONDS, After, Floods, Kind
from appliance.events import KINDS, MORE_OF_THESE, EventKind, FieldValue, Severity
from appliance.wording import cleaned, in_words

LOG_LEVELS: Final[dict[Severity, int]] = {
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_log = logging.getLogger("ebbtide.events")


class Event(msgspec.Struct, frozen=True):
    """One thing that happened.  `time` is RFC 3339 UTC, `number` grows by one."""

    number: int
    time: str
    code: str
    severity: Severity
    text: str
    volume: str | None = None
    actor: str | None = None
    fields: dict[str, FieldValue] = {}


class Finishing(Protocol):
    """Work that will be over."""

    def when_finished(self, action: Callable[[], None]) -> None: ...


class EventLog:
    """Keeps events in memory and in `directory`/events.jsonl (and one rotated .1 beside it).

    `wall_ns` is the wall clock.  With `offload`, files are written beside the
    loop, one batch at a time and in order; without, at once.  With `after`,
    floods are counted instead of kept.  `keep` bounds the events in memory,
    `rotate_bytes` each of the two files, up to the end of a line.
    """

    def __init__(
        self,
        directory: Path,
        wall_ns: Callable[[], int],
        offload: Callable[[Callable[[], None]], Finishing] | None = None,
        after: After | None = None,
        keep: int = 4096,
        rotate_bytes: int = 4 << 20,
    ) -> None:
        self._path = directory / "events.jsonl"
        self._rotated = directory / "events.jsonl.1"
        self._wall_ns = wall_ns
        self._offload = offload
        self._floods = None if after is None else Floods(after, self._more_of_these)
        self._rotate_bytes = rotate_bytes
        self._events: deque[Event] = deque(maxlen=keep)
        self._unwritten: deque[bytes] = deque(maxlen=keep)
        self._batch: list[bytes] = []
        self._writing = False
        for path in (self._rotated, self._path):
            self._events.extend(_read(path))
        self._number = max((event.number for event in self._events), default=0)

    def emit(self, code: str, **fields: FieldValue) -> None:
        """Record that `code` happened now."""
        kind = KINDS.get(code) or EventKind(code, "error", "something without a name happened", "")
        clean = cleaned(fields)
        volume, actor, disk = (_word(clean.get(name)) for name in ("volume", "actor", "disk"))
        text = in_words(kind, clean)
        # What somebody asked for is kept, so that nobody can hide among many requests.
        limited = self._floods if actor is None and code != MORE_OF_THESE else None
        if limited is not None and not limited.keep(Kind(code, volume, disk), text):
            return
        self._number += 1
        event = Event(
            number=self._number,
            time=rfc3339(self._wall_ns()),
            code=code,
            severity=kind.severity,
            text=text,
            volume=volume,
            actor=actor,
            fields={name: v for name, v in clean.items() if name not in {"volume", "actor"}},
        )
        self._events.append(event)
        self._unwritten.append(msgspec.json.encode(event) + b"\n")
        _log.log(LOG_LEVELS[kind.severity], "%s %s", code, event.text, extra={"event": event})
        self._write()

    def _more_of_these(self, kind: Kind, count: int, last: str) -> None:
        told: dict[str, FieldValue] = {"of": kind.code, "count": count, "last": last}
        about = {"volume": kind.volume, "disk": kind.disk}
        told |= {name: value for name, value in about.items() if value is not None}
        self.emit(MORE_OF_THESE, seconds=WINDOW_SECONDS, **told)

    def events(self, volume: str | None = None, after: int = 0, limit: int = 100) -> list[Event]:
        """The newest `limit` events with a number above `after`, oldest first; of one volume or
        of all."""
        found: list[Event] = []
        for event in reversed(self._events):
            if event.number <= after or len(found) == limit:
                break
            if volume is None or event.volume == volume:
                found.append(event)
        return found[::-1]

    def close(self) -> None:
        """Write what is not written yet, here and now; once nothing is offloaded any more."""
        self._offload = None
        if self._floods is not None:
            self._floods.close()
        self._unwritten.extendleft(reversed(self._batch))
        self._writing = False
        self._write()

    def _write(self) -> None:
        if self._writing or not self._unwritten:
            return
        self._batch = list(self._unwritten)
        self._unwritten.clear()
        if self._offload is None:
            self._append()
            return
        self._writing = True
        self._offload(self._append).when_finished(self._written)

    def _written(self) -> None:
        self._writing = False
        self._write()

    def _append(self) -> None:
        batch, self._batch = self._batch, []
        try:
            while batch:
                batch = self._append_until_full(batch)
        except OSError as error:
            _log.warning("%d events could not be written to %s: %s", len(batch), self._path, error)

    def _append_until_full(self, batch: list[bytes]) -> list[bytes]:
        """Append lines until the file is full, and rotate it then; the lines that are left."""
        with self._path.open("ab") as file:
            size = file.tell()
            if size and _last_byte(self._path) != b"\n":
                batch = [b"\n", *batch]
            written = 0
            while written < len(batch) and size < self._rotate_bytes:
                size += file.write(batch[written])
                written += 1
        if size >= self._rotate_bytes:
            self._path.replace(self._rotated)
        return batch[written:]


def rfc3339(ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 in UTC, to the nanosecond: as a point, a printed time
    must name the very write that it was printed for."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z"


def _word(value: FieldValue) -> str | None:
    return None if value is None else str(value)


def _read(path: Path) -> Iterator[Event]:
    """The events in a file, without the lines that do not read."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("%s cannot be read: %s", path, error)
        return
    decoder = msgspec.json.Decoder(Event)
    unreadable = 0
    for line in filter(None, lines):
        try:
            yield decoder.decode(line)
        except (ValueError, RecursionError):
            unreadable += 1
    if unreadable:
        _log.warning("%s: %d lines could not be read", path, unreadable)


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
