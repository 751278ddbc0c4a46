"""Long work on a volume, as people watch it: baseline, resync, restore, fold.

A job belongs to one volume, which runs one at a time.  Its counters only
grow.  `bytes_total` is all that is done or foreseen: it grows as more work is
found, and shrinks where some turns out not to be needed; in the end it is what
was done.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from appliance.cdp.interfaces import Clock
from appliance.cdp.tasks import Completion, Task

JobKind = Literal["baseline", "full", "resync", "verify", "restore"]
Result = Literal["done", "cancelled", "interrupted", "failed"]
"""`interrupted`: the service stops or a disk is lost; what is owed goes on later by itself."""

RATE_WINDOW_NS = 10_000_000_000
"""Rates are taken over this much of the recent past, so that an estimate follows the load."""


@dataclass(slots=True)
class Job:
    """What runs, how far it is, and how it ended.

    `finished` succeeds when the job has ended, however it ended; `result` and
    `error` tell how.  `phase` is one word for people.
    """

    number: int
    kind: JobKind
    volume: str
    clock: Clock
    phase: str = "starting"
    bytes_total: int = 0
    bytes_scanned: int = 0
    bytes_different: int = 0
    bytes_copied: int = 0
    bytes_revised: int = 0
    """Looked at once more, for they had been read different."""
    started_ns: int = 0
    """Wall-clock time, for people."""
    ended_ns: int | None = None
    result: Result | None = None
    error: Exception | None = None
    finished: Completion[None] = field(default_factory=Completion)
    task: Task[None] | None = None
    on_pause: Callable[[bool], None] = lambda paused: None
    """Told when a person holds the job, or lets it go on."""
    _stopping: bool = False
    _interrupted: bool = False
    must_end: bool = False
    """What it has begun is worth nothing by halves: people do not cancel it any more."""
    _gate: Completion[None] | None = None
    _samples: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=64))

    def __post_init__(self) -> None:
        self.started_ns = self.clock.wall_ns()
        self.time_anew()

    @property
    def bytes_done(self) -> int:
        """How much of `bytes_total` is behind us: each byte is scanned once, and if it differs
        looked at again, and copied."""
        return self.bytes_scanned + self.bytes_revised + self.bytes_copied

    def advance(
        self, *, scanned: int = 0, revised: int = 0, different: int = 0, copied: int = 0
    ) -> None:
        """Count bytes as done."""
        self.bytes_scanned += scanned
        self.bytes_revised += revised
        self.bytes_different += different
        self.bytes_copied += copied
        now = self.clock.monotonic_ns()
        if now - self._samples[-1][0] > RATE_WINDOW_NS // 64:
            self._samples.append((now, self.bytes_done))

    def time_anew(self) -> None:
        """The rate is taken from here: what was counted before tells nothing of it."""
        self._samples.clear()
        self._samples.append((self.clock.monotonic_ns(), self.bytes_done))

    def eta_seconds(self) -> float | None:
        """Seconds to the end at the recent rate; None while that is unknown, and while held."""
        now = self.clock.monotonic_ns()
        while len(self._samples) > 1 and now - self._samples[0][0] > RATE_WINDOW_NS:
            self._samples.popleft()
        if self.result is not None or self.paused:
            return None
        then, done_then = self._samples[0]
        if not then < now <= then + RATE_WINDOW_NS or self.bytes_done <= done_then:
            return None  # nothing is known of the recent past: it was held, say
        rate = (self.bytes_done - done_then) / (now - then)
        return max(0, self.bytes_total - self.bytes_done) / rate / 1e9

    def end(self, result: Result, error: Exception | None = None) -> None:
        self.result, self.error = result, error
        self.ended_ns = self.clock.wall_ns()
        self.phase = result
        self.finished.succeed(None)

    @property
    def paused(self) -> bool:
        return self._gate is not None

    @property
    def is_held(self) -> bool:
        """Is it paused, and not about to end all the same?"""
        return self.paused and not self._stopping

    def pause(self) -> None:
        """Hold at the next step; idempotent."""
        if self._gate is None:
            self._gate = Completion()
            self.on_pause(True)

    def go_on(self) -> None:
        """Idempotent."""
        gate, self._gate = self._gate, None
        if gate is not None:
            self.on_pause(False)
            self.time_anew()
            gate.succeed(None)

    async def step(self) -> None:
        """Where the work may be held: between two steps, with no lock taken."""
        while self._gate is not None:
            await self._gate

    def cancel(self) -> None:
        """Stop at the next step; what was done stays done.  Once: it may have to tidy up."""
        if self.task is not None and not self._stopping:
            self._stopping = True
            self.task.cancel()

    def interrupt(self) -> None:
        """Stop as `cancel` does, though nobody wanted it: the work is still owed.  Nothing if it is
        stopping already: what a person has cancelled stays so."""
        if not self._stopping:
            self._interrupted = True
            self.cancel()

    @property
    def stopped(self) -> Result:
        """What a job that was stopped is called."""
        return "interrupted" if self._interrupted else "cancelled"
