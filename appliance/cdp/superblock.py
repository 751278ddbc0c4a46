"""Superblocks: whose disk this is, which role it has, and where on it everything lies.

Both disks of a pair carry the same geometry, each under its own role and id.
Copies are written one after the other, each durably, so that at any moment one
whole copy stands; of two whole copies the one with the higher sequence counts.

A *generation* is a random id with its parents.  Whoever serves hosts without
the other disk first makes a new one durable: a child follows its parent,
siblings have both served and are never guessed between.

Each start without the other disk makes one, for a copy of this disk may have
been made since the last.  Only so many parents are remembered, and the other
disk may stay away for any number of starts.  So where there is no room for one
more, a generation that no other disk has ever borne (`alone`) is forgotten, and
not the one that the absent disk bears.
"""

import secrets
from dataclasses import dataclass, replace
from typing import Any

from appliance.cdp import disk_io, format
from appliance.cdp.format import PAGE, PRIMARY, SECONDARY, pages
from appliance.cdp.interfaces import Disk
from appliance.cdp.memory import BufferPool
from appliance.errors import DiskFailed, DiskTooSmall, FormatDamaged

TAIL = 64 << 10
"""The primary's last bytes: superblock copy, ring of intent slots, superblock copy."""
RING_SLOTS = TAIL // PAGE - 2
MAPS = 4096
SNAPSHOTS = 1024
GAPS = 512
SMALL = 64 << 20
"""Disks below this have smaller tables and tighter alignment."""
LEAST_SEGMENTS = 16


