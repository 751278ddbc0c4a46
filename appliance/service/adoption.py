"""Taking disks into roles: what they carry is looked at before anything is written."""

from pathlib import Path

from appliance.cdp import disk_io, format, superblock
from appliance.cdp.interfaces import Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.superblock import Superblock
from appliance.drivers.disk import RawDisk
from appliance.drivers.signatures import first_free_byte, foreign_signatures
from appliance.errors import BadRequest, DiskNotEmpty, NeedsConsent
from appliance.loop import Loop

NAME_BYTES = 64


def check_name(name: str) -> None:
    """BadRequest unless it fits the superblock and the name of an export."""
    fits = 0 < len(name.encode()) <= NAME_BYTES
    if not fits or not name.isprintable() or any(c in "@/: " for c in name):
        raise BadRequest(reason=f"'{name}' cannot be the name of a volume")


async def check_free(
    loop: Loop, pool: BufferPool, disk: RawDisk, ours_from: int, consent: bool
) -> None:
    """DiskNotEmpty if something known reaches into what we would write from `ours_from` on,
    NeedsConsent if something unknown does."""
    identity, block = disk.identity, disk.logical_block
    found = await loop.offload(lambda: foreign_signatures(Path(identity.node), identity.id, block))
    free = first_free_byte(found, disk.size)
    if found and free > ours_from:
        kinds = ", ".join(sorted({signature.kind for signature in found}))
        reason = f"it carries {kinds}"
        if ours_from:
            reason += f" up to byte {free}; shrink that to {ours_from} bytes or less"
        raise DiskNotEmpty(disk=identity.id, reason=reason)
    if consent:
        return
    tail = await disk_io.read_bytes(
        disk, pool, max(ours_from, disk.size - disk_io.TRANSFER) // 4096 * 4096, 4096
    )
    head = await disk_io.read_bytes(disk, pool, ours_from, 4096)
    if any(tail) or any(head):
        what = "everything" if not ours_from else f"everything behind byte {ours_from}"
        raise NeedsConsent(consequence=f"{what} on disk {identity.id} is overwritten")


async def wipe(disk: Disk, ours: Superblock, pool: BufferPool) -> None:
    """Make the disk nobody's: its superblocks go, and a secondary's partition table."""
    for offset in superblock.copies(ours.role, disk.size):
        await disk_io.write_bytes(disk, pool, offset, bytes(format.PAGE), durable=True)
    if ours.role == format.SECONDARY:
        await disk_io.write_bytes(disk, pool, 0, bytes(format.PAGE), durable=True)
