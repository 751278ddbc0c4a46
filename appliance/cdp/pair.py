"""Two disks that belong together: making a pair, and telling whether this is one.

Disks are known by the ids in their superblocks, never by where they are
plugged in.  Of two generations a child follows its parent; where neither
follows the other, both disks have served hosts alone, and only a person can
say which one counts.
"""

from appliance.cdp import disk_io, format, superblock
from appliance.cdp.chain import Chain
from appliance.cdp.checkpoint import Checkpoints, Tail
from appliance.cdp.dirty_region_log import DirtyRegionLog
from appliance.cdp.format import PAGE
from appliance.cdp.interfaces import Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.policies import Policies
from appliance.cdp.superblock import Superblock
from appliance.errors import WrongDisk

_SECTORS_IN_MBR = 0xFFFF_FFFF
_PROTECTIVE = 0xDA
"""MBR partition type "non-file-system data": other tools leave the disk alone."""


async def format_pair(
    primary: Disk, secondary: Disk, planned: Superblock, pool: BufferPool
) -> None:
    """Write both disks' metadata; data of the primary before its tail stays as it is.

    The superblocks come last, the primary's at the very end: a crash in
    between leaves no pair.
    """
    log = DirtyRegionLog(primary, planned, pool)
    await log.format()
    await log.set_out_of_sync(range(planned.regions))
    blank = bytes(planned.checkpoint_size)
    await disk_io.write_bytes(secondary, pool, planned.checkpoint_offset, blank + blank)
    await disk_io.write_bytes(secondary, pool, 0, protective_mbr())
    checkpoints = Checkpoints(secondary, planned, pool)
    for _ in range(2):  # both slots, so that either can stand for the other
        await checkpoints.store(Chain(), Tail(0, 0), next_order=1, policies=Policies())
    await superblock.store(secondary, pool, planned.for_peer())
    await superblock.store(primary, pool, planned)


def protective_mbr() -> bytes:
    """One page: a partition table with one partition over the whole disk."""
    page = bytearray(PAGE)
    page[446 + 4] = _PROTECTIVE
    page[446 + 8 : 446 + 12] = (1).to_bytes(4, "little")
    page[446 + 12 : 446 + 16] = _SECTORS_IN_MBR.to_bytes(4, "little")
    page[510:512] = b"\x55\xaa"
    return bytes(page)


def check_pair(primary: Superblock, secondary: Superblock, disk: str) -> None:
    """WrongDisk unless the secondary is this primary's own, and not ahead of it or beside it.

    `disk` names the secondary for people.
    """
    if secondary.set_id != primary.set_id:
        raise WrongDisk(disk=disk, reason=f"it belongs to volume '{secondary.name}' of another set")
    if secondary.role != format.SECONDARY or secondary.disk_id != primary.peer_id:
        raise WrongDisk(disk=disk, reason="it is not the secondary of this primary")
    if not primary.has_layout_of(secondary):
        raise WrongDisk(disk=disk, reason="it is laid out otherwise than its primary says")
    if primary.follows(secondary):
        return
    if secondary.follows(primary):
        raise WrongDisk(disk=disk, reason="it has served hosts since the primary was last seen")
    raise WrongDisk(disk=disk, reason="both disks have served hosts without each other")
