"""The host loop: one thread that owns all state of all volumes.

A turn waits for descriptors, timers and results of offloaded work; then it
runs, in this order and on this thread,

1. the callbacks of every ready descriptor (sockets, and the disks'
   completions, which arrive through eventfds),
2. the timers that are due,
3. posted actions, until none is left, those posted by posted actions included.

So an action posted from a socket's callback sees everything that arrived in
the same turn: that is how requests gather into batches.  Nothing that runs
here may wait for a disk, a peer or a lock.

An exception that a callback lets out goes to `on_error`, and the turn goes on:
one volume's bug must not stop the others.  Without the hook, the first one of
a turn is raised at the turn's end.
"""

import heapq
import itertools
import os
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from appliance.cdp.tasks import Completion

T = TypeVar("T")
Action = Callable[[], None]

OFFLOAD_THREADS = 4
SPIN_SECONDS = 50e-6
SPIN_RARELY = 63
SWEEP_LEAST = 64
_READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR


class LoopTimer:
    """An action due once; `cancel` is idempotent, also after it ran."""

    __slots__ = ("action",)

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    """See the module.  A context manager: leaving it closes the loop."""

    def __init__(self, on_error: Callable[[Exception], None] | None = None) -> None:
        self._on_error = on_error
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._callbacks: dict[int, tuple[Action | None, Action | None]] = {}
        self._posts: deque[Action] = deque()
        self._timers: list[tuple[float, int, LoopTimer]] = []
        self._timer_order = itertools.count()
        self._sweep_at = SWEEP_LEAST
        """So many timers, and the cancelled ones are thrown out."""
        self._foreign: deque[Action] = deque()
        """Actions from other threads; appending and popping are atomic."""
        self._offloaded: SimpleQueue[tuple[Callable[[], Any], Completion[Any]] | None]
        self._offloaded = SimpleQueue()
        self._threads: list[Thread] = []
        self._spin_pause = self._spin_next = 0
        """Turns until the next look before sleeping, and how many after that if it is in vain."""
        self._stopping = False
        self._uncaught: Exception | None = None
        self.register(self._wake, self._run_foreign)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def register(
        self, fd: int, on_readable: Action | None, on_writable: Action | None = None
    ) -> None:
        """Call back in every turn in which `fd` is readable or writable, until told otherwise.

        A second call for the same `fd` replaces the first: a side set to None
        is not waited for.  A hang-up or an error counts as both.
        """
        events = (select.EPOLLIN | select.EPOLLRDHUP if on_readable else 0) | (
            select.EPOLLOUT if on_writable else 0
        )
        self._watch(fd, (on_readable, on_writable), events)

    def register_hang_up(self, fd: int, on_hang_up: Action) -> None:
        """As `register`, for who waits for neither side, and is told once nobody is there."""
        self._watch(fd, (on_hang_up, None), 0)

    def _watch(self, fd: int, callbacks: tuple[Action | None, Action | None], events: int) -> None:
        """epoll tells of hang-ups even to who waits for nothing: without a callback it must not
        watch at all."""
        watched = any(self._callbacks.get(fd, ()))
        self._callbacks[fd] = callbacks
        if any(callbacks) and watched:
            self._epoll.modify(fd, events)
        elif any(callbacks):
            self._epoll.register(fd, events)
        elif watched:
            self._epoll.unregister(fd)

    def unregister(self, fd: int) -> None:
        """Forget `fd`, before it is closed; it is not called back any more, not in this turn."""
        if any(self._callbacks.pop(fd)):
            self._epoll.unregister(fd)

    def post(self, action: Action) -> None:
        """Run `action` in this turn, after the sockets and completions at hand."""
        self._posts.append(action)

    def post_from_thread(self, action: Action) -> None:
        """Run `action` on the loop soon; the one call that any thread may make."""
        self._foreign.append(action)
        os.eventfd_write(self._wake, 1)

    def after(self, seconds: float, action: Action) -> LoopTimer:
        """Run `action` once, that much later."""
        if len(self._timers) >= self._sweep_at:
            # Whoever sets a long timer anew at every request must not fill the memory with the old.
            self._timers[:] = [entry for entry in self._timers if entry[2].action is not None]
            heapq.heapify(self._timers)
            self._sweep_at = max(SWEEP_LEAST, 2 * len(self._timers))
        timer = LoopTimer(action)
        due = time.monotonic() + seconds
        heapq.heappush(self._timers, (due, next(self._timer_order), timer))
        return timer

    def offload(self, work: Callable[[], T]) -> Completion[T]:
        """Run `work` (NumPy and system calls only) on another thread.

        Not for what may hang on a disk or a peer: the threads are few, and
        shared by all volumes, whose scans compare there.
        """
        if self._epoll.closed:
            raise RuntimeError("the loop is closed")
        if len(self._threads) < OFFLOAD_THREADS:
            self._threads.append(Thread(target=self._work, name="offload", daemon=True))
            self._threads[-1].start()
        completion: Completion[T] = Completion()
        self._offloaded.put((work, completion))
        return completion

    def report(self, error: Exception) -> None:
        """Hand an exception to `on_error`, as from a callback that let it out."""
        if self._on_error is not None:
            self._on_error(error)
        elif self._uncaught is None:
            self._uncaught = error

    def run(self) -> None:
        """Turn until `stop`; raises what a callback raised, if there is no `on_error`."""
        while not self._stopping:
            self.turn()
        self._stopping = False

    def stop(self) -> None:
        """End `run`, or the next one, after a turn; fit for a signal handler or another thread."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Wait for offloaded work under way, and let go of everything; idempotent."""
        if not self._epoll.closed:
            with suppress(Empty):
                while True:
                    self._offloaded.get_nowait()
            for _ in self._threads:
                self._offloaded.put(None)
            for thread in self._threads:
                thread.join()
            self._epoll.close()
            os.close(self._wake)

    def turn(self, seconds: float = -1) -> None:
        """One turn, which waits at most that long for something to do; -1: as long as it takes."""
        wait = self._seconds_to_wait()
        if seconds >= 0 and not 0 <= wait <= seconds:
            wait = seconds
        callbacks = self._callbacks
        for fd, events in self._poll(wait):
            # Looked up for each: a callback may have unregistered another descriptor.
            on_readable, on_writable = callbacks.get(fd, (None, None))
            try:
                if events & _READABLE and on_readable is not None:
                    on_readable()
                    if events & _WRITABLE and on_writable is not None and fd in callbacks:
                        on_writable()
                elif on_writable is not None:
                    on_writable()
            except Exception as error:
                self.report(error)
        if self._timers:
            self._run_timers()
        posts = self._posts
        while posts:
            try:
                # The inner loop spares the hot path a `try` for each action.
                while posts:
                    posts.popleft()()
            except Exception as error:
                self.report(error)
        if self._uncaught is not None:
            uncaught, self._uncaught = self._uncaught, None
            raise uncaught

    def _poll(self, wait: float) -> list[tuple[int, int]]:
        """What is ready; looked for a moment longer before the thread goes to sleep.

        While I/O is under way the next event is tens of microseconds off, about
        what waking from sleep costs.  A look that was in vain makes the next
        ones rarer, up to one turn in SPIN_RARELY, so that an idle loop sleeps.
        """
        poll = self._epoll.poll
        ready = poll(0)
        if ready or not wait:
            return ready
        if self._spin_pause:
            self._spin_pause -= 1
            return poll(wait)
        monotonic = time.monotonic
        end = monotonic() + SPIN_SECONDS
        while monotonic() < end:
            ready = poll(0)
            if ready:
                self._spin_next = 0
                return ready
        self._spin_pause = self._spin_next = min(2 * self._spin_next + 1, SPIN_RARELY)
        return poll(wait)

    def _seconds_to_wait(self) -> float:
        if self._posts:
            return 0
        timers = self._timers
        while timers and timers[0][2].action is None:
            heapq.heappop(timers)
        return max(0.0, timers[0][0] - time.monotonic()) if timers else -1

    def _run_timers(self) -> None:
        timers = self._timers
        now = time.monotonic()
        while timers and timers[0][0] <= now:
            action = heapq.heappop(timers)[2]
            run, action.action = action.action, None
            if run is not None:
                try:
                    run()
                except Exception as error:
                    self.report(error)

    def _run_foreign(self) -> None:
        os.eventfd_read(self._wake)
        while self._foreign:
            try:
                self._foreign.popleft()()
            except Exception as error:
                self.report(error)

    def _work(self) -> None:
        """A thread of its own."""
        while (offloaded := self._offloaded.get()) is not None:
            work, completion = offloaded
            try:
                self.post_from_thread(partial(completion.succeed, work()))
            except BaseException as error:
                self.post_from_thread(partial(completion.fail, error))
            # They may hold much memory, and the next work may be long off.
            del offloaded, work, completion
