"""Threads for the disk operations that kernel AIO has not, or not without waiting.

Each disk has lanes of its own: a disk that hangs keeps its own threads and
nobody else's.  They are daemons, since nobody could wait for a thread inside
a hanging disk when the service stops.
"""

import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], int]


class Lanes:
    """Runs work on up to `count` threads; results are fetched when `eventfd` tells.

    Work returns the bytes it moved and raises OSError; a result is that
    number, or the errno below zero, as kernel AIO gives it.
    """

    def __init__(self, name: str, count: int, eventfd: int) -> None:
        self.count = count
        self._name = name
        self._eventfd = eventfd
        self._waiting: SimpleQueue[tuple[int, Work] | None] = SimpleQueue()
        self._results: deque[tuple[int, int]] = deque()
        self._threads: list[threading.Thread] = []

    def start(self, token: int, work: Work) -> None:
        """Run `work` on a thread; `token` comes back with its result."""
        if len(self._threads) < self.count:
            self._threads.append(threading.Thread(target=self._run, name=self._name, daemon=True))
            self._threads[-1].start()
        self._waiting.put((token, work))

    def results(self) -> list[tuple[int, int]]:
        """Token and result of what has finished since the last call."""
        finished: list[tuple[int, int]] = []
        with contextlib.suppress(IndexError):
            while True:
                finished.append(self._results.popleft())
        return finished

    def end(self) -> None:
        """Wait until the threads have finished what was started, and gone."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (started := self._waiting.get()) is not None:
            token, work = started
            try:
                result = work()
            except OSError as error:
                result = -(error.errno or errno.EIO)
            self._results.append((token, result))
            os.eventfd_write(self._eventfd, 1)
