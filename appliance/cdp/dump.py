"""Showing what is on a disk, structure by structure and field by field.

What is damaged is shown too, with the reason, as far as its bytes make sense.
Nothing is written, and payload is not shown.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import construct
import numpy as np

from appliance.cdp import disk_io, format, superblock
from appliance.cdp.checkpoint import SLOTS, Checkpoints, Loaded
from appliance.cdp.delta_map import DeltaMap, MapKind, MapOrder
from appliance.cdp.format import ENTRY_DTYPE, PAGE, PRIMARY, RECORD_HEADER, Rows
from appliance.cdp.interfaces import Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.stream import Stream
from appliance.cdp.superblock import RING_SLOTS, Superblock
from appliance.errors import DiskFailed, FormatDamaged

Fields = dict[str, Any]
"""Numbers, texts, lists, and dictionaries of them: fit for JSON."""

_TEXTS = ("magic", "name", "reason")
_RESERVED = ("_io", "reserved")


@dataclass(frozen=True, slots=True)
class Structure:
    """One structure: where it begins on the disk, and what is wrong with it, if anything."""

    what: str
    offset: int
    fields: Fields
    damage: str | None = None


class Dump:
    """Shows one disk."""

    def __init__(self, disk: Disk, pool: BufferPool, show: Callable[[Structure], None]) -> None:
        self._disk = disk
        self._pool = pool
        self._show = show

    async def run(self) -> None:
        """FormatDamaged if no superblock can be believed, after showing what there is of it."""
        found = None
        reason = "there is none"
        try:
            found = await superblock.load(self._disk, self._pool)
        except FormatDamaged as error:
            reason = str(error.fields["reason"])
        places = (
            {place for role in (1, 2) for place in superblock.copies(role, self._disk.size)}
            if found is None
            else superblock.copies(found.role, self._disk.size)
        )
        for offset in sorted(places):
            if 0 <= offset <= self._disk.size - PAGE:
                await self._page(format.Superblock, "superblock", offset, only_magic=found is None)
        if found is None:
            raise FormatDamaged(what=f"superblock of {self._disk.identity.id}", reason=reason)
        if found.role == PRIMARY:
            await self._region_log(found)
        else:
            await self._history(found)

    async def _page(
        self, definition: construct.Struct, what: str, offset: int, only_magic: bool = False
    ) -> None:
        try:
            raw = await disk_io.read_bytes(self._disk, self._pool, offset, PAGE)
        except DiskFailed as error:
            self._show(Structure(what, offset, {}, str(error.fields["reason"])))
            return
        magic = definition.subcons[0].subcon.value
        if only_magic and not raw.startswith(magic):
            return
        self._show(_structure(definition, what, offset, raw))

    async def _region_log(self, found: Superblock) -> None:
        for slot in range(RING_SLOTS):
            offset = found.ring_offset + slot * PAGE
            await self._page(format.IntentSlot, f"intent slot {slot}", offset)
        for page in range(found.bitmap_pages):
            offset = found.bitmap_offset + page * PAGE
            await self._page(format.BitmapPage, f"bitmap page {page}", offset)

    async def _history(self, found: Superblock) -> None:
        checkpoints = Checkpoints(self._disk, found, self._pool)
        newest: Loaded | None = None
        for slot in range(SLOTS):
            await self._page(format.Checkpoint, f"checkpoint slot {slot}", checkpoints.offset(slot))
            try:
                loaded = await checkpoints.read_slot(slot)
            except (FormatDamaged, DiskFailed) as error:
                reason = str(error.fields["reason"])
                offset = checkpoints.offset(slot)
                self._show(Structure(f"body of checkpoint slot {slot}", offset, {}, reason))
                continue
            if newest is None or loaded.number > newest.number:
                newest = loaded
        if newest is None:
            return
        chain = newest.chain
        stream = Stream(self._disk, found, self._pool)
        followed = await stream.follow(newest.tail, chain.epoch, chain.next_map)
        for snapshot in chain.snapshots.values():
            fields = {name: getattr(snapshot, name) for name in snapshot.__slots__}
            self._show(Structure("snapshot", checkpoints.offset(newest.number), fields))
        for gap in chain.gaps:
            fields = {name: getattr(gap, name) for name in gap.__slots__}
            self._show(Structure("gap", checkpoints.offset(newest.number), fields))
        for delta_map in [*chain.maps, *followed.maps]:
            self._show(
                Structure(
                    f"delta map {delta_map.id}", checkpoints.offset(newest.number), _row(delta_map)
                )
            )
            for segment in delta_map.record_segments:
                await self._segment(found, stream, segment)

    async def _segment(self, found: Superblock, stream: Stream, segment: int) -> None:
        begin = found.segment_offset(segment)
        try:
            buffer = await stream.read_segment(segment)
        except DiskFailed as error:
            self._show(Structure(f"segment {segment}", begin, {}, str(error.fields["reason"])))
            return
        try:
            view = buffer.view
            header = bytes(view[:PAGE])
            own = _structure(format.SegmentHeader, f"segment {segment}", begin, header)
            self._show(own)
            page = 1
            while page < found.segment_size // PAGE:
                raw = bytes(view[page * PAGE : (page + 1) * PAGE])
                if not raw.startswith(format.RECORD_MAGIC):
                    return
                shown = _structure(
                    format.RecordHeader, f"record at page {page}", begin + page * PAGE, raw
                )
                if shown.damage is not None:
                    self._show(shown)
                    return
                if shown.fields["map_id"] != own.fields.get("map_id"):
                    return  # left behind by an earlier use of the segment
                shown.fields["entries"] = list(_entries(raw, shown.fields["count"]))
                self._show(shown)
                page += 1 + shown.fields["payload_size"] // PAGE
        finally:
            buffer.release()


def _structure(definition: construct.Struct, what: str, offset: int, raw: bytes) -> Structure:
    damage = None
    try:
        format.check_envelope(raw, definition.subcons[0].subcon.value, what)
    except FormatDamaged as error:
        damage = str(error.fields["reason"])
    try:
        parsed = definition.parse(raw)
    except construct.ConstructError:
        return Structure(what, offset, {"begins": raw[:16].hex()}, damage or "it makes no sense")
    return Structure(what, offset, _plain(parsed), damage)


def _plain(parsed: construct.Container) -> Fields:
    return {name: _value(name, value) for name, value in parsed.items() if name not in _RESERVED}


def _value(name: str, value: Any) -> Any:
    if name == "bits":
        marked = np.flatnonzero(np.unpackbits(np.frombuffer(value, np.uint8), bitorder="little"))
        return {"marked": len(marked), "first": marked[:100].tolist()}
    if name in _TEXTS and isinstance(value, bytes):
        return value.rstrip(b"\0").decode(errors="replace")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_value(name, item) for item in value if not isinstance(item, bytes) or any(item)]
    return value


def _entries(raw: bytes, count: int) -> Iterator[Fields]:
    most = (PAGE - RECORD_HEADER.size) // ENTRY_DTYPE.itemsize
    rows: Rows = np.frombuffer(raw, ENTRY_DTYPE, min(count, most), RECORD_HEADER.size)
    names = ENTRY_DTYPE.names or ()
    for row in rows.tolist():
        yield dict(zip(names, row, strict=True))


def _row(delta_map: DeltaMap) -> Fields:
    fields = {
        name: getattr(delta_map, name) for name in delta_map.__slots__ if not name.startswith("_")
    }
    fields["kind"] = MapKind(delta_map.kind).name.lower()
    fields["order"] = MapOrder(delta_map.order).name.lower()
    return fields
