"""A secondary that cannot keep up with its hosts is gone on without: the host comes first.

Under PRIMARY a host waits for the secondary only where what lags fills its
memory, or holds every intent that a slot takes.  A burst is absorbed so, and
a host that is a little faster than its secondary is slowed down a little.  Who
is held back for much longer than that is not: the secondary counts as too
slow, and as lost.  It comes back as any other that was, through its media and
a resync, and is held off for longer each time that it fails soon.
"""

from errno import ETIMEDOUT
from typing import Final

from appliance import events
from appliance.cdp.interfaces import Timer
from appliance.cdp.policies import Ack
from appliance.cdp.volume import Volume

PATIENCE_SECONDS: Final = 1.0
"""Hosts wait so long for their secondary ..."""
RELIEF: Final = 4
"""... where so many seconds without waiting make good for one of it."""


class Overload:
    """Of one volume.  Told by its write path when writes begin to be held back, and when they go
    on."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._waited_ns = 0
        self._since_ns = 0
        """Since when it is as it is: held back, or not."""
        self._timer: Timer | None = None

    def held_back(self, held: bool) -> None:
        """`held`: it begins; else it ends."""
        now = self._volume.clock.monotonic_ns()
        passed, self._since_ns = now - self._since_ns, now
        if held:
            self._waited_ns = max(0, self._waited_ns - passed // RELIEF)
            left = PATIENCE_SECONDS - self._waited_ns / 1e9
            self._timer = self._volume.post.after(max(0.0, left), self._too_slow)
        else:
            self._waited_ns += passed
            if self._timer is not None:
                self._timer.cancel()

    def _too_slow(self) -> None:
        volume, path = self._volume, self._volume.path
        self._waited_ns, self._since_ns = 0, volume.clock.monotonic_ns()
        if path is None or path.journal is None or volume.secondary is None:
            return  # it is gone already
        if path.ack is not Ack.PRIMARY:
            return
        volume.emit(events.SECONDARY_SLOW, volume=volume.name, seconds=PATIENCE_SECONDS)
        path.lose_secondary(OSError(ETIMEDOUT, "it is too slow for what hosts write"))
