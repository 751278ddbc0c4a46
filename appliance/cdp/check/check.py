"""Checking disks that are not in service: everything is read, nothing is written.

`Check` takes one or both disks of a pair, in any order, tells every finding
as it comes, and how far it is.  The parts that have rooms of their own: what
the secondary's history holds (`check_history`), and the bytes of the volume
(`check_contents`).

Memory is bounded by one segment, one delta map, and the newest version of
everything that history holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.cdp import disk_io, format, superblock
from appliance.cdp.check import findings
from appliance.cdp.check.contents import ContentsCheck
from appliance.cdp.check.findings import Finding
from appliance.cdp.check.history import HistoryCheck
from appliance.cdp.check.report import Report, raise_if_gone
from appliance.cdp.dirty_region_log import IntentSlot, decode_bitmap_page, decode_slot
from appliance.cdp.extents import EMPTY, Extents, extents
from appliance.cdp.format import PAGE, PRIMARY, REGIONS_PER_PAGE, SECONDARY
from appliance.cdp.interfaces import SECTOR, Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.pair import check_pair
from appliance.cdp.superblock import RING_SLOTS, Superblock
from appliance.errors import DiskFailed, EbbtideError, FormatDamaged, FormatTooNew, WrongDisk

ROLES = {PRIMARY: "primary", SECONDARY: "secondary"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many findings of each severity there are."""

    errors: int
    warnings: int
    notes: int


@dataclass(frozen=True, slots=True)
class _Side:
    disk: Disk
    superblock: Superblock


@dataclass(frozen=True, slots=True)
class _Log:
    """What the dirty region log says; `dirty` is None if every region must be feared to be."""

    stable_write: int
    dirty: list[int] | None


