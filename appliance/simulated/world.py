"""The simulated world: one life of the service, stepped event by event.

A `World` plays the loop (`Post`) and holds everything that will happen later:
posts, timers, offloaded work and the requests in flight on simulated disks.

Invariants:

* `step` lets exactly one thing happen: the posts at hand, or a timer that is
  due, or one pending request or piece of offloaded work picked by the chooser,
  or, with nothing else to do, time jumps to the next timer.  So requests in
  flight complete in any order, and a life is a function of its decisions.
* Virtual time passes only here, a little with every completion.
* A life ends by `power_cut` or `kill`.  Both return the World of the next life
  and leave this one dead: whatever objects of the old life still do (a
  coroutine that is garbage-collected at some later moment, say) reaches
  neither a disk nor the next life.  Disks are opened again by `disk.reopen()`.

How to use it::

    world = World(seed)                     # or World(Script([...]))
    disk = SimulatedDisk(world, Medium("primary", 1 << 20))
    result = world.run_until(Task(something(world, disk)))
    world = world.power_cut()
    disk = disk.reopen()
"""

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, overload

from appliance.cdp.tasks import Completion
from appliance.simulated.choices import Chooser, seeded
from appliance.simulated.clock import SimulatedClock

T = TypeVar("T")

EVENT_NS: Final = 50_000
"""Virtual time that one completion takes."""
OUTAGE_NS: Final = 60_000_000_000
"""Virtual time that the box is off after a power cut."""
STEP_LIMIT: Final = 1_000_000
"""A run longer than this goes round in circles."""


class Stuck(Exception):
    """What a run waits for will not come; the message lists what is pending."""


class Pending(Protocol):
    """Something that is under way beside the loop."""

    def happen(self) -> None:
        """It completes now."""
        ...


class Player(Protocol):
    """A played part that outlives the service: told how a life ends."""

    def power_lost(self, choose: Chooser, torn_writes: bool) -> None: ...

    def service_killed(self, choose: Chooser) -> None: ...

    def enter(self, world: "World") -> None:
        """The life of `world` begins."""
        ...

    def waiting(self) -> list[str]:
        """What it holds back, in words."""
        ...


class _Timer:
    __slots__ = ("due", "order", "action")

    def __init__(self, due: int, order: int, action: Callable[[], None]) -> None:
        self.due = due
        self.order = order
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None

    def __lt__(self, other: "_Timer") -> bool:
        return (self.due, self.order) < (other.due, other.order)


class _Work:
    """Offloaded work: runs, and is delivered, when its turn comes."""

    __slots__ = ("run", "completion")

    def __init__(self, run: Callable[[], Any], completion: Completion[Any]) -> None:
        self.run = run
        self.completion = completion

    def happen(self) -> None:
        try:
            result = self.run()
        except Exception as error:
            self.completion.fail(error)
        else:
            self.completion.succeed(result)

    def __str__(self) -> str:
        return f"offloaded {getattr(self.run, '__qualname__', self.run)}"


