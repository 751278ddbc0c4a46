"""How far a scan of everything is: the next checkpoint keeps it, a restart goes on there.

Baseline and resync need no such note: the out-of-sync bitmap is theirs.  That a person holds
them is kept in the chain.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from appliance.cdp.extents import EMPTY, Extents, widen


class ScanKind(IntEnum):
    FULL = 1
    VERIFY = 2


class Phase(IntEnum):
    """Of a scan, in their order; the names are shown to people."""

    SCANNING = 1
    REVISING = 2
    COPYING = 3


@dataclass(slots=True)
class SyncProgress:
    """`cursor`, `different` and `copied` are bytes; everything before `cursor` was compared, and
    `compare` is what differed or was unreadable there, or has not been copied yet."""

    kind: ScanKind
    phase: Phase = Phase.SCANNING
    paused: bool = False
    cursor: int = 0
    different: int = 0
    copied: int = 0
    compare: Extents = field(default=EMPTY, compare=False)


def limited(compare: Extents, count: int) -> Extents:
    """A superset of at most so many extents: what is listed needlessly is only looked at again."""
    unit, found = 8, compare
    while len(found.starts) > count:
        unit *= 4
        found = widen(compare, unit)
    return found
