"""One kernel queue for all disks on a loop.

What disks add in a turn gathers, and goes to the kernel in one system call
after the posts that are waiting: both legs of a write cost one call, and one
tells of both completions.  A long batch goes at once: the disk works on it
while the rest is prepared.

Invariants:

* A disk joins with the most requests that it will ever have in flight, and
  counts them itself: the kernel's queue is never full, whatever a hanging disk
  still holds of it.
* A token never comes twice: a completion reaches the opening of the disk that
  it belongs to, however late it is.
* Results are told from the loop, never while requests are added.
"""

import errno
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final, Protocol

from appliance.cdp.interfaces import Post
from appliance.drivers.kernel_aio import Batch, KernelAio

PLACES: Final = 4096
"""Requests in flight on all disks together: some forty disks, each with a hundred."""
LONG: Final = 8
"""Requests from which on a batch does not wait for more."""
_TOKEN_BITS: Final = 40
"""Of a token, for the requests of one opening of a disk; those above say which opening."""

OnResult = Callable[[int, int], None]
"""Takes a token, and the bytes moved or an errno below zero."""


class DiskLoop(Post, Protocol):
    """What disks need of the loop.

    In a turn, callbacks of descriptors run before timers: a loop that was held
    up sees what a disk completed meanwhile before it sees the deadline.
    """

    def register(self, fd: int, on_readable: Callable[[], None] | None) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def report(self, error: Exception) -> None: ...


class KernelQueue:
    """See the module.  It is open while a disk is in it."""

    def __init__(self, loop: DiskLoop) -> None:
        self.loop = loop
        self._openings = count(1)
        self._tell: dict[int, OnResult] = {}
        self._places: dict[int, int] = {}
        """Both by the opening."""
        self._free = PLACES
        self._aio: KernelAio | None = None
        self._eventfd = -1
        self._batch: Batch | None = None

    def join(self, places: int, on_result: OnResult) -> int:
        """Have at most so many requests in flight; the tokens of this opening begin there.

        Raises OSError: EAGAIN when there is no room, here or in the machine's fs.aio-max-nr.
        """
        if places > self._free:
            raise OSError(errno.EAGAIN, "too many disks are open")
        if self._aio is None:
            eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            try:
                self._aio = KernelAio(PLACES, eventfd)
            except OSError:
                os.close(eventfd)
                raise
            self._eventfd = eventfd
            self.loop.register(eventfd, self._collect)
        self._free -= places
        opening = next(self._openings)
        self._tell[opening], self._places[opening] = on_result, places
        return opening << _TOKEN_BITS

    def leave(self, first_token: int) -> None:
        """Nothing of that opening is in flight any more."""
        opening = first_token >> _TOKEN_BITS
        del self._tell[opening]
        self._free += self._places.pop(opening)
        if not self._tell:
            assert self._aio is not None
            self.loop.unregister(self._eventfd)
            threading.Thread(target=_bury, args=(self._aio, self._eventfd), daemon=True).start()
            self._aio = None

    def batch(self) -> Batch:
        """What goes to the kernel in this turn; add to it now, and ask for it again later."""
        batch = self._batch
        if batch is None:
            assert self._aio is not None
            batch = self._batch = self._aio.batch()
            self.loop.post(self._give_to_kernel)
        return batch

    def added(self, batch: Batch) -> None:
        """Nothing is added now to the batch that `batch` gave."""
        if len(batch.tokens) >= LONG:
            self._give_to_kernel()

    def _give_to_kernel(self) -> None:
        batch, self._batch = self._batch, None
        if batch is None:
            return  # it was long, and has gone
        assert self._aio is not None
        tokens = batch.tokens
        batch.given = time.monotonic()
        taken = 0
        while taken < len(tokens):
            try:
                taken += self._aio.submit(taken, len(tokens) - taken)
            except OSError as error:
                # The kernel refuses only the first of what it is given; the rest is tried on.
                token, number = tokens[taken], -(error.errno or errno.EIO)
                self.loop.post(partial(self._tell[token >> _TOKEN_BITS], token, number))
                taken += 1

    def _collect(self) -> None:
        os.eventfd_read(self._eventfd)
        assert self._aio is not None
        tell = self._tell
        for token, result in self._aio.completions():
            tell[token >> _TOKEN_BITS](token, result)


def _bury(aio: KernelAio, eventfd: int) -> None:
    """It takes the kernel tens of milliseconds."""
    aio.destroy()
    os.close(eventfd)
