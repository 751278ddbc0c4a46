"""What must hold of a volume whose secondary changes behind the appliance's back."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from appliance.cdp.extents import Extents, extents
from appliance.cdp.history import History
from appliance.cdp.interfaces import BLOCK, SECTOR
from appliance.cdp.jobs import Job
from appliance.cdp.tasks import Task
from appliance.cdp.volume import Protection
from appliance.errors import (
    DiskFailed,
    EbbtideError,
    FormatDamaged,
    PointInGap,
    PointOutsideWindow,
    PointSuspect,
)
from tests.simulation.findings import Tally
from tests.simulation.oracle import Tags, Violation
from tests.simulation.rig import ReadRefused, Rig
from tests.simulation.spoils import Spoil, Spoils

SECTORS = BLOCK // SECTOR
LOST = np.uint64(0xDEAD)
"""The tag of a sector that cannot be read."""


@dataclass
class Asked:
    """A scan that somebody asked for, and what happened since."""

    kind: Literal["full", "verify"]
    job: Job | None
    wrong: list[Spoil]
    """What the newest point answered wrong with when it began."""
    newest: int
    """That point."""
    lost: set[int]
    """Blocks that it did not answer at all."""
    spoils: int
    """How many changes there had been by then."""
    damages: int
    """How often a fold had found payload that was changed."""
    doubts: int
    """How often what it had lost was doubted: that comes later, perhaps after this was asked."""
    suspect: set[int]
    """Sectors that were suspect for the newest point already."""
    crashed: bool = False
    """Or it was robbed of its secondary: recovery may have mended some of it."""
    written: set[int] = field(default_factory=set)
    """Sectors that hosts have written since."""
    confirmed: list[Spoil] = field(default_factory=list)
    """What it was seen to find, under a lock, before any host wrote there."""


def sectors_of(found: Extents) -> set[int]:
    ends = found.ends.tolist()
    return {
        s for first, end in zip(found.starts.tolist(), ends, strict=True) for s in range(first, end)
    }


def blocks(sectors: Iterable[int]) -> set[int]:
    return {sector // SECTORS for sector in sectors}


class Promises:
    """Of one volume; Violation where one is broken."""

    def __init__(self, rig: Rig, spoils: Spoils, tally: Tally, loses: bool) -> None:
        """`loses`: the secondary is pulled now and then, and so does not answer."""
        self._rig = rig
        self._spoils = spoils
        self._tally = tally
        self._loses = loses

    # Of a scan that has ended

    def doubt_confirmed(self, asked: Asked) -> None:
        """What it has found is in doubt from now on, though hosts have written there since; but
        where its secondary was robbed, or a fold has lost some, that may explain it."""
        rig = self._rig
        known = rig.volume.protection is Protection.PROTECTED and not rig.volume.log.out_of_sync()
        if known and not asked.crashed and not self._lost_meanwhile(asked):
            for spoil in asked.confirmed:
                spoil.found = not spoil.mended

    def hold(self, asked: Asked, job: Job, history: History) -> None:
        """The scan that was asked for is done: it told the truth, and did its work."""
        rig = self._rig
        found = self.content(self.newest(history))
        if found is None or rig.volume.history is not history:
            return
        self._tally.scans += 1
        still = self._spoils.seen_in(found)
        self._hold_figures(asked, job, still)
        if asked.kind == "verify":
            self._hold_verify(asked, history, still)
        else:
            self._hold_full(asked, history, still)
        if not self._spoils.count and history.chain.suspects:
            raise Violation("points are suspect, and nothing was ever changed")

    def _candidates(self, asked: Asked) -> set[int]:
        """Blocks that a scan may rightly find: all, if a fold has lost some meanwhile."""
        if asked.damages != self._rig.damages:
            return set(range(-(-self._rig.sectors // SECTORS)))
        sectors = {spoil.sector for spoil in asked.wrong}
        sectors |= {spoil.sector for spoil in self._spoils.since(asked.spoils)}
        # A fold that had told its damage before may give up whole blocks only now, with sectors
        # that were right: unchecked, the newest point still answered with those.
        for doubted in self._rig.doubted[asked.doubts :]:
            sectors |= sectors_of(doubted)
        return blocks(sectors) | asked.lost

    def _hold_figures(self, asked: Asked, job: Job, still: dict[int, Spoil]) -> None:
        most = len(self._candidates(asked)) * BLOCK
        sure = [spoil for spoil in asked.wrong if self._is_sure(asked, spoil)]
        if asked.kind == "verify":
            sure = [spoil for spoil in sure if still.get(spoil.sector) is spoil]
        least = len(blocks(spoil.sector for spoil in sure)) * BLOCK
        if not least <= job.bytes_different <= most:
            raise Violation(
                f"{asked.kind}: {job.bytes_different} bytes differ, and not {least} to {most}"
            )
        copied = job.bytes_copied
        if asked.kind == "verify" and copied:
            raise Violation(f"a verify has copied {copied} bytes")
        if copied > job.bytes_different:
            raise Violation(f"{copied} bytes were copied, {job.bytes_different} differed")
        # What a fold has lost meanwhile is for the resync behind the scan to copy.
        calm = not asked.written and not asked.crashed and not self._lost_meanwhile(asked)
        if asked.kind == "full" and calm and copied != job.bytes_different:
            raise Violation(f"{copied} bytes copied of {job.bytes_different}")
        if job.bytes_scanned != self._rig.volume.size:
            raise Violation(f"{job.bytes_scanned} bytes scanned of {self._rig.volume.size}")

    def _lost_meanwhile(self, asked: Asked) -> bool:
        rig = self._rig
        return rig.damages != asked.damages or len(rig.doubted) != asked.doubts

    def _is_sure(self, asked: Asked, spoil: Spoil) -> bool:
        """Was it there until the scan found it?"""
        if asked.crashed or self._rig.damages:  # a recovery, or a fold, may have repaired it
            return False
        return spoil.sector not in asked.written and not spoil.mended

    def _hold_verify(self, asked: Asked, history: History, still: dict[int, Spoil]) -> None:
        suspect = sectors_of(history.chain.suspects.open)
        # What was written since is another place; what is there still has been all the while.
        least = {spoil.sector for spoil in asked.wrong if still.get(spoil.sector) is spoil}
        if asked.damages != self._rig.damages or self._rig.volume.log.out_of_sync():
            return  # what a fold has lost is told otherwise, and repaired by a resync
        if least - suspect:
            raise Violation(f"a verify has missed the sectors {sorted(least - suspect)}")
        # Nobody can tell how a sector was that a host wrote meanwhile: the next scan clears it.
        kept = asked.suspect & asked.written
        needless = blocks(suspect - kept) - self._candidates(asked)
        if needless and not asked.crashed:
            raise Violation(f"a verify suspects the blocks {sorted(needless)} needlessly")
        for sector in least:
            still[sector].found = True

    def _hold_full(self, asked: Asked, history: History, still: dict[int, Spoil]) -> None:
        rig = self._rig
        left = [s for s in asked.wrong if still.get(s.sector) is s]
        if left and not rig.volume.log.out_of_sync():
            raise Violation(f"a full scan has left sector {left[0].sector} wrong")
        # Where a fold has lost blocks meanwhile, suspicion stays for the scan behind the resync.
        told = not self._lost_meanwhile(asked) and not rig.volume.log.out_of_sync()
        if told and history.chain.suspects.open:
            raise Violation("after a full scan blocks are suspect for the newest point")
        for spoil in asked.wrong:
            spoil.found |= self._is_sure(asked, spoil)
        if asked.wrong:
            between = rig.oracle.numbers(asked.newest + 1, self.newest(history))
            for number in between[:: max(1, len(between) // 3)]:
                self.look_at(history, number)

    # Of points

    def quiet(self) -> History | None:
        """The history once it has taken all that hosts have written."""
        rig = self._rig
        rig.settle()
        history = rig.volume.history

        def caught_up() -> bool:
            return rig.path.completed_write >= rig.path.next_write - 1

        rig.wait("the journal", lambda: rig.volume.history is not history or caught_up())
        return rig.volume.history

    def newest(self, history: History) -> int:
        """The newest point of which both disks hold everything."""
        return min(history.chain.newest_write, self._rig.path.completed_write)

    def content(self, number: int) -> Tags | None:
        """What a point answers, unchecked, LOST where it does not; None if it has been given up."""
        rig = self._rig
        history = rig.volume.history
        if history is None:
            return None

        async def read() -> Tags:
            hold = history.hold(number, None)
            try:
                reader = history.reader(await history.pit_map(number))
                tags = np.full(rig.sectors, LOST, np.uint64)
                parts = [(0, rig.sectors)]
                while parts:
                    first, behind = parts.pop()
                    extent = extents([first], [behind])
                    try:
                        buffer = await reader.read_extents(extent, checked=False)
                    except FormatDamaged:
                        if behind - first > SECTORS:
                            middle = (first + behind) // 2 // SECTORS * SECTORS
                            parts += [(first, middle), (middle, behind)]
                        continue
                    raw = buffer.array[: (behind - first) * SECTOR].view(np.uint64)
                    tags[first:behind] = raw.reshape(-1, SECTOR // 8)[:, 0]
                    buffer.release()
                return tags
            finally:
                history.let_go(hold)

        try:
            found: Tags = rig.finish("a point", Task(read()))
        except (DiskFailed, FormatDamaged):
            return None
        return found if rig.volume.history is history else None

    def newest_holds(self) -> None:
        """The newest point is the primary, but for what was changed behind our back."""
        rig = self._rig
        history = self.quiet()
        if history is None or rig.volume.protection is not Protection.PROTECTED:
            return
        found = self.content(history.chain.newest_write)
        if found is None or rig.volume.protection is not Protection.PROTECTED:
            return
        content = rig.read(0, rig.sectors)
        self._only_spoils("the newest point", found, content)

    def _only_spoils(self, what: str, found: Tags, truth: Tags) -> dict[int, Spoil]:
        wrong = self._spoils.seen_in(found)
        for sector in np.flatnonzero(found != truth).tolist():
            if sector in wrong or (found[sector] == LOST and self._rig.damage_allowed):
                continue
            raise Violation(
                f"{what}: sector {sector} is {int(found[sector]):#x}, not {int(truth[sector]):#x}"
            )
        return wrong

    def look_at(self, history: History, number: int) -> None:
        rig, chain = self._rig, history.chain
        if rig.volume.history is not history or number > rig.path.completed_write:
            return
        states = rig.oracle.at(number)
        found = self.content(number)
        if found is None or not states or number < chain.floor:
            return
        if not _restorable(history, number):
            return
        wrong = self._only_spoils(f"write:{number}", found, states[0])
        if any(spoil.found for spoil in wrong.values()):
            with contextlib.suppress(PointSuspect):
                chain.check_trusted(number, f"write:{number}")
                first = min(s for s, spoil in wrong.items() if spoil.found)
                raise Violation(f"write:{number} is trusted, and sector {first} was found wrong")
        try:
            given = rig.view(number)
        except (EbbtideError, ReadRefused) as error:
            if rig.volume.history is not history or number < chain.floor or self._loses:
                return
            if isinstance(error, (PointInGap, PointOutsideWindow)):
                return
            if rig.damage_allowed:
                return
            raise Violation(f"write:{number} cannot be read: {error}") from error
        self._tally.points += 1
        for sector, spoil in self._only_spoils(f"write:{number}", given, states[0]).items():
            if not spoil.in_base:
                raise Violation(f"write:{number} gives spoiled payload in sector {sector}")


def _restorable(history: History, number: int) -> bool:
    try:
        history.chain.check_restorable(number, f"write:{number}")
    except (PointInGap, PointOutsideWindow):
        return False
    return True
