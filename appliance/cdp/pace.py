"""The pace of a synchronisation: the host comes first, and the work still ends.

It takes the share of time that hosts leave: when they keep the volume busy for
a part of the time, the work rests for that part.  However busy they are it
does the floor, and it never exceeds the ceiling.  Both may be changed at any
moment.
"""

from collections.abc import Callable

from appliance.cdp.interfaces import Clock, Post
from appliance.cdp.jobs import Job
from appliance.cdp.policies import MIB, Throttle
from appliance.cdp.tasks import Completion

LOOKS = 16
"""The load is what about so many looks at the hosts, one a step, have seen."""
SHORTEST_NS = 200_000
"""A rest below this is not worth a timer; it adds up."""


class Pace:
    """Of one job.  `busy` looks whether a host waits for an answer right now."""

    def __init__(
        self,
        job: Job,
        throttle: Callable[[], Throttle],
        busy: Callable[[], bool],
        clock: Clock,
        post: Post,
    ) -> None:
        self._job = job
        self._throttle = throttle
        self._busy = busy
        self._clock = clock
        self._post = post
        self._load = 0.0
        self._worked_since = clock.monotonic_ns()
        self._debt_ns = 0.0

    async def __call__(self, size: int) -> None:
        """Await before a step of so many bytes, with no lock taken."""
        await self._job.step()
        now = self._clock.monotonic_ns()
        self._load += (self._busy() - self._load) / LOOKS
        self._debt_ns += self._rest_ns(size, now - self._worked_since)
        if self._debt_ns >= SHORTEST_NS:
            rested: Completion[None] = Completion()
            self._post.after(self._debt_ns / 1e9, lambda: rested.succeed(None))
            self._debt_ns = 0.0
            await rested
            await self._job.step()
        self._worked_since = self._clock.monotonic_ns()

    def _rest_ns(self, size: int, worked_ns: int) -> float:
        """How long to rest behind a step that took so long."""
        throttle = self._throttle()
        left = 1 - min(self._load, 0.999)
        rest = worked_ns * (1 / left - 1)
        at_floor = size / (throttle.floor * MIB) * 1e9 if throttle.floor else rest
        rest = min(rest, max(0.0, at_floor - worked_ns))
        if throttle.ceiling:
            rest = max(rest, size / (throttle.ceiling * MIB) * 1e9 - worked_ns)
        return rest
