"""The health of attached disks: asked on arrival, then again and again, one disk at a time.

Nothing of it happens on the loop's thread but the reading of a finished
answer.  A disk that hangs may hold its `smartctl` for ever: it is killed, left
alone once its time is over, and its disk is not asked again before it ends.
A disk that is being opened is left alone, too.
"""

import os
import signal
import subprocess
from collections import deque
from contextlib import suppress
from typing import IO, Final

from appliance import events
from appliance.cdp.tasks import Completion, Task
from appliance.drivers import smart
from appliance.drivers.smart import Health
from appliance.loop import Action, Loop
from appliance.service.bays import Bay, Bays

PERIOD_SECONDS: Final = 1800.0
LIMIT_SECONDS: Final = 30.0
BUSY_SECONDS: Final = 5.0
"""A disk that is being opened is asked so much later."""
ANSWER_MAXIMUM: Final = 4 << 20
END_SECONDS: Final = 0.5


class HealthWatch:
    """Keeps `Bay.health`, and tells when a disk turns failing; until `close`."""

    def __init__(
        self, loop: Loop, bays: Bays, emit: events.Emit, limit: float = LIMIT_SECONDS
    ) -> None:
        self._loop = loop
        self._bays = bays
        self._emit = emit
        self._limit = limit
        self._queue: deque[Bay] = deque()
        self._work: Task[None] | None = None
        self._askings: dict[str, Asking] = {}
        """By the disk's node, as long as smartctl runs."""
        self._closed = False
        bays.on_arrived = self._enqueue

    def close(self) -> None:
        """Ask nothing any more; idempotent."""
        self._closed = True
        self._queue.clear()
        for asking in list(self._askings.values()):
            asking.close()

    def _enqueue(self, bay: Bay) -> None:
        if bay.attached and not self._closed:
            self._queue.append(bay)
            if self._work is None or self._work.finished:
                self._work = Task(self._ask_all())

    async def _ask_all(self) -> None:
        while self._queue:
            await self._ask(self._queue.popleft())

    async def _ask(self, bay: Bay) -> None:
        await self._bays.looked_at(bay)
        if not bay.attached:
            return
        if bay.opening:
            self._loop.after(BUSY_SECONDS, lambda: self._enqueue(bay))
            return
        self._note(bay, await self._health(bay.found.identity.node))
        self._loop.after(PERIOD_SECONDS, lambda: self._enqueue(bay))

    async def _health(self, node: str) -> Health:
        if node in self._askings:
            return Health(reason="it does not answer")
        started = await self._loop.offload(lambda: smart.start(node))
        if isinstance(started, Health):
            return started
        asking = Asking(self._loop, started, self._limit, lambda: self._forget(node))
        self._askings[node] = asking
        if self._closed:
            asking.close()
        return await asking.answer

    def _forget(self, node: str) -> None:
        del self._askings[node]

    def _note(self, bay: Bay, health: Health) -> None:
        """One that sleeps is as it was when it was asked last."""
        before = bay.health.verdict
        if health.asleep and before != "unknown":
            return
        bay.health = health
        if health.verdict == "failing" and before != "failing" and bay.attached:
            self._emit(events.DISK_FAILING, disk=bay.id, reason=health.reason)


class Asking:
    """A smartctl that runs: its `answer` comes in `limit` seconds at the latest.

    `ended` is called when the process is gone, which may be later.
    """

    def __init__(
        self,
        loop: Loop,
        process: "subprocess.Popen[bytes]",
        limit: float,
        ended: Action,
    ) -> None:
        assert process.stdout is not None
        self.answer: Completion[Health] = Completion()
        self._loop = loop
        self._process = process
        self._pipe: IO[bytes] = process.stdout
        self._ended = ended
        self._output = bytearray()
        self._reading = True
        self._over = os.pidfd_open(process.pid)
        os.set_blocking(self._pipe.fileno(), False)
        loop.register(self._pipe.fileno(), self._read)
        loop.register(self._over, self._reap)
        self._timer = loop.after(limit, lambda: self._give_up(f"it did not answer in {limit:g} s"))

    def close(self) -> None:
        """Kill it, and wait a little for its end."""
        self._give_up("the service stops")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self._forget()

    def _read(self) -> None:
        data = os.read(self._pipe.fileno(), ANSWER_MAXIMUM)
        self._output += data
        if not data:
            self._stop_reading()
        elif len(self._output) > ANSWER_MAXIMUM:
            self._give_up("smartctl's answer has no end")

    def _reap(self) -> None:
        """It has ended; what it wrote last may be in the pipe still."""
        status = self._process.wait()
        if not self.answer.finished:
            with suppress(BlockingIOError):
                while self._reading and len(self._output) <= ANSWER_MAXIMUM:
                    self._read()
        self._forget()
        self._tell(smart.read_report(bytes(self._output), status))

    def _give_up(self, reason: str) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._stop_reading()
        self._tell(Health(reason=reason))

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.unregister(self._pipe.fileno())
            self._pipe.close()

    def _forget(self) -> None:
        self._stop_reading()
        self._timer.cancel()
        if self._over >= 0:
            self._loop.unregister(self._over)
            os.close(self._over)
            self._over = -1
            self._ended()

    def _tell(self, health: Health) -> None:
        self._timer.cancel()
        if not self.answer.finished:
            self.answer.succeed(health)
