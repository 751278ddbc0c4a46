"""What was changed on the secondary behind the appliance's back, sector by sector.

Each change has a tag of its own, which nothing else ever holds: so whatever is
read tells which change it comes from, and the medium tells which of them have
been written over since.
"""

import numpy as np

from appliance.cdp.interfaces import SECTOR
from appliance.simulated.medium import Medium
from tests.simulation.oracle import Tags, bytes_of

_MARK = np.uint64(1 << 62)
"""No other tag has this bit."""


class Spoil:
    """One sector of the secondary, `place`, that held `sector` of the volume at some point."""

    __slots__ = ("tag", "sector", "place", "in_base", "found", "mended", "before")

    def __init__(self, tag: int, sector: int, place: int, in_base: bool, before: bytes) -> None:
        self.tag = tag
        self.sector = sector
        self.place = place
        self.in_base = in_base
        self.found = False
        """A scan that looked at it has ended."""
        self.mended = False
        """Though who had read it just before, to write around it, may have put it back."""
        self.before = before


class Spoils:
    """Of one secondary."""

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._by_tag: dict[int, Spoil] = {}
        self._all: list[Spoil] = []

    def spoil(self, sector: int, place: int, in_base: bool) -> None:
        """Change what answers for a sector of the volume; nothing if that is spoiled already."""
        before = self._held(place)
        if int.from_bytes(before[:8], "little") in self._by_tag:
            return
        tag = int(_MARK) | self.count << 16 | sector + 1
        spoil = self._by_tag[tag] = Spoil(tag, sector, place, in_base, before)
        self._all.append(spoil)
        self._medium.change_behind(place * SECTOR, bytes_of(np.array([tag], np.uint64)))

    def mend(self, spoil: Spoil) -> None:
        """It was a cable: it reads right again."""
        if self.lives(spoil):
            self._medium.change_behind(spoil.place * SECTOR, spoil.before)
        spoil.mended, spoil.found = True, False

    def lives(self, spoil: Spoil) -> bool:
        """Has nobody written over it?"""
        held = int.from_bytes(self._held(spoil.place)[:8], "little")
        return held == spoil.tag

    def living(self) -> list[Spoil]:
        return [spoil for spoil in self._by_tag.values() if self.lives(spoil)]

    @property
    def count(self) -> int:
        """How many there were, mended ones too."""
        return len(self._all)

    def since(self, count: int) -> list[Spoil]:
        """Those behind the first `count`."""
        return self._all[count:]

    def seen_in(self, content: Tags) -> dict[int, Spoil]:
        """Which sectors of a content come from a change, and from which."""
        marked = np.flatnonzero(content & _MARK)
        return {
            sector: self._by_tag[tag]
            for sector, tag in zip(marked.tolist(), content[marked].tolist(), strict=True)
            if tag in self._by_tag
        }

    def _held(self, place: int) -> bytes:
        return bytes(self._medium.view[place * SECTOR : (place + 1) * SECTOR])
