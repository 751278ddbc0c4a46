"""Changing what a secondary holds, behind the appliance's back: where that is, and doing it.

The places are found by the engine's own code, on a copy of the disk: the disk itself may be in
service.
"""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from appliance.cdp import superblock
from appliance.cdp.checkpoint import Checkpoints
from appliance.cdp.extents import Extents
from appliance.cdp.history import History
from appliance.cdp.interfaces import BLOCK, SECTOR, DiskIdentity
from appliance.cdp.memory import BufferPool
from appliance.cdp.points import Snapshot
from appliance.cdp.stream import Stream
from appliance.cdp.tasks import Task
from appliance.drivers.clock import SystemClock
from appliance.drivers.disk import RawDisk
from appliance.drivers.kernel_queue import KernelQueue
from appliance.loop import Loop

SECTORS = BLOCK // SECTOR


class _Nobody:
    """The owner of a history that is whole."""

    def history_damaged(self, disk: str, reason: str) -> None:
        raise AssertionError(f"{disk}: {reason}")

    def snapshot_dropped(self, snapshot: Snapshot) -> None:
        raise AssertionError(f"{snapshot} is lost")

    async def doubt(self, doubted: Extents) -> None:
        raise AssertionError(f"{doubted.total} sectors are in doubt")


def copy_sparse(disk: Path, copy: Path) -> None:
    """What was never written takes no room, and no time."""
    subprocess.run(["cp", "--sparse=always", disk, copy], check=True, timeout=60)


def spoil(secondary: Path, blocks: Iterable[int]) -> None:
    """Change every byte that the secondary would answer with for these blocks of the volume."""
    copy = secondary.parent / f".{secondary.name}"  # hidden files are no disks
    copy_sparse(secondary, copy)
    places = _places(copy, list(blocks))
    copy.unlink()
    with secondary.open("r+b") as disk:
        for offset, length in places:
            disk.seek(offset)
            held = disk.read(length)
            disk.seek(offset)
            disk.write(bytes(byte ^ 0xFF for byte in held))
        disk.flush()
        os.fsync(disk.fileno())


def _places(secondary: Path, blocks: list[int]) -> list[tuple[int, int]]:
    """Offset and length of the newest version of these blocks on the secondary, in bytes."""
    with Loop() as loop:
        queue = KernelQueue(loop)
        disk = RawDisk.open(secondary, DiskIdentity("copy", str(secondary)), queue, read_only=True)
        task = Task(_find(disk, loop, blocks))
        while not task.finished:
            loop.turn(0.1)
        disk.close()
        while not disk.closed:
            loop.turn(0.1)
        return task.result()


async def _find(disk: RawDisk, loop: Loop, blocks: list[int]) -> list[tuple[int, int]]:
    pool = BufferPool()
    found = await superblock.load(disk, pool)
    assert found is not None
    checkpoints = Checkpoints(disk, found, pool)
    loaded = await checkpoints.load()
    chain = loaded.chain
    followed = await Stream(disk, found, pool).follow(loaded.tail, chain.epoch, chain.next_map)
    chain.maps += followed.maps
    history = History(
        disk,
        found,
        chain,
        loaded.tail,
        loaded.next_order,
        checkpoints,
        loop,
        SystemClock(),
        pool,
        _Nobody(),
    )
    pit_map = await history.pit_map(chain.newest_write)
    places = []
    for block in blocks:
        for piece in pit_map.pieces(block * SECTORS, (block + 1) * SECTORS):
            if piece.entry is None:
                at = found.base_offset + piece.start * SECTOR
            else:
                at = (piece.entry.location + piece.start - piece.entry.start) * SECTOR
            places.append((at, (piece.end - piece.start) * SECTOR))
    return places
