"""Reading a point in time from the secondary, through its PIT map.

Payload is checked against its CRC on every read, which takes reading whole
entries; the base image has no CRCs.  Whoever compares with the primary anyway
reads without that check, only what is seen.  Reads are widened to the secondary's
logical block, so that 512- and 4096-byte disks mix.  However many pieces a
read has, they are sorted by their places, joined where they touch, and
submitted at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from appliance.cdp import disk_io
from appliance.cdp.extents import EMPTY, Extents
from appliance.cdp.format import crc32c
from appliance.cdp.interfaces import READ, SECTOR, Disk
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.pit_map import EntryAt, Piece, PitMap
from appliance.cdp.superblock import Superblock
from appliance.errors import FormatDamaged


class PointReader:
    """One point of one volume.  Reads may overlap in time.

    `base_write` tells up to which write the base image has taken everything:
    what the PIT map places in history at or before it now lies in the base,
    but for `base_lost`, which it could not take.
    """

    def __init__(
        self,
        secondary: Disk,
        superblock: Superblock,
        pool: BufferPool,
        pit_map: PitMap,
        base_write: Callable[[], int],
        base_lost: Callable[[], Extents] = lambda: EMPTY,
    ) -> None:
        self.pit_map = pit_map
        self._base_write = base_write
        self._base_lost = base_lost
        self.disk = secondary
        self._superblock = superblock
        self.pool = pool
        self._block = max(SECTOR, secondary.logical_block)

    def in_base(self, offset: int, length: int) -> int | None:
        """Where on the disk a range of the volume lies in one piece (bytes): that is in the base
        image, if it answers for all of it.  FormatDamaged if the history has been cut since."""
        self._base_write()
        if self.pit_map.touches(offset // SECTOR, (offset + length) // SECTOR):
            return None
        return self._superblock.base_offset + offset

    async def read(self, offset: int, length: int) -> Buffer:
        """Bytes of the volume at the point, in a buffer that the caller releases.

        DiskFailed if the secondary cannot be read, FormatDamaged where the
        history does not match its checksum.
        """
        start, end = offset // SECTOR, (offset + length) // SECTOR
        return await self._read(self.pit_map.pieces(start, end), length, True)

    async def read_extents(self, wanted: Extents, checked: bool = True) -> Buffer:
        """The same for several extents, one behind the other in the buffer."""
        return await self._read(self.pit_map.pieces_of(wanted), wanted.total * SECTOR, checked)

    async def _read(self, pieces: list[Piece], length: int, checked: bool) -> Buffer:
        target = self.pool.get(length)
        try:
            at = 0
            placed = []
            for piece in pieces:
                placed.append((piece, at))
                at += (piece.end - piece.start) * SECTOR
            while placed:
                placed = await self._bring(target, placed, checked)
        except BaseException:
            target.release()
            raise
        return target

    async def _bring(
        self, target: Buffer, placed: list[tuple[Piece, int]], checked: bool
    ) -> list[tuple[Piece, int]]:
        """Read pieces to their places in the target; returns those to be read anew.

        Those were folded, and their segments reused, while they were being read.
        """
        base_write = self._base_write()
        fetches: list[_Fetch] = []
        for piece, at in placed:
            entry = piece.entry
            if entry is not None and self._is_lost(piece, entry, base_write):
                raise FormatDamaged(
                    what=f"primary sector {piece.start}", reason="neither disk has kept its data"
                )
            if entry is None or entry.write <= base_write:
                source = self._superblock.base_offset + piece.start * SECTOR
                fetches.append(_Fetch(source, (piece.end - piece.start) * SECTOR, piece, at, None))
            elif entry.is_zeros:
                length = (piece.end - piece.start) * SECTOR
                target.view[at : at + length] = bytes(length)
            elif checked:
                source, length = entry.location * SECTOR, entry.length * SECTOR
                fetches.append(_Fetch(source, length, piece, at, entry))
            else:
                source = (entry.location + piece.start - entry.start) * SECTOR
                fetches.append(_Fetch(source, (piece.end - piece.start) * SECTOR, piece, at, entry))
        fetches.sort(key=lambda fetch: fetch.source)
        ranges, places = self._join(fetches)
        if len(fetches) == 1 and fetches[0].is_whole(ranges[0], self._block):
            source, length, piece, at, entry = fetches[0]
            if entry is None:  # nothing to check, nothing to cut
                await disk_io.start(self.disk, READ, source, length, target, at)
                return []
        buffer = await disk_io.read_ranges(self.disk, self.pool, ranges)
        try:
            return [
                (fetch.piece, fetch.at)
                for fetch, place in zip(fetches, places, strict=True)
                if not self._take(target.view, fetch, buffer, place, checked)
            ]
        finally:
            buffer.release()

    def _is_lost(self, piece: Piece, entry: EntryAt, base_write: int) -> bool:
        if entry.is_lost:
            return True
        lost = self._base_lost() if entry.write <= base_write else EMPTY
        if not lost:
            return False
        behind = int(np.searchsorted(lost.ends, piece.start, side="right"))
        return behind < len(lost.ends) and int(lost.starts[behind]) < piece.end

    def _join(self, fetches: "list[_Fetch]") -> tuple[list[tuple[int, int]], list[int]]:
        """Whole blocks around sorted fetches, neighbours as one range; where each lies in them."""
        ranges: list[tuple[int, int]] = []
        places: list[int] = []
        block, begin, end, before = self._block, 0, 0, 0
        for source, length, _, _, _ in fetches:
            first = source // block * block
            last = -(-(source + length) // block) * block
            if first > end or not end:
                if end:
                    ranges.append((begin, end - begin))
                    before += end - begin
                begin, end = first, last
            elif last > end:
                end = last
            places.append(before + source - begin)
        if end:
            ranges.append((begin, end - begin))
        return ranges, places

    def _take(
        self, target: memoryview, fetch: "_Fetch", buffer: Buffer, place: int, checked: bool
    ) -> bool:
        """Copy what was read at `place` to the target; False if it was folded meanwhile."""
        _, size, piece, at, entry = fetch
        if entry is not None and not checked:
            if entry.write <= self._base_write():
                return False
        elif entry is not None:
            if crc32c(buffer.array[place : place + size]) != entry.crc:
                if entry.write <= self._base_write():
                    return False
                raise FormatDamaged(
                    what=f"history at sector {entry.location}",
                    reason=f"the data of primary sector {entry.start} fails its checksum",
                )
            place += (piece.start - entry.start) * SECTOR
            size = (piece.end - piece.start) * SECTOR
        target[at : at + size] = buffer.view[place : place + size]
        return True


class _Fetch(NamedTuple):
    """`length` bytes of the secondary at `source` bring a piece to `at` in the target.

    `entry`, whose CRC covers them, is None where they are the base image's.
    """

    source: int
    length: int
    piece: Piece
    at: int
    entry: EntryAt | None

    def is_whole(self, place: tuple[int, int], block: int) -> bool:
        """Is it all that is read there, and fit to go straight to the target?"""
        return place == (self.source, self.length) and self.at % block == 0
