"""The service manager's watchdog, fed as long as disks get on with what they were asked.

systemd restarts a service that it watches (`WatchdogSec=`) and has not heard
from for so long.  What is to be found out by that is a loop that does not turn
(then nothing here runs), and a request that neither completes nor is given up
at its disk's deadline: whoever waits for it would wait for ever.

A disk that hangs is neither: at its deadline it is taken out of service, and
volumes go on without it.  A box at which nobody works is healthy, too.

A look at the disks is posted, since posts run after the completions and the
deadlines of the same turn: a loop that was held up first takes what has come
meanwhile.
"""

from collections.abc import Callable, Iterable
from typing import Final

from appliance import events
from appliance.cdp.interfaces import Clock, Post

MARGIN_SECONDS: Final = 10.0
"""How long after its deadline a request may still be there before something is wrong with us."""

Request = tuple[int, str]
"""A number that is never given again, and the id of the disk that works on it."""


class Patience:
    """Knows since when each request has been under way; `limit` is in seconds."""

    def __init__(self, limit: float) -> None:
        self._limit_ns = int(limit * 1e9)
        self._first_seen: dict[int, int] = {}

    def overdue(self, requests: Iterable[Request], now_ns: int) -> dict[str, float]:
        """The disks whose oldest request has been seen for longer than the limit, and for how many
        seconds.  `requests` are all that are the oldest of their disks now."""
        seen, self._first_seen = self._first_seen, {}
        overdue: dict[str, float] = {}
        for number, disk in requests:
            since = self._first_seen[number] = seen.get(number, now_ns)
            if now_ns - since > self._limit_ns:
                overdue[disk] = (now_ns - since) / 1e9
        return overdue


class Watchdog:
    """Calls `feed` each `period` seconds from `start` on, as long as nothing is overdue.

    `requests` gives the oldest request under way of each disk; `deadline`, in
    seconds, is when a disk's are given up.
    """

    def __init__(
        self,
        loop: Post,
        clock: Clock,
        requests: Callable[[], Iterable[Request]],
        deadline: float,
        period: float,
        feed: Callable[[], None],
        emit: events.Emit,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._requests = requests
        self._patience = Patience(deadline + MARGIN_SECONDS)
        self._period = period
        self._feed = feed
        self._emit = emit
        self._told: set[str] = set()

    def start(self) -> None:
        self._loop.post(self._look)

    def _look(self) -> None:
        self._loop.after(self._period, lambda: self._loop.post(self._look))
        overdue = self._patience.overdue(self._requests(), self._clock.monotonic_ns())
        for disk in overdue.keys() - self._told:
            self._emit(events.REQUEST_LOST, disk=disk, seconds=round(overdue[disk]))
        self._told = set(overdue)
        if not overdue:
            self._feed()
