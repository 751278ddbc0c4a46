"""Resident memory of `cdpd` with a volume of 1 TiB on sparse disks.

The pair is formatted here as one whose baseline is done: to copy a sparse
tebibyte would fill the memory that the disks live in.
"""

import time
from collections.abc import Callable

from appliance.cdp import pair, superblock
from appliance.cdp.chain import Chain
from appliance.cdp.checkpoint import Checkpoints, Tail
from appliance.cdp.dirty_region_log import DirtyRegionLog
from appliance.cdp.interfaces import DiskIdentity
from appliance.cdp.memory import BufferPool
from appliance.cdp.policies import Policies
from appliance.cdp.tasks import Task
from appliance.drivers.disk import RawDisk
from appliance.drivers.kernel_queue import KernelQueue
from appliance.loop import Loop
from bench import fio
from bench.figures import Bound, Effort, Figure
from bench.rig import GIB, MIB, LoopDisk, MeasurementFailed, Rig, Service

TIB = 1 << 40
AT_MOST = 128.0
START_SECONDS = 30.0
IDLE_SECONDS = 3.0


def memory(effort: Effort) -> list[Figure]:
    """Just after its start, and again some idle seconds after a burst of host writes."""
    fresh: list[float] = []
    used: list[float] = []
    for _ in range(effort.repeat):
        with Rig() as rig:
            primary = rig.disk("primary", TIB + GIB)
            secondary = rig.disk("secondary", TIB + 200 * GIB)
            format_clean_pair("bench", primary, secondary)
            service = rig.service()
            _wait_until_protected(service)
            time.sleep(IDLE_SECONDS)
            fresh.append(service.resident_bytes / MIB)
            fio.over_nbd(
                service.uri("bench"), "randwrite", block=4096, depth=32, span=GIB, amount=256 * MIB
            )
            time.sleep(IDLE_SECONDS)
            used.append(service.resident_bytes / MIB)
    return [
        Bound("resident memory, idle 1 TiB volume: fresh", "MiB", fresh, AT_MOST),
        Bound("resident memory, idle 1 TiB volume: after 64 k writes", "MiB", used, AT_MOST),
    ]


def format_clean_pair(name: str, primary: LoopDisk, secondary: LoopDisk) -> None:
    """Two empty disks as a volume whose two sides are equal, all zeros."""

    async def format_both(ours: RawDisk, theirs: RawDisk) -> None:
        pool = BufferPool()
        planned = superblock.plan(name, ours, theirs, time.time_ns())
        await pair.format_pair(ours, theirs, planned, pool)
        log = DirtyRegionLog(ours, planned, pool)
        await log.load()
        await log.clear_out_of_sync(log.out_of_sync())
        checkpoints = Checkpoints(theirs, planned, pool)
        for _ in range(2):
            await checkpoints.store(Chain(baseline_whole=True), Tail(0, 0), 1, Policies())

    with Loop() as loop:
        queue = KernelQueue(loop)
        disks = [
            RawDisk.open(disk.node, DiskIdentity(disk.id, str(disk.node)), queue)
            for disk in (primary, secondary)
        ]
        work = Task(format_both(*disks))
        _turn_until(loop, lambda: work.finished)
        work.result()
        for disk in disks:
            disk.close()
        _turn_until(loop, lambda: all(disk.closed for disk in disks))


def _turn_until(loop: Loop, done: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not done():
        if time.monotonic() > end:
            raise MeasurementFailed("formatting 1 TiB took forever")
        loop.turn(0.1)


def _wait_until_protected(service: Service) -> None:
    end = time.monotonic() + START_SECONDS
    while not any(v["state"] == "protected" for v in service.ask("status")["volumes"]):
        if time.monotonic() > end:
            raise MeasurementFailed(f"the volume was not protected in time\n{service.log()}")
        time.sleep(0.05)
