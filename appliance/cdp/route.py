"""Where the writes of a volume go now: to both disks, or to the primary only.

Everybody on a write's way looks here, and says here that a disk has failed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from appliance.cdp.interfaces import Disk
from appliance.cdp.journal import Journal
from appliance.cdp.policies import Ack


class Mode(IntEnum):
    """Where writes go."""

    JOURNALING = 0
    PAUSED = 1
    """Nothing starts: tracking is being made durable, or the journal has no room."""
    TRACKING = 2
    """To the primary only; the regions are marked out of sync first."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told what becomes of the writes, and answers the write path with `track`, `resume`
    and `retire`."""

    secondary_failed: Callable[[OSError], None]
    primary_failed: Callable[[OSError, int, int], None]
    """Error, and the bytes concerned; none where it is not about data."""
    no_room: Callable[[], None]
    """The journal is full, and writes are PAUSED."""
    crowded: Callable[[], None]
    """The intents nearly fill their slot."""
    held_back: Callable[[bool], None]
    """Writes begin to wait for nothing but what lags under PRIMARY; or they go on."""


class Route:
    """Of one volume.  The write path alone changes `mode`, `secondary` and `journal`."""

    def __init__(self, primary: Disk, watcher: Watcher) -> None:
        self.primary = primary
        self.watcher = watcher
        self.secondary: Disk | None = None
        self.journal: Journal | None = None
        self.mode = Mode.PAUSED
        self.ack = Ack.BOTH
        self.lost = False
        """The secondary has failed, and tracking is not durable yet."""

    @property
    def journals(self) -> bool:
        """Does what has been started go to both disks?  Also while PAUSED for another reason."""
        return self.journal is not None and not self.lost

    def lose_secondary(self, error: OSError) -> None:
        """The secondary failed, here or elsewhere: pause, and tell of it, once."""
        if self.journals:
            self.lost = True
            self.mode = Mode.PAUSED
            self.watcher.secondary_failed(error)
