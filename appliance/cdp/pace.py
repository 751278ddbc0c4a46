"""The pace of a synchronisation: the host comes first, and the work still ends.

It takes the share of time that hosts leave: when they keep the volume busy for
a part of the time, the work rests for that part.  However busy they are it
does the floor, and it never exceeds the ceiling.  Both may be changed at any
moment.

While hosts are at work its steps are short, too: they stand in the queues of the same disks.
Only where it cannot keep up with the floor so, since each of them waits behind the hosts' requests,
they are longer.

Floor and ceiling hold on the average, not for each step: steps are read ahead,
so one seems to take no time and the next one that of several.
"""

from collections.abc import Callable
from typing import Protocol

from appliance.cdp.interfaces import Clock, Post
from appliance.cdp.jobs import Job
from appliance.cdp.policies import MIB, Throttle
from appliance.cdp.tasks import Completion

GENTLE = 256 << 10
"""Bytes of a step while hosts are at work: what they ask of a disk waits behind it."""
HURRIED = 1 << 20
"""The same while the floor is not kept."""
STEPS_A_SECOND = 8
"""Under a ceiling, at least: the work goes on evenly, and can be seen to."""
LOOKS = 16
"""The load is what about so many looks at the hosts, one a step, have seen."""
SHORTEST_NS = 200_000
"""A rest below this is not worth a timer; it adds up."""
LONGEST_NS = 250_000_000
"""After so much of a rest the throttle is looked at again: it may have been changed."""
DEBT_STEPS = 8
"""Hosts are owed no more rest than the floor takes for so many steps, the rest is forgiven."""
LATE_NS = 50_000_000
"""A step that is due for so long is late."""
MEMORY_NS = 100_000_000
"""What was late by more than this is not caught up with."""


class Pacing(Protocol):
    """What work that goes on in steps asks of its pace."""

    def fitting(self, size: int, requests: int = 1, /) -> int:
        """How much of so many bytes to take as the next step; whole blocks, and at least one.

        A step of several requests may be so much longer while hosts are at work.
        """
        ...

    async def __call__(self, size: int) -> None:
        """Awaited before each step with its bytes, with no lock taken: here the work is held,
        slowed or cancelled."""
        ...


class FullSpeed:
    """The pace of what hosts wait for."""

    def fitting(self, size: int, _requests: int = 1, /) -> int:
        return size

    async def __call__(self, size: int) -> None:
        pass


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
        self._begun = False
        """Has there been a look at the hosts?"""
        self._worked_since = clock.monotonic_ns()
        self._debt_ns = 0.0
        """Rest that hosts are owed."""
        self._floor = _Schedule(self._worked_since)
        self._ceiling = _Schedule(self._worked_since)

    def fitting(self, size: int, requests: int = 1, /) -> int:
        ceiling = self._throttle().ceiling
        if ceiling:
            size = min(size, ceiling * MIB // STEPS_A_SECOND)
        # Before the first look at the hosts, and long after one has last seen them waiting.
        if not self._begun or self._load * LOOKS > 0.5:
            size = min(size, requests * (HURRIED if self._is_late() else GENTLE))
        return size

    def _is_late(self) -> bool:
        """Is the floor not kept?"""
        floor = self._throttle().floor
        return bool(floor) and self._floor.left_ns(floor, self._clock.monotonic_ns()) < -LATE_NS

    async def __call__(self, size: int) -> None:
        worked_ns = self._clock.monotonic_ns() - self._worked_since
        self._begun = True
        await self._job.step()
        self._load += (self._busy() - self._load) / LOOKS
        self._debt_ns += worked_ns * (1 / (1 - min(self._load, 0.999)) - 1)
        if floor := self._throttle().floor:
            self._debt_ns = min(self._debt_ns, DEBT_STEPS * _ns(size, floor))
        while (left_ns := self._rest_ns()) >= SHORTEST_NS:
            await self._rest(min(left_ns, LONGEST_NS))
            await self._job.step()
        now, throttle = self._clock.monotonic_ns(), self._throttle()
        self._debt_ns = max(self._debt_ns, -MEMORY_NS)
        self._floor.begin(size, throttle.floor, now)
        self._ceiling.begin(size, throttle.ceiling, now)
        self._worked_since = now

    def _rest_ns(self) -> float:
        """How long to rest before the next step, as the throttle is now."""
        throttle, now = self._throttle(), self._clock.monotonic_ns()
        rest = self._debt_ns
        if throttle.floor:
            rest = min(rest, self._floor.left_ns(throttle.floor, now))
        if throttle.ceiling:
            rest = max(rest, self._ceiling.left_ns(throttle.ceiling, now))
        return rest

    async def _rest(self, length_ns: float) -> None:
        begun = self._clock.monotonic_ns()
        rested: Completion[None] = Completion()
        self._post.after(length_ns / 1e9, lambda: rested.succeed(None))
        await rested
        self._debt_ns -= self._clock.monotonic_ns() - begun  # a timer may be late


class _Schedule:
    """When the next step is due, if bytes pass at a rate on the average."""

    def __init__(self, now: int) -> None:
        self._due = float(now)
        """When the last step was due, or began, if that was earlier or much later."""
        self._size = 0

    def left_ns(self, rate: int, now: int) -> float:
        """How long until the next step is due; `rate` in MiB/s."""
        return self._due + _ns(self._size, rate) - now

    def begin(self, size: int, rate: int, now: int) -> None:
        """A step of so many bytes begins; a rate of 0 is none."""
        due = now + self.left_ns(rate, now) if rate else now
        self._due, self._size = min(max(due, now - MEMORY_NS), now), size


def _ns(size: int, rate: int) -> float:
    return size / (rate * MIB) * 1e9