class World:
    """One life.  Implements `appliance.cdp.interfaces.Post`.

    `chooser` is a seed or a chooser.  With `torn_writes` a write caught by a
    power cut may reach the medium in part; without, wholly or not at all,
    which keeps exhaustive runs small.
    """

    def __init__(self, chooser: Chooser | int, *, torn_writes: bool = True) -> None:
        self.choose = seeded(chooser) if isinstance(chooser, int) else chooser
        self.torn_writes = torn_writes
        self.clock = SimulatedClock()
        self.alive = True
        self.pending: list[Pending] = []
        """Requests and work of which any may complete next."""
        self.players: list[Player] = []
        self.log: deque[tuple[int, str, int, int]] = deque(maxlen=400)
        """The last (monotonic ns, event, offset, length), for `story`; carried from life to
        life.  A length of -1 says that the event has neither."""
        self._posts: deque[Callable[[], None]] = deque()
        self._timers: list[_Timer] = []
        self._timer_order = 0

    # The loop, as the engine sees it.

    def post(self, action: Callable[[], None]) -> None:
        self._posts.append(action)

    def after(self, seconds: float, action: Callable[[], None]) -> _Timer:
        self._timer_order += 1
        timer = _Timer(self.clock.monotonic_ns() + int(seconds * 1e9), self._timer_order, action)
        heapq.heappush(self._timers, timer)
        return timer

    def offload(self, work: Callable[[], T]) -> Completion[T]:
        completion: Completion[T] = Completion()
        self.pending.append(_Work(work, completion))
        return completion

    # Making things happen.

    def step(self) -> bool:
        """Let one thing happen; False if there is nothing left that could."""
        assert self.alive, "this life has ended; go on with the World that ended it returned"
        posts = self._posts
        if posts:
            for _ in range(len(posts)):  # those they post in turn belong to the next step
                posts.popleft()()
            return True
        timers = self._timers
        while timers and timers[0].action is None:
            heapq.heappop(timers)
        now = self.clock.monotonic_ns()
        pending = self.pending
        if pending and not (timers and timers[0].due <= now):
            self.clock.advance(EVENT_NS)
            last = len(pending) - 1
            chosen = self.choose(last + 1) if last else 0
            event = pending[chosen]
            pending[chosen] = pending[last]
            pending.pop()
            event.happen()
            return True
        if timers:
            timer = heapq.heappop(timers)
            self.clock.advance(max(0, timer.due - now))
            action, timer.action = timer.action, None
            assert action is not None
            action()
            return True
        return False

    @overload
    def run_until(self, awaited: Completion[T], limit: int = STEP_LIMIT) -> T: ...
    @overload
    def run_until(self, awaited: Callable[[], bool], limit: int = STEP_LIMIT) -> None: ...
    def run_until(
        self, awaited: Completion[T] | Callable[[], bool], limit: int = STEP_LIMIT
    ) -> T | None:
        """Step until a completion has finished (and give its result), or a condition holds.

        Raises `Stuck` when nothing can happen any more, or after `limit` steps.
        """
        if isinstance(awaited, Completion):
            completion = awaited
            self._run(lambda: completion.finished, limit)
            return completion.result()
        self._run(awaited, limit)
        return None

    def run_idle(self, limit: int = STEP_LIMIT) -> None:
        """Step until no post and no completion is left; timers fire only if due on the way."""
        for _ in range(limit):
            if not self._posts and not self.pending:
                return
            self.step()
        raise Stuck(f"still busy after {limit} steps\n{self.waiting()}")

    def run_for(self, seconds: float, limit: int = STEP_LIMIT) -> None:
        """Step until that much virtual time has passed."""
        reached = False

        def arrive() -> None:
            nonlocal reached
            reached = True

        self.after(seconds, arrive)
        self._run(lambda: reached, limit)

    def _run(self, reached: Callable[[], bool], limit: int) -> None:
        for _ in range(limit):
            if reached():
                return
            if not self.step():
                raise Stuck(f"nothing is left that could happen\n{self.waiting()}")
        if not reached():
            raise Stuck(f"not reached after {limit} steps\n{self.waiting()}")

    # How a life ends.

    def power_cut(self) -> "World":
        """The mains fail: what was not flushed survives in any part, in any order."""
        self.note("power cut")
        for player in self.players:
            player.power_lost(self.choose, self.torn_writes)
        return self._next_life(self.clock.rebooted(OUTAGE_NS))

    def kill(self) -> "World":
        """The service dies, the disks live on: completed requests are kept, each of those in
        flight happens or not."""
        self.note("service killed")
        for player in self.players:
            player.service_killed(self.choose)
        return self._next_life(self.clock)

    def _next_life(self, clock: SimulatedClock) -> "World":
        following = World(self.choose, torn_writes=self.torn_writes)
        following.clock = clock
        following.players = self.players
        following.log = self.log
        self.alive = False
        for player in following.players:
            player.enter(following)
        self.pending = []
        self._posts.clear()
        self._timers.clear()
        return following

    # For people.

    def note(self, event: str) -> None:
        """Put a line into the story."""
        self.log.append((self.clock.monotonic_ns(), event, 0, -1))

    def story(self) -> str:
        """The last events, one a line, for the message of a failing test."""
        return "\n".join(
            f"{nanoseconds / 1e9:12.6f}  {event}"
            + (f" {offset:#x}+{length:#x}" if length >= 0 else "")
            for nanoseconds, event, offset, length in self.log
        )

    def waiting(self) -> str:
        """What is pending, one a line."""
        lines = [f"post {getattr(action, '__qualname__', action)}" for action in self._posts]
        lines += [str(event) for event in self.pending]
        for player in self.players:
            lines += player.waiting()
        lines += [
            f"timer at {timer.due / 1e9:.6f}: {getattr(timer.action, '__qualname__', timer.action)}"
            for timer in sorted(self._timers)
            if timer.action is not None
        ]
        shown = lines[:40] + ([f"… and {len(lines) - 40} more"] if len(lines) > 40 else [])
        return "\n".join(shown) if shown else "nothing is pending"
