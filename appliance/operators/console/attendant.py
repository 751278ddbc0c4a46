"""Brings a line, a clock, the service and the machine together, on the loop.

A line that goes (a hang-up, an adapter pulled) logs out whoever was there and
is opened again, after a pause that grows to `PAUSE_LONGEST` seconds.
"""

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from appliance.errors import LineUnusable
from appliance.loop import Loop, LoopTimer
from appliance.operators.console.clerk import Clerk
from appliance.operators.console.conversation import Note
from appliance.operators.console.machine import Abandon, Console, Errand
from appliance.operators.console.pacing import Pacer

TICK_SECONDS: Final = 1.0
PAUSE_FIRST: Final = 1.0
PAUSE_LONGEST: Final = 30.0
_log = logging.getLogger("ebbtide.console")


class Line(Protocol):
    """Met by `appliance.drivers.serial_line`; every call raises LineUnusable once it has gone."""

    def fileno(self) -> int: ...
    def read(self) -> bytes: ...
    def write(self, data: bytes) -> int: ...
    def unsent(self) -> int: ...
    def close(self) -> None: ...


class Attendant:
    """Serves the line that `open_line` opens, from `start` to `close`."""

    def __init__(
        self,
        loop: Loop,
        console: Console,
        clerk: Clerk,
        open_line: Callable[[], Line],
        pacer: Pacer,
    ) -> None:
        self._loop = loop
        self._console = console
        self._clerk = clerk
        self._open_line = open_line
        self._pacer = pacer
        self._line: Line | None = None
        self._taken = b""
        self._pumping: LoopTimer | None = None
        self._ticking: LoopTimer | None = None
        self._pause = PAUSE_FIRST
        self._told = ""

    def start(self) -> None:
        self._open()
        self._tick()

    def close(self) -> None:
        """Idempotent."""
        if self._ticking is not None:
            self._ticking.cancel()
        self._let_go()

    def answered(self, number: int, reply: object) -> None:
        """On the loop's thread."""
        assert isinstance(reply, dict | Exception)
        self._console.answered(number, reply, time.monotonic())
        self._go_on()

    def progressed(self, number: int, job: dict[str, object]) -> None:
        """On the loop's thread."""
        self._console.progressed(number, job, time.monotonic())
        self._go_on()

    def _open(self) -> None:
        try:
            line = self._open_line()
        except LineUnusable as error:
            self._tell(error)
            self._loop.after(self._pause, self._open)
            self._pause = min(2 * self._pause, PAUSE_LONGEST)
            return
        _log.info("the line is open")
        self._told = ""
        self._line = line
        self._loop.register(line.fileno(), self._readable)
        self._console.connect(time.monotonic())
        self._go_on()

    def _readable(self) -> None:
        assert self._line is not None
        try:
            data = self._line.read()
        except LineUnusable as error:
            self._lose(error)
            return
        if data:
            self._pause = PAUSE_FIRST
            self._console.feed(data, time.monotonic())
            self._go_on()

    def _tick(self) -> None:
        self._console.tick(time.monotonic())
        self._go_on()
        self._ticking = self._loop.after(TICK_SECONDS, self._tick)

    def _go_on(self) -> None:
        """Have done what the machine wants done."""
        while self._console.orders:
            order = self._console.orders.popleft()
            match order:
                case Abandon():
                    self._clerk.abandon()
                case Note():
                    self._clerk.note(order)
                case Errand():
                    self._clerk.ask(order)
        if self._pumping is None:
            self._pump()

    def _pump(self) -> None:
        self._pumping = None
        if self._line is None:
            return
        try:
            if not self._taken:
                room = self._pacer.room(time.monotonic(), self._line.unsent())
                self._taken = self._console.take(room)
            if self._taken:
                count = self._line.write(self._taken)
                self._pacer.sent(count)
                self._taken = self._taken[count:]
        except LineUnusable as error:
            self._lose(error)
            return
        if self._taken or self._console.waits_for_room:
            self._pumping = self._loop.after(self._pacer.pause, self._pump)

    def _lose(self, error: LineUnusable) -> None:
        self._tell(error)
        self._let_go()
        self._loop.after(self._pause, self._open)
        self._pause = min(2 * self._pause, PAUSE_LONGEST)

    def _let_go(self) -> None:
        line, self._line = self._line, None
        if line is None:
            return
        self._loop.unregister(line.fileno())
        line.close()
        self._taken = b""
        self._console.hang_up()
        self._go_on()

    def _tell(self, error: LineUnusable) -> None:
        """Once, as long as it stays the same."""
        if str(error) != self._told:
            self._told = str(error)
            _log.warning("%s: %s", error.code, error)
