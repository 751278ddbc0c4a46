"""The scan of everything: `full` repairs what differs, `verify` only tells.

    scanning → revising → copying (full)

A scan is noted in the chain from its beginning to its end, so it goes on after
a restart where it stopped.  What differs although nothing explains it makes
points suspect, durably, before anything is copied.

The copies become the fix-up delta map at the chain's end: the journal merges
them with what hosts write meanwhile, and sector by sector the later one
counts, which is the host's (claim 10).  Its end is a point again; the writes
before that, from its first on, are a gap.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

from appliance.cdp import disk_io, walk_back
from appliance.cdp.changes import Changes
from appliance.cdp.comparison import Comparison, bytes_of_blocks
from appliance.cdp.delta_map import MapKind
from appliance.cdp.extents import EMPTY, Extents, intersect, one, subtract, union, union_all
from appliance.cdp.history import History
from appliance.cdp.interfaces import SECTOR
from appliance.cdp.jobs import Job
from appliance.cdp.pace import Pacing
from appliance.cdp.sync_progress import Phase, ScanKind, SyncProgress
from appliance.cdp.tasks import Cancelled
from appliance.errors import EbbtideError

CHUNK = 32 << 20
"""Bytes that are begun between two looks at what has gathered."""
SAVE_NS = 1_000_000_000
"""A scan that a crash interrupts goes on about so far behind."""
TURN_NS = 60_000_000_000
"""After so much time what differs is revised: a host that writes it before hides that it did."""
GATHERED = 1 << 18
"""Extents that differ, or that hosts have written, before they are revised: this bounds memory."""

Begin = Callable[[], Awaitable[Comparison]]

logger = logging.getLogger("ebbtide.scan")


class FullScan:
    """Of one volume, as `chain.scan` says.  `excused` are extents that are known to differ."""

    def __init__(
        self,
        history: History,
        scan: SyncProgress,
        begin: Begin,
        excused: Callable[[], Extents],
        job: Job,
        pace: Pacing,
    ) -> None:
        self.first_copy = 0
        """The first write of the fix-up delta map, or 0 if nothing was copied, in any life."""
        self.unreadable = EMPTY
        self._history = history
        self._scan = scan
        self._begin = begin
        self._excused = excused
        self._job = job
        self._pace = pace
        self._copies = scan.kind is ScanKind.FULL  # as a factor, too
        self._size = history.superblock.volume_size
        self._saved_ns = 0
        self.compare = scan.compare
        """The compare delta map: read different, and not looked at again yet."""
        self._confirmed: list[Extents] = []
        """Found different under their locks, unexplained, and not noted as suspect yet."""
        self.revised = EMPTY
        """The revised compare delta map: different for sure, as of the write compared with."""
        self.scan_map: Changes | None = None
        """The scan delta map: what hosts wrote while that was found."""
        self.host_change: Changes | None = None
        """The host change delta map: what they have written since, and what was copied."""

    async def run(self) -> None:
        """To the end of the last phase; whoever called it then says so durably.

        What was `unreadable` is told only then: the rest of the volume is compared.  But
        DiskUnreadable as soon as either disk gives too little.
        """
        scan, job = self._scan, self._job
        job.bytes_scanned = scan.cursor
        job.time_anew()
        self._foresee()
        if scan.kind is ScanKind.FULL:
            self._history.journal.cut(MapKind.HOST)  # a verify leaves no trace, not even this
        await self._history.checkpoint()  # from here on it survives a crash
        self._saved_ns = job.clock.monotonic_ns()
        comparison = await self._begin()
        job.time_anew()
        try:
            if scan.phase is Phase.COPYING:
                await self._look_what_is_left(comparison)
            else:
                scan.different = 0  # all that was found before is looked at again
                comparison = await self._find(comparison)
            if scan.kind is ScanKind.FULL and self.revised:
                await self._copy(comparison)
            self.unreadable = union(self.unreadable, comparison.unreadable)
            job.bytes_total = job.bytes_done  # hosts have written the rest
        finally:
            comparison.end()

    def _enter(self, phase: Phase) -> None:
        self._scan.phase = phase
        self._job.phase = phase.name.lower()
        self._foresee()

    def _foresee(self) -> None:
        """All the work that is done, or known of: what was read different is looked at again, and
        copied by a full scan."""
        job, again = self._job, bytes_of_blocks(self.compare)
        copies = self._copies * (again + bytes_of_blocks(self.revised))
        job.bytes_total = job.bytes_done + self._size - job.bytes_scanned + again + copies

    def _note_compare(self) -> None:
        """For the next checkpoint, whoever makes it.

        What is unreadable is looked at again, or another life would take it for equal.
        """
        self._scan.compare = union_all([self.revised, self.compare, self.unreadable])

    async def _save(self) -> None:
        self._note_compare()
        await self._history.checkpoint()
        self._saved_ns = self._job.clock.monotonic_ns()

    # Finding what differs

    async def _find(self, comparison: Comparison) -> Comparison:
        """Scan and revise, in turns where hosts write much; then mark what is suspect.

        Returns the comparison that watches from then on.
        """
        scan = self._scan
        try:
            while True:
                self.scan_map = comparison.since
                await self._scan_on(comparison)
                self._enter(Phase.REVISING)
                logger.debug("compare delta map: %s", self.compare)
                found = await comparison.revise(self.compare, self._pace, False, self._differed)
                await self._note_suspects(comparison)
                before, comparison = comparison, await self._begin()
                # What hosts have written since it was found differs no more.
                try:
                    found = subtract(union(self.revised, found), await before.since.all())
                finally:
                    before.end()
                logger.debug("scan delta map: %s", before.since)
                self.unreadable = union(self.unreadable, before.unreadable)
                self.revised, self.compare = found, EMPTY
                if scan.cursor >= self._size:
                    break
                await self._save()
            unknown = union(self._excused(), self.unreadable)
            self.revised = subtract(self.revised, unknown)
            # What hosts write from then on hides whether it was right.
            unknown = union(unknown, await comparison.since.all())
            chain = self._history.chain
            chain.suspects = await walk_back.mark(
                self._history, self.revised, unknown, comparison.write
            )
            if scan.kind is ScanKind.FULL and self.revised:
                self._enter(Phase.COPYING)
            await self._save()
        except BaseException as error:
            try:
                if isinstance(error, Cancelled | EbbtideError):  # else nobody would go on here
                    with suppress(EbbtideError):
                        await self._note_suspects(comparison)
            finally:
                comparison.end()
            raise
        return comparison

    async def _note_suspects(self, comparison: Comparison) -> None:
        """For the next checkpoint: what was wrong until now, whoever may write it from now on, and
        however the scan ends."""
        confirmed = union_all(self._confirmed)
        if confirmed:
            chain = self._history.chain
            chain.suspects = await walk_back.add(self._history, confirmed, comparison.write)
        self._confirmed.clear()  # not before: who is cancelled there notes it on its way out

    async def _scan_on(self, comparison: Comparison) -> None:
        """The compare delta map from the cursor on, until the end or until much has gathered.

        Steps are told in their order.  The cursor and what was found before it move together, for
        a checkpoint may come at any moment.
        """
        scan, job = self._scan, self._job
        self._enter(Phase.SCANNING)
        fresh: list[Extents] = []
        looked_at, begun = scan.cursor, job.clock.monotonic_ns()

        def gather() -> None:
            if any(fresh) or comparison.unreadable:
                self.compare = union_all([self.compare, *fresh])
                self.unreadable = union(self.unreadable, comparison.unreadable)
                self._note_compare()
            fresh.clear()
            scan.cursor = looked_at

        def ranges() -> Iterator[tuple[int, int]]:
            for offset in range(scan.cursor, self._size, CHUNK):
                gather()
                if max(len(self.compare.starts), comparison.since.count) > GATHERED:
                    return
                # What a disk does not give is counted in one turn: that decides when to give up.
                late = job.clock.monotonic_ns() - begun > TURN_NS
                if self.compare and late and not comparison.misses:
                    return
                yield offset, min(CHUNK, self._size - offset)

        async def looked(size: int, different: Extents) -> None:
            nonlocal looked_at
            fresh.append(different)
            looked_at += size
            job.bytes_total += bytes_of_blocks(different) * (1 + self._copies)
            job.advance(scanned=size)
            if job.clock.monotonic_ns() - self._saved_ns > SAVE_NS:
                gather()
                await self._save()

        try:
            await comparison.scan_on(ranges(), self._pace, looked)
        finally:
            gather()

    def _differed(self, size: int, blocks: Extents) -> None:
        if blocks:  # what comes to be out of sync later does not explain it
            self._confirmed.append(subtract(blocks, self._excused()))
        self._scan.different += blocks.total * SECTOR
        self._looked_again(size, blocks)
        self._job.bytes_different += blocks.total * SECTOR

    def _looked_again(self, size: int, blocks: Extents) -> None:
        self._job.bytes_total -= self._copies * (size - blocks.total * SECTOR)  # they need no copy
        self._job.advance(revised=size)

    # Copying it

    async def _look_what_is_left(self, comparison: Comparison) -> None:
        """A crash came in the middle of the copy: what is equal now was copied before it."""
        self._enter(Phase.COPYING)
        whole = one(0, self._size // SECTOR)
        self.revised = await comparison.revise(
            intersect(self.compare, whole), self._pace, False, self._looked_again
        )
        self.unreadable = comparison.unreadable
        if self.compare:
            self.first_copy = self._first_copied()
        self.compare = EMPTY
        # What could not be read then, and turns out wrong now, is in doubt before it is copied.
        chain = self._history.chain
        new = subtract(self.revised, union(chain.suspects.open, self._excused()))
        if new:
            self._scan.different += new.total * SECTOR
            self._confirmed.append(new)
            await self._note_suspects(comparison)
            await self._save()
        self._scan.copied = max(0, self._scan.different - self.revised.total * SECTOR)
        self._job.advance(different=self._scan.different, copied=self._scan.copied)
        self._job.time_anew()
        self._foresee()

    def _first_copied(self) -> int:
        """The first write of the fix-up delta maps of earlier lives; behind what was marked."""
        chain = self._history.chain
        seen = chain.suspects.open_seen
        for delta_map in chain.maps:
            if delta_map.kind is MapKind.FIX_UP and delta_map.first_write > seen:
                return delta_map.first_write
        return 0

    async def _copy(self, comparison: Comparison) -> None:
        history, job = self._history, self._job
        self.first_copy = self.first_copy or history.chain.newest_write + 1
        logger.debug("revised compare delta map: %s", self.revised)
        self.host_change = comparison.since
        history.journal.cut(MapKind.FIX_UP)
        await comparison.copy(self.revised, self._pace, lambda size: job.advance(copied=size))
        logger.debug("host change delta map: %s", self.host_change)
        await disk_io.flush(history.disk)
