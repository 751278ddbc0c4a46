"""How much payload hosts may have in flight, over all connections together.

A request's payload counts from the moment its memory is taken until it is
given back: a WRITE's until it completes, a READ's until the host has taken
the answer.  A session that finds no room stops reading its socket and queues
here; those that wait are served in turn, so that a large request is not
starved by small ones.
"""

from collections.abc import Callable
from typing import Final

from appliance.hosts.nbd.wire import LARGEST_REQUEST

PAYLOAD_LIMIT: Final = 128 << 20
"""Bytes of payload in flight over all connections."""


class Budget:
    """`used` of `limit` bytes; `share` is the most that one connection may hold.

    `wake` is called, possibly often, when there may be room for somebody who
    waits; its receiver calls `admit` later in the same turn.
    """

    def __init__(self, wake: Callable[[], None], limit: int = PAYLOAD_LIMIT) -> None:
        assert limit >= LARGEST_REQUEST, "the largest request must fit"
        self.used = 0
        self.limit = limit
        self.share = max(limit // 2, LARGEST_REQUEST)
        self.wake = wake
        self.waiting: dict[Account, None] = {}
        """In the order of their turns."""

    def admit(self) -> None:
        """Let those that wait go on, in turn, as far as there is room."""
        for account in list(self.waiting):
            if account in self.waiting:
                account.proceed()
            if account in self.waiting:
                return


class Account:
    """One connection's part of the budget; `proceed` lets the connection try again."""

    __slots__ = ("held", "proceed", "_budget")

    def __init__(self, budget: Budget, proceed: Callable[[], None]) -> None:
        self.held = 0
        self.proceed = proceed
        self._budget = budget

    def room(self) -> int:
        """Bytes that may be taken now."""
        return min(self._common_room(), self._budget.share - self.held)

    def take(self, length: int) -> None:
        self.held += length
        self._budget.used += length

    def give_back(self, length: int) -> None:
        budget = self._budget
        self.held -= length
        budget.used -= length
        if budget.waiting:
            budget.wake()

    def wait_for(self, length: int) -> None:
        """There is no room for `length` bytes: queue, unless the connection's own share is full.

        (What frees the own share is the connection's own completions.)
        """
        if length > self._common_room():
            self._budget.waiting.setdefault(self)
        else:
            self.leave()

    def leave(self) -> None:
        """Wait no more; the next one may have its turn.  Does nothing outside the queue."""
        waiting = self._budget.waiting
        if waiting and self in waiting:
            del waiting[self]
            if waiting:
                self._budget.wake()

    def _common_room(self) -> int:
        """None while others were there before."""
        budget = self._budget
        if budget.waiting and next(iter(budget.waiting)) is not self:
            return 0
        return budget.limit - budget.used
