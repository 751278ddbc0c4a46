"""Telling that hosts were refused, without letting who is refused fill the log."""

from collections.abc import Callable
from typing import Final

from appliance import events
from appliance.events import Emit
from appliance.loop import LoopTimer

TOLD_AT_MOST: Final = 5
"""Refusals that are told one by one, in each `MINUTE`."""
MINUTE: Final = 60.0


class Refusals:
    """Tells each new one of a minute, a few at most, and at its end how many more there were.

    `after` is the loop's.
    """

    def __init__(self, emit: Emit, after: Callable[[float, Callable[[], None]], LoopTimer]) -> None:
        self._emit = emit
        self._after = after
        self._told: set[tuple[str, str]] = set()
        self._untold = 0
        self._minute: LoopTimer | None = None

    def tell(self, host: str, reason: str) -> None:
        """`host` was refused."""
        if self._minute is None:
            self._minute = self._after(MINUTE, self._sum_up)
        if (host, reason) in self._told or len(self._told) >= TOLD_AT_MOST:
            self._untold += 1
        else:
            self._told.add((host, reason))
            self._emit(events.HOST_REFUSED, host=host, reason=reason)

    def close(self) -> None:
        """Tell what is left to tell; idempotent."""
        if self._minute is not None:
            self._minute.cancel()
            self._sum_up()

    def _sum_up(self) -> None:
        self._minute = None
        self._told.clear()
        untold, self._untold = self._untold, 0
        if untold:
            self._emit(events.HOSTS_REFUSED, count=untold)
