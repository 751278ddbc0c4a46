"""One look at the appliance over the control socket: what a scrape shows.

Every scrape looks anew and connects anew, so that nothing shown is older than
the service that says it.  Only events are followed from one look to the next,
for counters must count.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from appliance.event_log import Event
from appliance.events import MORE_OF_THESE
from appliance.operators.answers import (
    DiskAnswer,
    DisksAnswer,
    EventsAnswer,
    StatusAnswer,
    VolumeAnswer,
)
from appliance.operators.control.client import ControlClient

LOOK_SECONDS: Final = 4.0
"""A look takes no longer: scrapers give up after ten seconds, as they are delivered."""
EVENTS_A_LOOK: Final = 1000
"""Of more events since the last look, the oldest are only counted as missed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the service said.  `events` counts by code since the exporter began."""

    release: str
    volumes: list[VolumeAnswer]
    disks: list[DiskAnswer]
    events: Mapping[str, int]
    events_missed: int


class Watcher:
    """Looks at the service at `socket`; one look at a time."""

    def __init__(self, socket: Path, seconds: float = LOOK_SECONDS) -> None:
        self._socket = socket
        self._seconds = seconds
        self._events = EventCounts()

    def look(self) -> Reading:
        """Raises ServiceUnreachable, also when the time is over, and Refused."""
        with ControlClient(self._socket, face="exporter", seconds=self._seconds) as client:
            status = msgspec.convert(client.request("status", {}), StatusAnswer)
            disks = msgspec.convert(client.request("disks", {}), DisksAnswer)
            self._events.follow(client)
            return Reading(
                release=client.release,
                volumes=status.volumes,
                disks=disks.disks,
                events=dict(self._events.by_code),
                events_missed=self._events.missed,
            )


class EventCounts:
    """Events since the first look, by code, from nothing on: what came before is not ours to
    count, for a restarted exporter would count it twice."""

    def __init__(self) -> None:
        self.by_code: Counter[str] = Counter()
        self.missed = 0
        self._newest: int | None = None

    def follow(self, client: ControlClient) -> None:
        """Count what is new."""
        if self._newest is not None:
            found = _events(client, after=self._newest, limit=EVENTS_A_LOOK)
            if found:
                self._count(found, self._newest)
                return
        # Nothing new; or the service's memory is a new one, and its numbers began again.
        found = _events(client, after=0, limit=1)
        newest = found[-1].number if found else 0
        if self._newest is None or newest < self._newest:
            self._newest = newest

    def _count(self, found: list[Event], behind: int) -> None:
        for event in found:
            self.by_code[event.code] += 1
            if event.code == MORE_OF_THESE:
                of, more = event.fields.get("of"), event.fields.get("count")
                if isinstance(of, str) and isinstance(more, int):
                    self.by_code[of] += more
        self.missed += found[-1].number - behind - len(found)
        self._newest = found[-1].number


def _events(client: ControlClient, after: int, limit: int) -> list[Event]:
    answer = client.request("events", {"after": after, "limit": limit})
    return msgspec.convert(answer, EventsAnswer).events
