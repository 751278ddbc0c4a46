"""A host that does one small thing again and again, and knows how long each took."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Heartbeat:
    """`action` over and over on a thread of its own; `seconds` are the times it took."""

    def __init__(self, action: Callable[[], object], pause: float = 0.005) -> None:
        self.seconds: list[float] = []
        self.error: Exception | None = None
        self._action = action
        self._pause = pause
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._pause):
            began = time.monotonic()
            try:
                self._action()
            except Exception as error:
                self.error = error
                return
            self.seconds.append(time.monotonic() - began)

    @property
    def longest(self) -> float:
        return max(self.seconds)

    def end(self) -> None:
        self._ended.set()
        self._thread.join(60)

    def check(self, count: int, longest: float) -> None:
        """It beat so often, and never took longer."""
        assert self.error is None, self.error
        assert len(self.seconds) >= count
        assert self.longest < longest, f"one took {self.longest:.2f} s"


@contextlib.contextmanager
def heartbeat(action: Callable[[], object], pause: float = 0.005) -> Iterator[Heartbeat]:
    beating = Heartbeat(action, pause)
    try:
        yield beating
    finally:
        beating.end()
