"""How fast a line takes bytes.

What the kernel has taken cannot be taken back: at 9600 baud a few kilobytes
would go on for seconds after ^C.  So it gets only what leaves within
`AHEAD_SECONDS`, reckoned from the speed of the line, since a pseudo-terminal
or a buffer behind a USB adapter does not tell how much waits in it.
"""

from typing import Final

BITS_A_BYTE: Final = 10
"""On the wire, with start and stop bit."""
AHEAD_SECONDS: Final = 0.04
AHEAD_LEAST: Final = 16


class Pacer:
    """Times are seconds of one monotonic clock."""

    def __init__(self, baud: int) -> None:
        self._rate = baud / BITS_A_BYTE
        self._most = max(AHEAD_LEAST, int(self._rate * AHEAD_SECONDS))
        self._waiting = 0.0
        self._then = 0.0

    def room(self, now: float, unsent: int) -> int:
        """Bytes that may be handed over now; `unsent` is what the kernel owns to have."""
        self._waiting = max(0.0, self._waiting - (now - self._then) * self._rate)
        self._then = now
        return max(0, self._most - max(int(self._waiting), unsent))

    def sent(self, count: int) -> None:
        """So many were handed over just now."""
        self._waiting += count

    @property
    def pause(self) -> float:
        """Seconds until there is room again, about half of all."""
        return self._most / self._rate / 2