@dataclass(frozen=True, slots=True)
class Superblock:
    """What a superblock says; offsets and sizes in bytes."""

    role: int
    set_id: bytes
    disk_id: bytes
    peer_id: bytes
    name: str
    created: int
    volume_size: int
    sector: int
    payload_align: int
    region_size: int
    ring_offset: int
    bitmap_offset: int
    bitmap_pages: int
    checkpoint_offset: int
    checkpoint_size: int
    base_offset: int
    history_offset: int
    segment_size: int
    segment_count: int
    generation: bytes
    parents: tuple[bytes, ...] = ()
    sequence: int = 1
    alone: bool = False
    """The generation was made without the other disk, which has not been given it since."""

    @property
    def regions(self) -> int:
        """How many regions the volume has."""
        return -(-self.volume_size // self.region_size)

    def segment_offset(self, segment: int) -> int:
        """Where a segment of the history begins on the secondary."""
        return self.history_offset + segment * self.segment_size

    def for_peer(self) -> "Superblock":
        """The same pair, as the other disk tells it."""
        return replace(
            self,
            role=SECONDARY if self.role == PRIMARY else PRIMARY,
            disk_id=self.peer_id,
            peer_id=self.disk_id,
            alone=False,
        )

    def child(self) -> "Superblock":
        """A new generation that descends from this one, for who serves without the other disk."""
        parents = self.parents
        if not self.alone or len(parents) < format.PARENTS:
            parents = (self.generation, *parents)[: format.PARENTS]
        generation = secrets.token_bytes(16)
        return replace(self, generation=generation, parents=parents, alone=True).next()

    def shared(self, borne: bytes) -> "Superblock":
        """The same generation, as it is once the other disk is given it: durable before that.

        Until then the other disk bears `borne`, which is therefore the last to be forgotten.
        """
        parents = self.parents
        if borne in parents:
            parents = (borne, *(parent for parent in parents if parent != borne))
        return replace(self, parents=parents, alone=False).next()

    def next(self) -> "Superblock":
        """The same with the next sequence number, to be written."""
        return replace(self, sequence=self.sequence + 1)

    def has_layout_of(self, other: "Superblock") -> bool:
        """Do both tell the same places and sizes on both disks?"""
        return (
            replace(
                self,
                **{name: getattr(other, name) for name in _NOT_LAYOUT},
            )
            == other
        )

    def follows(self, other: "Superblock") -> bool:
        """Is this generation the other's, or a descendant of it?"""
        return self.generation == other.generation or other.generation in self.parents


_NOT_LAYOUT = ("role", "disk_id", "peer_id", "name", "generation", "parents", "sequence", "alone")


def plan(
    name: str,
    primary: Disk,
    secondary: Disk,
    created: int,
    *,
    region_size: int | None = None,
    segment_size: int | None = None,
) -> Superblock:
    """The geometry of a new pair, as the primary's superblock; DiskTooSmall if it cannot be.

    The sizes of regions and segments follow the disks' sizes unless given.
    """
    end = primary.size // PAGE * PAGE
    if end < 2 * TAIL:
        raise DiskTooSmall(disk=primary.identity.id, size=primary.size, needed=2 * TAIL)
    region = region_size or _region_size(end)
    regions = -(-end // region)
    bitmap_pages = -(-regions // format.REGIONS_PER_PAGE)
    bitmap_offset = end - TAIL - bitmap_pages * PAGE
    checkpoint_offset = 2 * PAGE

    def history(size: int) -> tuple[int, int, int, int, int]:
        small = size < SMALL
        align = PAGE if small else 1 << 20
        last = size // PAGE * PAGE - PAGE
        segment = segment_size or _segment_size(max(0, last - bitmap_offset))
        at_most = max(0, (last - bitmap_offset) // segment)
        rows = min(MAPS, at_most + 8) * format.MAP_DTYPE.itemsize
        rows += (16 if small else SNAPSHOTS) * format.SNAPSHOT_DTYPE.itemsize
        rows += (16 if small else GAPS) * format.GAP_DTYPE.itemsize
        rows += at_most * 4
        slot = PAGE + pages(rows * 4 // 3)  # the fourth part is for synchronisations
        base = -(-(checkpoint_offset + 2 * slot) // align) * align
        begin = -(-(base + bitmap_offset) // align) * align
        return slot, base, begin, segment, max(0, (last - begin) // segment)

    slot, base, begin, segment, count = history(secondary.size)
    if count < LEAST_SEGMENTS:
        needed = 0
        while count < LEAST_SEGMENTS:  # again: a larger disk has larger tables
            needed = begin + LEAST_SEGMENTS * segment + PAGE
            _, _, begin, segment, count = history(needed)
        raise DiskTooSmall(disk=secondary.identity.id, size=secondary.size, needed=needed)
    return Superblock(
        role=PRIMARY,
        set_id=secrets.token_bytes(16),
        disk_id=secrets.token_bytes(16),
        peer_id=secrets.token_bytes(16),
        name=name,
        created=created,
        volume_size=bitmap_offset,
        sector=primary.logical_block,
        payload_align=max(primary.logical_block, secondary.logical_block),
        region_size=region,
        ring_offset=end - TAIL + PAGE,
        bitmap_offset=bitmap_offset,
        bitmap_pages=bitmap_pages,
        checkpoint_offset=checkpoint_offset,
        checkpoint_size=slot,
        base_offset=base,
        history_offset=begin,
        segment_size=segment,
        segment_count=count,
        generation=secrets.token_bytes(16),
    )


def _region_size(size: int) -> int:
    """64 KiB to 1 MiB, so that one slot of intents covers as much of the volume as it can.

    Beyond a tebibyte regions grow, to keep the bitmap small.
    """
    region = 64 << 10
    while (
        region < 1 << 20 and size // region > format.INTENT_CAPACITY
    ) or size // region > 1 << 20:
        region *= 2
    return region


def _segment_size(history: int) -> int:
    """About a thousandth of the history: a power of two, 256 KiB to 64 MiB."""
    return min(64 << 20, max(256 << 10, 1 << max(0, (history // 1024).bit_length() - 1)))


def copies(role: int, disk_size: int) -> tuple[int, int]:
    """Where the two copies lie."""
    end = disk_size // PAGE * PAGE
    return (end - TAIL, end - PAGE) if role == PRIMARY else (PAGE, end - PAGE)


def encode(superblock: Superblock) -> bytes:
    """One page."""
    blank = (bytes(16),) * (format.PARENTS - len(superblock.parents))
    fields: dict[str, Any] = {
        name: getattr(superblock, name)
        for name in Superblock.__slots__
        if name not in ("name", "alone")
    }
    fields["parents"] = list(superblock.parents + blank)
    return format.seal(
        format.Superblock,
        PAGE,
        compat=format.ALONE if superblock.alone else 0,
        ro_compat=0,
        incompat=0,
        ring_slots=RING_SLOTS,
        name=superblock.name.encode().ljust(64, b"\0"),
        **fields,
    )


def decode(raw: bytes, what: str) -> Superblock:
    """FormatDamaged or FormatTooNew if it cannot be believed."""
    parsed = format.unseal(format.Superblock, raw, what)
    format.refuse_unknown_features(parsed, what)
    fields = {name: parsed[name] for name in Superblock.__slots__ if name != "alone"}
    fields["alone"] = bool(parsed.compat & format.ALONE)
    fields["parents"] = tuple(p for p in parsed.parents if any(p))
    try:
        fields["name"] = parsed.name.rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise FormatDamaged(what=what, reason="its name is not UTF-8") from error
    if parsed.role not in (PRIMARY, SECONDARY):
        raise FormatDamaged(what=what, reason=f"role {parsed.role} does not exist")
    if parsed.ring_slots != RING_SLOTS:
        raise FormatDamaged(what=what, reason=f"a ring of {parsed.ring_slots} slots")
    found = Superblock(**fields)
    if not _can_be(found):
        raise FormatDamaged(what=what, reason="its sizes and offsets contradict each other")
    return found


def _can_be(superblock: Superblock) -> bool:
    """Do the parts of both disks lie in their order, aligned, and without overlap?"""
    s = superblock
    aligned = (
        *(s.ring_offset, s.bitmap_offset, s.checkpoint_offset, s.checkpoint_size),
        *(s.base_offset, s.history_offset, s.segment_size, s.region_size, s.volume_size),
    )
    return (
        not any(value % PAGE for value in aligned)
        and s.sector in (512, 4096)
        and s.payload_align in (512, 4096)
        and s.sector <= s.payload_align
        and s.region_size > 0
        and 0 < s.volume_size <= s.bitmap_offset
        and s.regions <= s.bitmap_pages * format.REGIONS_PER_PAGE
        and s.bitmap_offset + s.bitmap_pages * PAGE <= s.ring_offset - PAGE
        and s.checkpoint_offset >= 2 * PAGE
        and s.checkpoint_size >= 2 * PAGE
        and s.checkpoint_offset + 2 * s.checkpoint_size <= s.base_offset
        and s.base_offset + s.volume_size <= s.history_offset
        and s.segment_size >= 2 * PAGE
        and s.segment_count >= LEAST_SEGMENTS
        and s.sequence < format.NUMBER_LIMIT
    )


def check_fits(superblock: Superblock, disk_size: int, what: str) -> None:
    """FormatDamaged if the disk is smaller than its superblock tells."""
    if superblock.role == PRIMARY:
        end = superblock.ring_offset + (RING_SLOTS + 1) * PAGE
    else:
        end = superblock.segment_offset(superblock.segment_count) + PAGE
    if end > disk_size:
        raise FormatDamaged(what=what, reason=f"it needs {end} bytes, the disk has {disk_size}")


async def load(disk: Disk, pool: BufferPool) -> Superblock | None:
    """The newest whole superblock on a disk, None where there is no trace of one.

    Raises FormatDamaged where there are only damaged ones, FormatTooNew where
    a newer release wrote it.
    """
    if disk.size < 2 * TAIL:
        return None
    found: list[Superblock] = []
    damaged: Exception | None = None
    places = sorted({*copies(PRIMARY, disk.size), *copies(SECONDARY, disk.size)})
    for offset in places:
        what = f"superblock at byte {offset} of {disk.identity.id}"
        try:
            raw = await disk_io.read_bytes(disk, pool, offset, PAGE)
            if raw.startswith(format.SUPERBLOCK_MAGIC):
                superblock = decode(raw, what)
                check_fits(superblock, disk.size, what)
                if offset in copies(superblock.role, disk.size):
                    found.append(superblock)
        except (FormatDamaged, DiskFailed) as error:
            damaged = error
    if len({(copy.set_id, copy.disk_id, copy.role) for copy in found}) > 1:
        raise FormatDamaged(
            what=f"superblock of {disk.identity.id}", reason="its copies tell of different disks"
        )
    if found:
        return max(found, key=lambda superblock: superblock.sequence)
    if damaged is not None:
        raise damaged
    return None


async def store(disk: Disk, pool: BufferPool, superblock: Superblock) -> None:
    """Write both copies, each durably, one after the other."""
    raw = encode(superblock)
    for offset in copies(superblock.role, disk.size):
        await disk_io.write_bytes(disk, pool, offset, raw, durable=True)
