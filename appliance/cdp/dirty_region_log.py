"""The dirty region log: which regions may differ between the two disks.

It has two parts, both on the primary's tail:

* The *intent log*: regions with writes that are perhaps not on both disks.  A
  region's intent is durable before either leg of its first write is issued.
  The whole set fits one slot of a ring, so a batch that touches new regions
  costs one durable write.  Intents stick; they are retired only when both
  disks were flushed after their last write had completed on both.
* The *out-of-sync bitmap*: regions known to differ, because the secondary was
  away.  A bit is durable before the first acknowledgement that relies on it,
  and is cleared only when the copy that repaired it is flushed.

A slot also carries a ceiling of write numbers, so that no number is ever
handed out twice, even when the record that bore it was lost; and the write
behind which the journal was flushed when intents were retired.  A journal that
reads only to before that write has lost what retirement relied on, and then
everything is dirty.

And it tells whether a restore has begun to write and has not ended, durably
before its first block and until its last one is flushed: the primary alone
must know, for its secondary may be away at the next start.

What cannot be read counts as dirty.  A slot is only torn by a crash in the
very write that makes it; since that cannot be told from a slot that went bad
later, both mean that everything is dirty.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.cdp import disk_io, format
from appliance.cdp.format import (
    BITMAP_MAGIC,
    ENVELOPE,
    INTENT_CAPACITY,
    INTENT_HEADER,
    INTENT_MAGIC,
    PAGE,
    REGIONS_PER_PAGE,
    RESTORING,
)
from appliance.cdp.interfaces import WRITE, Disk, DiskRequest
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.superblock import RING_SLOTS, Superblock
from appliance.cdp.tasks import Completion, Task, Turn, gather
from appliance.errors import DiskFailed, FormatDamaged

CEILING_STEP = 1 << 20
"""Write numbers that one slot reserves ahead."""


@dataclass(frozen=True, slots=True)
class IntentSlot:
    """One slot of the ring, believed."""

    sequence: int
    ceiling: int
    stable_write: int
    restoring: bool
    regions: list[int]


def decode_slot(superblock: Superblock, raw: bytes | None, what: str) -> IntentSlot:
    """FormatDamaged if it cannot be believed; `raw` is None if it cannot be read."""
    header = INTENT_HEADER.unpack_from(_whole(superblock, raw, INTENT_MAGIC, what))
    sequence, ceiling, stable_write, count, flags = header[4:9]
    if count > INTENT_CAPACITY:
        raise FormatDamaged(what=what, reason=f"it counts {count} regions")
    if max(sequence, ceiling, stable_write) >= format.NUMBER_LIMIT:
        raise FormatDamaged(what=what, reason="its numbers cannot be")
    assert raw is not None
    regions = np.frombuffer(raw, "<u4", count, INTENT_HEADER.size)
    if (regions >= superblock.regions).any():
        raise FormatDamaged(what=what, reason="it lists regions that the volume has not")
    restoring = bool(flags & RESTORING)
    return IntentSlot(sequence, ceiling, stable_write, restoring, regions.tolist())


def decode_bitmap_page(
    superblock: Superblock, page: int, raw: bytes | None, what: str
) -> npt.NDArray[np.uint8]:
    """The bits of a page; FormatDamaged if they cannot be believed."""
    whole = _whole(superblock, raw, BITMAP_MAGIC, what)
    own_page = int.from_bytes(whole[ENVELOPE.size : ENVELOPE.size + 4], "little")
    if own_page != page:
        raise FormatDamaged(what=what, reason=f"it says that it is page {own_page}")
    bits = np.frombuffer(whole, np.uint8, REGIONS_PER_PAGE // 8, PAGE - REGIONS_PER_PAGE // 8)
    left = max(0, superblock.regions - page * REGIONS_PER_PAGE)
    if np.unpackbits(bits, bitorder="little")[left:].any():
        raise FormatDamaged(what=what, reason="it marks regions that the volume has not")
    return bits


def _whole(superblock: Superblock, raw: bytes | None, magic: bytes, what: str) -> bytes:
    if raw is None:
        raise FormatDamaged(what=what, reason="it cannot be read")
    format.check_envelope(raw, magic, what)
    if ENVELOPE.unpack_from(raw)[3] != superblock.set_id:
        raise FormatDamaged(what=what, reason="it belongs to another volume")
    return raw


UNSETTLED = 1 << 63
"""The last write of an intent that an earlier life left: no flush retires it, only recovery."""


class DirtyRegionLog:
    """The log of one volume.

    `active` maps each region with an intent to the number of its last write;
    the write path updates it in place.
    """

    def __init__(
        self,
        disk: Disk,
        superblock: Superblock,
        pool: BufferPool,
        capacity: int = INTENT_CAPACITY,
    ) -> None:
        self.capacity = capacity
        self._disk = disk
        self._superblock = superblock
        self._pool = pool
        self._slot = Buffer(PAGE)
        self._page = Buffer(PAGE)
        self._sequence = 0
        self.active: dict[int, int] = {}
        self.ceiling = 0
        self.stable_write = 0
        """The journal was flushed behind this write: retired intents rely on it."""
        self.restoring = False
        """A restore has begun to write and has not ended: the volume is not whole."""
        self.behind = False
        """The last slot failed: what stands here, intents and ceiling, is not on the disk."""
        self.marked: set[int] = set()
        """Regions marked out of sync, again perhaps, since a repair looked here last."""
        self._bitmap_turn = Turn()
        self._unwritten: set[int] = set()
        """Pages of the bitmap whose bits are not durable as they are."""
        self._bits = np.zeros(superblock.bitmap_pages * REGIONS_PER_PAGE // 8, np.uint8)

    # The intent log

    @property
    def crowded(self) -> bool:
        """Retire some soon: nearly all of a slot is in use."""
        return len(self.active) > self.capacity - self.capacity // 64

    @property
    def enough(self) -> int:
        """Intents that stay in a retirement under load: a region that was written will be again."""
        return self.capacity * 3 // 4

    def retire(self, stable_write: int, journaled: int, keep: int = 0) -> None:
        """Drop intents with no write behind `stable_write`, the oldest first, down to `keep`.

        The caller flushed both disks after that write had completed on both;
        `journaled` is the last write up to there that the journal holds.  A
        region whose bit could not be made durable is not dropped.
        """
        self.stable_write = max(self.stable_write, journaled)
        retirable = sorted(
            (last, region)
            for region, last in self.active.items()
            if last <= stable_write and not self._is_unwritten(region)
        )
        for _, region in retirable[: max(0, len(self.active) - keep)]:
            del self.active[region]

    def drop_tracked(self) -> None:
        """Drop the intents of regions that are durably out of sync: the bitmap tells of them."""
        for region in list(self.active):
            if self.is_out_of_sync(region) and not self._is_unwritten(region):
                del self.active[region]

    def write_slot(self, done: Callable[[OSError | None], None]) -> None:
        """Make the active set and the ceiling durable.  One at a time."""
        count = len(self.active)
        assert count <= self.capacity, "the write path keeps the set within a slot"
        self._sequence += 1
        view = self._slot.view
        view[:PAGE] = bytes(PAGE)
        INTENT_HEADER.pack_into(
            view,
            0,
            INTENT_MAGIC,
            0,
            PAGE,
            self._superblock.set_id,
            self._sequence,
            self.ceiling,
            self.stable_write,
            count,
            RESTORING if self.restoring else 0,
        )
        regions = np.fromiter(self.active, "<u4", count)
        view[INTENT_HEADER.size : INTENT_HEADER.size + 4 * count] = regions.tobytes()
        format.seal_in_place(view, PAGE)
        offset = self._superblock.ring_offset + self._sequence % RING_SLOTS * PAGE
        self._disk.submit(
            [
                DiskRequest(
                    WRITE,
                    offset,
                    PAGE,
                    self._slot,
                    0,
                    lambda request: self._slot_written(request.error, done),
                    durable=True,
                )
            ]
        )

    async def store_slot(self) -> None:
        """The same, for a volume whose write path is at rest: nobody else hears of a failure.

        DiskFailed if the primary does not take the slot.
        """
        written: Completion[OSError | None] = Completion()
        self.write_slot(written.succeed)
        error = await written
        if error is not None:
            raise DiskFailed(disk=self._disk.identity.id, reason=str(error))

    def _slot_written(self, error: OSError | None, done: Callable[[OSError | None], None]) -> None:
        self.behind = error is not None
        done(error)

    # The out-of-sync bitmap

    def out_of_sync(self) -> list[int]:
        """The regions known to differ."""
        found = np.flatnonzero(np.unpackbits(self._bits, bitorder="little"))
        return [int(region) for region in found if region < self._superblock.regions]

    def is_out_of_sync(self, region: int) -> bool:
        return bool(self._bits[region >> 3] >> (region & 7) & 1)

    def _is_unwritten(self, region: int) -> bool:
        return bool(self._unwritten) and region // REGIONS_PER_PAGE in self._unwritten

    def doubt(self, regions: Iterable[int]) -> None:
        """Count regions as out of sync in memory only: the disk does not take it any more."""
        for region in regions:
            self._bits[region >> 3] |= 1 << (region & 7)

    async def set_out_of_sync(self, regions: Iterable[int]) -> None:
        """Durable when this returns."""
        marked = list(regions)
        self.marked.update(marked)
        await self._change(marked, True)

    async def clear_out_of_sync(self, regions: Iterable[int]) -> None:
        """Only after the copy that repaired them was flushed."""
        await self._change(regions, False)

    async def _change(self, regions: Iterable[int], value: bool) -> None:
        changed = [region for region in regions if self.is_out_of_sync(region) != value]
        for region in changed:
            self._bits[region >> 3] ^= 1 << (region & 7)
        self._unwritten.update(region // REGIONS_PER_PAGE for region in changed)
        # A page is written by one at a time, and with all bits as they then are.
        await self._bitmap_turn.take()
        try:
            for page in sorted(self._unwritten):
                first, last = page * REGIONS_PER_PAGE // 8, (page + 1) * REGIONS_PER_PAGE // 8
                bits = self._bits[first:last].tobytes()
                await self._write_page(page)
                if self._bits[first:last].tobytes() == bits:
                    self._unwritten.discard(page)  # else another one waits for its turn
        finally:
            self._bitmap_turn.give()

    async def _write_page(self, page: int) -> None:
        size = REGIONS_PER_PAGE // 8
        raw = format.seal(
            format.BitmapPage,
            PAGE,
            set_id=self._superblock.set_id,
            page=page,
            reserved=0,
            bits=self._bits[page * size : (page + 1) * size].tobytes(),
        )
        offset = self._superblock.bitmap_offset + page * PAGE
        await disk_io.write_bytes(self._disk, self._pool, offset, raw, durable=True)

    # Life

    async def format(self) -> None:
        """Write an empty log."""
        for page in range(self._superblock.bitmap_pages):
            await self._write_page(page)
        blank = format.seal(
            format.IntentSlot,
            PAGE,
            set_id=self._superblock.set_id,
            sequence=0,
            number_ceiling=0,
            stable_write=0,
            count=0,
            flags=0,
            regions=[],
        )
        await gather(
            [
                Task(
                    disk_io.write_bytes(
                        self._disk,
                        self._pool,
                        self._superblock.ring_offset + slot * PAGE,
                        blank,
                        durable=True,
                    )
                )
                for slot in range(RING_SLOTS)
            ]
        )

    async def load(self) -> bool:
        """Read the log; False if not all of it can be trusted, and everything is dirty.

        Afterwards `active` holds the intents that were found.
        """
        superblock = self._superblock
        slots = await self._read_pages(superblock.ring_offset, RING_SLOTS)
        pages = await self._read_pages(superblock.bitmap_offset, superblock.bitmap_pages)
        return self._take_intents(slots) & self._take_bitmap(pages)

    def _take_intents(self, slots: list[bytes | None]) -> bool:
        whole: list[IntentSlot] = []
        for raw in slots:
            with suppress(FormatDamaged):
                whole.append(decode_slot(self._superblock, raw, "intent slot"))
        damaged = len(slots) - len(whole)
        if whole:
            newest = max(whole, key=lambda slot: slot.sequence)
            self._sequence, self.stable_write = newest.sequence, newest.stable_write
            self.ceiling, self.restoring = newest.ceiling, newest.restoring
            self.active = dict.fromkeys(newest.regions, UNSETTLED)
        if damaged:
            # A damaged slot may have raised the ceiling by one step.
            self.ceiling = max((slot.ceiling for slot in whole), default=0)
            self.ceiling += damaged * CEILING_STEP
        # A damaged slot may also be the newest, whose place is skipped from now on.
        self._sequence += damaged
        return not damaged

    def _take_bitmap(self, pages: list[bytes | None]) -> bool:
        size = REGIONS_PER_PAGE // 8
        whole = True
        for page, raw in enumerate(pages):
            try:
                bits = decode_bitmap_page(self._superblock, page, raw, "bitmap page")
                self._bits[page * size : (page + 1) * size] = bits
            except FormatDamaged:
                whole = False
        return whole

    async def _read_pages(self, offset: int, count: int) -> list[bytes | None]:
        """Pages one behind the other; None for those that cannot be read."""
        try:
            raw = await disk_io.read_bytes(self._disk, self._pool, offset, count * PAGE)
            return [raw[at : at + PAGE] for at in range(0, len(raw), PAGE)]
        except DiskFailed:
            if count == 1:
                return [None]
        return [(await self._read_pages(offset + at * PAGE, 1))[0] for at in range(count)]