class Check:
    """One check of one or two disks."""

    def __init__(
        self,
        disks: Sequence[Disk],
        pool: BufferPool,
        found: Callable[[Finding], None],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """`progress(done, total)` counts bytes."""
        self._disks = disks
        self._pool = pool
        self._report = Report(found, progress)

    async def run(self) -> Verdict:
        """Check it all.  DiskFailed if a disk is gone."""
        report = self._report
        sides = [side for disk in self._disks if (side := await self._side(disk)) is not None]
        primary = next((side for side in sides if side.superblock.role == PRIMARY), None)
        secondary = next((side for side in sides if side.superblock.role == SECONDARY), None)
        paired = self._are_paired(sides, primary, secondary)
        report.total = sum(side.superblock.volume_size for side in sides)
        log = await self._log(primary) if primary is not None else None
        history = None
        if secondary is not None:
            history = HistoryCheck(secondary.disk, secondary.superblock, self._pool, report)
            known = _generations(sides) if paired else None
            await history.run(known, log.stable_write if paired and log is not None else 0)
        await self._contents(primary, secondary, log if paired else None, history)
        report.tell_rest()
        return Verdict(report.count("error"), report.count("warning"), report.count("note"))

    # Superblocks

    async def _side(self, disk: Disk) -> _Side | None:
        """What the disk is, as far as a copy of its superblock can be believed."""
        places = sorted(
            {
                offset
                for role in ROLES
                for offset in superblock.copies(role, disk.size)
                if 0 <= offset <= disk.size - PAGE
            }
        )
        found: dict[int, Superblock] = {}
        damaged: dict[int, EbbtideError] = {}
        for offset in places:
            what = f"superblock at byte {offset}"
            try:
                raw = await disk_io.read_bytes(disk, self._pool, offset, PAGE)
                if raw.startswith(format.SUPERBLOCK_MAGIC):
                    copy = superblock.decode(raw, what)
                    superblock.check_fits(copy, disk.size, what)
                    found[offset] = copy
                else:
                    damaged[offset] = FormatDamaged(what=what, reason="it does not carry its magic")
            except FormatTooNew as error:
                self._report.damaged(findings.TOO_NEW, disk, what, error, offset, PAGE)
                return None
            except (FormatDamaged, DiskFailed) as error:
                raise_if_gone(disk, error)
                damaged[offset] = error
        return self._believed(disk, found, damaged)

    def _believed(
        self, disk: Disk, found: dict[int, Superblock], damaged: dict[int, EbbtideError]
    ) -> _Side | None:
        report = self._report
        if not found:
            kept = [error for error in damaged.values() if "magic" not in str(error)]
            if kept:
                report(findings.NO_SUPERBLOCK, disk, "superblock", "; ".join(map(str, kept)))
            else:
                report(findings.FOREIGN, disk, "superblock", "there is none")
            return None
        newest = max(found.values(), key=lambda copy: copy.sequence)
        places = superblock.copies(newest.role, disk.size)
        copies = [found[offset] for offset in places if offset in found]
        for offset in places:
            if offset not in found:
                what = f"superblock at byte {offset}"
                report.damaged(findings.SUPERBLOCK_COPY, disk, what, damaged[offset], offset, PAGE)
        if len({(copy.set_id, copy.disk_id, copy.role) for copy in found.values()}) > 1:
            reason = "its copies tell of different disks"
            report(findings.SUPERBLOCK_CONTRADICTION, disk, "superblock", reason)
            return None
        if len({copy.sequence for copy in copies}) > 1:
            ages = " and ".join(str(copy.sequence) for copy in copies)
            reason = f"its copies have the sequence numbers {ages}"
            report(findings.SUPERBLOCK_AGE, disk, "superblock", reason)
        elif len(set(copies)) > 1:
            reason = f"its copies differ under the same sequence number {newest.sequence}"
            report(findings.SUPERBLOCK_CONTRADICTION, disk, "superblock", reason)
        return _Side(disk, newest)

    def _are_paired(
        self, sides: list[_Side], primary: _Side | None, secondary: _Side | None
    ) -> bool:
        report = self._report
        if primary is None or secondary is None:
            for side in sides:
                role = ROLES[side.superblock.role]
                if len(sides) > 1:
                    report(findings.NO_PAIR, side.disk, "pair", f"both disks are a {role}")
                else:
                    name = side.superblock.name
                    reason = f"it is the {role} of volume '{name}'; its other disk was not given"
                    report(findings.UNPAIRED, side.disk, "pair", reason)
            return False
        ours, theirs = primary.superblock, secondary.superblock
        try:
            check_pair(ours, theirs, secondary.disk.identity.id)
        except WrongDisk as error:
            report(findings.NO_PAIR, secondary.disk, "pair", error.fields["reason"])
            return False
        if ours.generation != theirs.generation:
            reason = "the primary has served hosts without it since"
            report(findings.SECONDARY_BEHIND, secondary.disk, "pair", reason)
        return True

    # The dirty region log

    async def _log(self, side: _Side) -> _Log:
        slots = await self._slots(side)
        bits = await self._bits(side)
        newest = max(slots.values(), key=lambda slot: slot.sequence, default=None)
        stable = newest.stable_write if newest is not None else 0
        if len(slots) < RING_SLOTS or newest is None or bits is None:
            return _Log(stable, None)
        report, disk = self._report, side.disk
        if newest.regions:
            report(findings.INTENTS, disk, "intent log", f"{len(newest.regions)} regions")
        if newest.restoring:
            report(findings.RESTORE_OWED, disk, "intent log", "its flag is set")
        if bits:
            report(findings.OUT_OF_SYNC, disk, "out-of-sync bitmap", f"{len(bits)} regions")
        return _Log(stable, sorted({*newest.regions, *bits}))

    async def _slots(self, side: _Side) -> dict[int, IntentSlot]:
        found: dict[int, IntentSlot] = {}
        for number in range(RING_SLOTS):
            what = f"intent slot {number}"
            offset = side.superblock.ring_offset + number * PAGE
            try:
                raw = await disk_io.read_bytes(side.disk, self._pool, offset, PAGE)
                found[number] = decode_slot(side.superblock, raw, what)
            except (FormatDamaged, DiskFailed) as error:
                raise_if_gone(side.disk, error)
                self._report.damaged(findings.INTENT_SLOT, side.disk, what, error, offset, PAGE)
        newest = max((slot.sequence for slot in found.values()), default=0)
        for number, slot in found.items():
            # The newest sequence number that belongs into this slot; 0 if none was written yet.
            due = max(0, newest - (newest - number) % RING_SLOTS)
            if slot.sequence != due:
                reason = f"it bears sequence number {slot.sequence} where {due} is due"
                offset = side.superblock.ring_offset + number * PAGE
                self._report(
                    findings.INTENT_ORDER, side.disk, f"intent slot {number}", reason, offset, PAGE
                )
        return found

    async def _bits(self, side: _Side) -> list[int] | None:
        """The regions that are marked; None if a page cannot be believed."""
        found: list[int] | None = []
        for page in range(side.superblock.bitmap_pages):
            what = f"bitmap page {page}"
            offset = side.superblock.bitmap_offset + page * PAGE
            try:
                raw = await disk_io.read_bytes(side.disk, self._pool, offset, PAGE)
                bits = decode_bitmap_page(side.superblock, page, raw, what)
            except (FormatDamaged, DiskFailed) as error:
                raise_if_gone(side.disk, error)
                self._report.damaged(findings.BITMAP_PAGE, side.disk, what, error, offset, PAGE)
                found = None
                continue
            if found is not None:
                marked = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
                found += (marked + page * REGIONS_PER_PAGE).tolist()
        return found

    # Contents

    async def _contents(
        self,
        primary: _Side | None,
        secondary: _Side | None,
        log: _Log | None,
        history: HistoryCheck | None,
    ) -> None:
        """Compare the newest point with the primary if that can be; read everything anyhow.

        `log` is None unless the two are a pair.
        """
        contents = ContentsCheck(self._pool, self._report)
        if primary is not None and secondary is not None and log is not None:
            assert history is not None
            reason = _not_comparable(log, history)
            if reason is None:
                pit_map = history.newest_point()
                excluded = _regions(primary.superblock, log.dirty or [])
                await contents.compare(
                    primary.disk, secondary.disk, primary.superblock, pit_map, excluded
                )
                return
            self._report(findings.NOT_COMPARED, primary.disk, "contents", reason)
        if primary is not None:
            await contents.read(primary.disk, primary.superblock, 0, findings.PRIMARY_UNREADABLE)
        if secondary is not None:
            base = secondary.superblock.base_offset
            await contents.read(
                secondary.disk, secondary.superblock, base, findings.BASE_UNREADABLE
            )


def _generations(sides: list[_Side]) -> set[bytes]:
    return {
        generation
        for side in sides
        for generation in (side.superblock.generation, *side.superblock.parents)
    }


def _regions(superblock: Superblock, regions: list[int]) -> Extents:
    """Regions as extents of the volume."""
    if not regions:
        return EMPTY
    size, end = superblock.region_size // SECTOR, superblock.volume_size // SECTOR
    first = np.array(regions, np.int64) * size
    return extents(first, np.minimum(first + size, end))


def _not_comparable(log: _Log, history: HistoryCheck) -> str | None:
    if log.dirty is None:
        return "the dirty region log is damaged, so every region may differ"
    if not history.is_whole:
        return "the history is damaged, so its newest point is not known"
    if not history.chain.baseline_whole:
        return "the first synchronisation has not ended"
    if history.chain.newest_write < log.stable_write:
        return "the journal is cut short, so every region may differ"
    return None
