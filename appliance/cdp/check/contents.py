"""Reading the bytes of a volume from both disks, and comparing them.

The newest point of the history must be equal to the primary outside of the
regions that the dirty region log lists.  What the comparison has no reason to
read (dirty regions, and the parts of the base image that history hides) is
read all the same, so that an unreadable sector is found before it is needed.
"""

from collections.abc import Iterator

from appliance.cdp import disk_io
from appliance.cdp.check import findings
from appliance.cdp.check.findings import FindingKind
from appliance.cdp.check.report import Report, raise_if_gone
from appliance.cdp.extents import EMPTY, Extents, extents, intersect, one, subtract, union
from appliance.cdp.interfaces import BLOCK, SECTOR, Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.pit_map import PitMap
from appliance.cdp.point_reader import PointReader
from appliance.cdp.side_by_side import differing, placed
from appliance.cdp.superblock import Superblock
from appliance.cdp.tasks import Task, gather
from appliance.errors import DiskFailed, FormatDamaged

SLICE = 1 << 20
"""Bytes that are read at once from each disk."""
PARTS = 16
"""What cannot be read is read again in so many parts, down to a block."""


class ContentsCheck:
    """See the module."""

    def __init__(self, pool: BufferPool, report: Report) -> None:
        self._pool = pool
        self._report = report

    async def compare(
        self,
        primary: Disk,
        secondary: Disk,
        superblock: Superblock,
        pit_map: PitMap,
        excluded: Extents,
    ) -> None:
        """Hold the newest point against the primary, but for the `excluded` extents."""
        whole = one(0, superblock.volume_size // SECTOR)
        reader = PointReader(secondary, superblock, self._pool, pit_map, lambda: 0)
        different = unreadable = EMPTY
        for offset, length in _slices(subtract(whole, excluded)):
            found, lost = await self._compare(primary, secondary, reader, offset, length)
            different, unreadable = union(different, found), union(unreadable, lost)
            self._report.read(2 * length)
        for kind, disk, reason, found in (
            (findings.DIFFERENT, primary, "primary and newest point differ", different),
            (findings.POINT_UNREADABLE, secondary, "the newest point is unreadable", unreadable),
        ):
            for start, end in zip(found.starts.tolist(), found.ends.tolist(), strict=True):
                size = (end - start) * SECTOR
                self._report(kind, disk, "contents", reason, start * SECTOR, size)
        if excluded:
            size = excluded.total * SECTOR
            reason = f"{size} bytes in regions that may differ were not compared"
            self._report(findings.EXCLUDED, primary, "contents", reason)
            await self.read(primary, superblock, 0, findings.PRIMARY_UNREADABLE, excluded)
        hidden = intersect(union(pit_map.extents, excluded), whole)
        base = superblock.base_offset
        await self.read(secondary, superblock, base, findings.BASE_UNREADABLE, hidden)

    async def _compare(
        self, primary: Disk, secondary: Disk, reader: PointReader, offset: int, length: int
    ) -> tuple[Extents, Extents]:
        """What differs, and what of the point cannot be read."""
        try:
            ours, theirs = await gather(
                [
                    Task(disk_io.read(primary, self._pool, offset, length)),
                    Task(reader.read(offset, length)),
                ]
            )
        except (DiskFailed, FormatDamaged) as error:
            raise_if_gone(primary, error)
            raise_if_gone(secondary, error)
            if length <= BLOCK:
                return EMPTY, await self._blame(primary, offset, length)
        else:
            try:
                blocks = one(offset // SECTOR, (offset + length) // SECTOR)
                return placed(differing(ours, theirs, length), blocks), EMPTY
            finally:
                ours.release()
                theirs.release()
        different = unreadable = EMPTY
        for at, size in _parts(offset, length):
            found, lost = await self._compare(primary, secondary, reader, at, size)
            different, unreadable = union(different, found), union(unreadable, lost)
        return different, unreadable

    async def _blame(self, primary: Disk, offset: int, length: int) -> Extents:
        """Is it the primary that cannot be read?  Else it is the point."""
        try:
            await disk_io.read_bytes(primary, self._pool, offset, length)
        except DiskFailed as error:
            raise_if_gone(primary, error)
            kind = findings.PRIMARY_UNREADABLE
            self._report(kind, primary, "contents", error.fields["reason"], offset, length)
            return EMPTY
        return one(offset // SECTOR, (offset + length) // SECTOR)

    async def read(
        self,
        disk: Disk,
        superblock: Superblock,
        base: int,
        kind: FindingKind,
        wanted: Extents | None = None,
    ) -> None:
        """Read the volume, or `wanted` of it, which lies from byte `base` on; tell what fails.

        Extents are widened to whole blocks.
        """
        unit = BLOCK // SECTOR
        end = superblock.volume_size // SECTOR
        if wanted is None:
            wanted = one(0, end)
        else:
            wanted = extents(wanted.starts // unit * unit, -(-wanted.ends // unit) * unit)
        lost = EMPTY
        for offset, length in _slices(wanted):
            lost = union(lost, await self._unreadable(disk, base, offset, length))
            self._report.read(length)
        for start, stop in zip(lost.starts.tolist(), lost.ends.tolist(), strict=True):
            size = (stop - start) * SECTOR
            self._report(kind, disk, "contents", "unreadable", base + start * SECTOR, size)

    async def _unreadable(self, disk: Disk, base: int, offset: int, length: int) -> Extents:
        try:
            buffer = await disk_io.read(disk, self._pool, base + offset, length)
        except DiskFailed as error:
            raise_if_gone(disk, error)
            if length <= BLOCK:
                return one(offset // SECTOR, (offset + length) // SECTOR)
        else:
            buffer.release()
            return EMPTY
        lost = EMPTY
        for at, size in _parts(offset, length):
            lost = union(lost, await self._unreadable(disk, base, at, size))
        return lost


def _slices(wanted: Extents) -> Iterator[tuple[int, int]]:
    """Offset and length in bytes of every slice, cut at multiples of SLICE."""
    for start, end in zip(wanted.starts.tolist(), wanted.ends.tolist(), strict=True):
        at = start * SECTOR
        while at < end * SECTOR:
            length = min(end * SECTOR, (at // SLICE + 1) * SLICE) - at
            yield at, length
            at += length


def _parts(offset: int, length: int) -> Iterator[tuple[int, int]]:
    step = max(BLOCK, length // PARTS // BLOCK * BLOCK)
    for at in range(offset, offset + length, step):
        yield at, min(step, offset + length - at)
