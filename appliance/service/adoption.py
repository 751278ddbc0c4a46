"""Taking disks into roles: what they carry is looked at before anything is written.

What is known by its marks is refused.  A primary's data is kept, so only our
tail has to be free of it; a secondary is taken whole, and wiped on demand.
"""

from pathlib import Path
from typing import Final

from appliance.cdp import disk_io, format, superblock
from appliance.cdp.interfaces import Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.superblock import Superblock
from appliance.drivers.disk import RawDisk
from appliance.drivers.signatures import Signature, first_free_byte, foreign_signatures
from appliance.errors import BadRequest, DiskFailed, DiskNotEmpty, FormatDamaged, FormatTooNew
from appliance.loop import Loop

NAME_BYTES = 64
EDGE: Final = 1 << 20
"""Bytes wiped at both ends of a disk, whatever is found there: partition tables, their backups, md
and LVM labels, the places of most superblocks."""
WIPING_ROUNDS: Final = 8
"""Marks may hide others; so many layers are far more than anybody stacks."""


def check_name(name: str) -> None:
    """BadRequest unless it fits the superblock and the name of an export."""
    fits = 0 < len(name.encode()) <= NAME_BYTES
    if not fits or not name.isprintable() or any(c in "@/: " for c in name):
        raise BadRequest(reason=f"'{name}' cannot be the name of a volume")


async def volume_of(disk: Disk, pool: BufferPool) -> Superblock | None:
    """The superblock of a disk of ours as it stands there now; FormatTooNew if that cannot be told.

    One that is damaged in all its copies is nobody's.
    """
    try:
        return await superblock.load(disk, pool)
    except FormatDamaged:
        return None


async def check_primary(loop: Loop, pool: BufferPool, disk: RawDisk, ours_from: int) -> str:
    """What a person must agree to, or nothing: what of unknown kind is overwritten.

    Raises DiskNotEmpty if something known reaches into our tail, which begins at `ours_from`.
    """
    found = await _signatures(loop, disk)
    free = first_free_byte(found, disk.size)
    if found and free > ours_from:
        reason = (
            f"it carries {_kinds(found)} up to byte {free};"
            f" shrink that to {ours_from} bytes or less"
        )
        raise DiskNotEmpty(disk=disk.identity.id, reason=reason)
    if await _has_data(disk, pool, ours_from):
        return f"everything behind byte {ours_from} on disk {disk.identity.id} is overwritten"
    return ""


async def check_secondary(loop: Loop, pool: BufferPool, disk: RawDisk, wiped: bool) -> str:
    """What a person must agree to, or nothing: what the disk carries, and loses.

    Raises DiskNotEmpty if that is of a known kind, and the disk is not to be `wiped`.
    """
    name = disk.identity.id
    what = await carried(loop, pool, disk)
    if what and not wiped:
        raise DiskNotEmpty(disk=name, reason=f"it carries {what}", remedy=wiping_remedy(name))
    if what:
        return f"disk {name} carries {what}, all of which is destroyed"
    if await _has_data(disk, pool, 0):
        return f"everything on disk {name} is overwritten"
    return ""


def wiping_remedy(disk: str) -> str:
    """How a disk is taken for a secondary all the same."""
    return f"choose another disk, or say `--wipe {disk}` to destroy what this one carries"


async def carried(loop: Loop, pool: BufferPool, disk: RawDisk) -> str:
    """What of a known kind a disk carries, in words; empty if nothing."""
    try:
        ours = await volume_of(disk, pool)
    except FormatTooNew:
        return "a volume of a newer release"
    if ours is not None:
        role = "primary" if ours.role == format.PRIMARY else "secondary"
        return f"the {role} of volume '{ours.name}'"
    return _kinds(await _signatures(loop, disk))


async def make_blank(loop: Loop, disk: RawDisk) -> None:
    """Destroy every mark of what a disk carries, durably; DiskFailed if one will not go.

    Both ends go whatever is there: not every copy of a mark is listed.
    """
    edge = min(EDGE, disk.size)
    await disk_io.zero(disk, 0, edge)
    await disk_io.zero(disk, disk.size - edge, edge)
    for _ in range(WIPING_ROUNDS):
        await disk_io.flush(disk)
        found = await _signatures(loop, disk)
        if not found:
            return
        for mark in found:
            first = mark.offset // format.PAGE * format.PAGE
            end = -(-(mark.offset + mark.length) // format.PAGE) * format.PAGE
            await disk_io.zero(disk, first, min(end, disk.size) - first)
    raise DiskFailed(disk=disk.identity.id, reason=f"marks of {_kinds(found)} cannot be wiped")


async def _signatures(loop: Loop, disk: RawDisk) -> list[Signature]:
    identity, block = disk.identity, disk.logical_block
    return await loop.offload(lambda: foreign_signatures(Path(identity.node), identity.id, block))


def _kinds(found: list[Signature]) -> str:
    return ", ".join(sorted({signature.kind for signature in found}))


async def _has_data(disk: RawDisk, pool: BufferPool, ours_from: int) -> bool:
    """Does something, of whatever kind, stand where ours shall?  Looked for at both its ends."""
    whole = disk.size // format.PAGE * format.PAGE
    length = min(disk_io.TRANSFER, whole - ours_from)
    for offset in (ours_from, whole - length):
        if await disk_io.read_bytes(disk, pool, offset, length) != bytes(length):
            return True
    return False


async def wipe(disk: Disk, ours: Superblock, pool: BufferPool) -> None:
    """Make the disk nobody's: its superblocks go, and a secondary's partition table."""
    for offset in superblock.copies(ours.role, disk.size):
        await disk_io.write_bytes(disk, pool, offset, bytes(format.PAGE), durable=True)
    if ours.role == format.SECONDARY:
        await disk_io.write_bytes(disk, pool, 0, bytes(format.PAGE), durable=True)
