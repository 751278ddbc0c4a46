"""Polled contacts made into presses and releases.

There is no interrupt line: somebody reads which keys are down every few
milliseconds, and contacts bounce.  A key counts once it has read the same for
`SETTLE_SECONDS`.  A key that was down when nobody was watching (at the start,
while the panel was unplugged, while the process stood still) is not believed
until it has been seen up; so is one that has been down for longer than any
finger, which is reported as stuck.
"""

from typing import Final

from appliance.glass import Key

SETTLE_SECONDS: Final = 0.025
WATCH_SECONDS: Final = 0.5
"""Two readings further apart are not watching."""
STUCK_SECONDS: Final = 20.0

Edge = tuple[Key, bool]
"""A key, and whether it went down."""


class Keypad:
    """Feed it every reading, in order.  `trusted` keys are pressed by ourselves: they only have to
    settle."""

    def __init__(self, trusted: bool = False) -> None:
        self._trusted = trusted
        self._read_at: float | None = None
        self._raw: dict[Key, tuple[bool, float]] = {}
        """What each key reads, and since when."""
        self._down: set[Key] = set()
        self._disbelieved: set[Key] = set()
        self._stuck: set[Key] = set()

    @property
    def stuck(self) -> frozenset[Key]:
        return frozenset(self._stuck)

    def read(self, down: frozenset[Key], now: float) -> list[Edge]:
        """These keys read as down: what that changes, releases first."""
        edges: list[Edge] = []
        if not self._trusted and not self._is_watching(now):
            edges = self.lose()
        self._read_at = now
        for key in Key:
            reads, since = self._raw.get(key, (None, now))
            if reads is not (key in down):
                reads, since = key in down, now
                self._raw[key] = reads, since
            if now - since < SETTLE_SECONDS:
                continue
            if not reads:
                self._disbelieved.discard(key)
                self._stuck.discard(key)
                if key in self._down:
                    self._down.discard(key)
                    edges.append((key, False))
            elif now - since >= STUCK_SECONDS and not self._trusted:
                self._stuck.add(key)
                self._disbelieved.add(key)
                if key in self._down:
                    self._down.discard(key)
                    edges.append((key, False))
            elif key not in self._down and key not in self._disbelieved:
                self._down.add(key)
                edges.append((key, True))
        return sorted(edges, key=lambda edge: edge[1])

    def lose(self) -> list[Edge]:
        """Nobody watches the keys: all are let go."""
        released = [(key, False) for key in Key if key in self._down]
        self._down.clear()
        self._raw.clear()
        self._disbelieved = set(Key)
        self._read_at = None
        return released

    def _is_watching(self, now: float) -> bool:
        return self._read_at is not None and now - self._read_at <= WATCH_SECONDS
