"""Reading a point in time from the secondary, through its PIT map.

Payload is checked against its CRC on every read, which takes reading whole
entries; the base image has no CRCs.  Reads are widened to the secondary's
logical block, so that 512- and 4096-byte disks mix.
"""

from collections.abc import Callable

from appliance.cdp import disk_io
from appliance.cdp.format import crc32c
from appliance.cdp.interfaces import SECTOR, Disk
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.pit_map import EntryAt, Piece, PitMap
from appliance.cdp.superblock import Superblock
from appliance.cdp.tasks import Task, gather
from appliance.errors import FormatDamaged


class PointReader:
    """One point of one volume.  Reads may overlap in time.

    `base_write` tells up to which write the base image has taken everything:
    what the PIT map places in history at or before it now lies in the base.
    """

    def __init__(
        self,
        secondary: Disk,
        superblock: Superblock,
        pool: BufferPool,
        pit_map: PitMap,
        base_write: Callable[[], int],
    ) -> None:
        self.pit_map = pit_map
        self._base_write = base_write
        self._secondary = secondary
        self._superblock = superblock
        self.pool = pool
        self._block = max(SECTOR, secondary.logical_block)

    async def read(self, offset: int, length: int) -> Buffer:
        """Bytes of the volume at the point, in a buffer that the caller releases.

        DiskFailed if the secondary cannot be read, FormatDamaged where the
        history does not match its checksum.
        """
        pieces = self.pit_map.pieces(offset // SECTOR, (offset + length) // SECTOR)
        target = self.pool.get(length)
        try:
            if len(pieces) == 1:
                await self._read_piece(pieces[0], target.view, offset)
            else:
                await gather(
                    [Task(self._read_piece(piece, target.view, offset)) for piece in pieces]
                )
        except BaseException:
            target.release()
            raise
        return target

    async def _read_piece(self, piece: Piece, view: memoryview, offset: int) -> None:
        at = piece.start * SECTOR - offset
        length = (piece.end - piece.start) * SECTOR
        entry = piece.entry
        if entry is not None and entry.write > self._base_write():
            if entry.is_zeros:
                view[at : at + length] = bytes(length)
                return
            try:
                await self._read_entry(entry, piece, view, at)
                return
            except FormatDamaged:
                if entry.write > self._base_write():
                    raise
                # Folded, and its segment reused, while it was being read.
        await self._copy(self._superblock.base_offset + piece.start * SECTOR, length, view, at)

    async def _read_entry(self, entry: EntryAt, piece: Piece, view: memoryview, at: int) -> None:
        size = entry.length * SECTOR
        buffer, skip = await self._read_wide(entry.location * SECTOR, size)
        try:
            if crc32c(buffer.array[skip : skip + size]) != entry.crc:
                raise FormatDamaged(
                    what=f"history at sector {entry.location}",
                    reason=f"the data of primary sector {entry.start} fails its checksum",
                )
            inside = skip + (piece.start - entry.start) * SECTOR
            length = (piece.end - piece.start) * SECTOR
            view[at : at + length] = buffer.view[inside : inside + length]
        finally:
            buffer.release()

    async def _copy(self, source: int, length: int, view: memoryview, at: int) -> None:
        buffer, skip = await self._read_wide(source, length)
        view[at : at + length] = buffer.view[skip : skip + length]
        buffer.release()

    async def _read_wide(self, source: int, length: int) -> tuple[Buffer, int]:
        """Read whole blocks around the bytes; also where the bytes begin in them."""
        first = source // self._block * self._block
        end = -(-(source + length) // self._block) * self._block
        return await disk_io.read(self._secondary, self.pool, first, end - first), source - first
