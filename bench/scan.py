"""`sync --full` of equal volumes, beside reading the disks alone and beside qemu-img compare."""

import os
import time

from bench import fio
from bench.figures import Effort, Figure, Ratio, by_turns
from bench.rig import GIB, HISTORY, MIB, MeasurementFailed, Rig, run


def scan(effort: Effort) -> list[Figure]:
    """MiB of volume a second; it is the base image that is scanned, the history is empty."""
    size = 256 * MIB if effort.quick else GIB
    with Rig() as rig:
        noise = os.urandom(4 * MIB)
        primary = rig.disk("primary", size, noise)
        secondary = rig.disk("secondary", size + HISTORY, bytes(4 * MIB), size + 64 * MIB)
        equal = [rig.disk(name, size, noise).node for name in ("one", "another")]
        service = rig.service()
        span = service.protect("bench", primary, secondary)

        def ours() -> float:
            began = time.perf_counter()
            job = service.ask("sync", volume="bench", full=True, wait=True)["job"]
            seconds = time.perf_counter() - began
            if job["bytes_scanned"] != span or job["bytes_different"]:
                raise MeasurementFailed(f"the scan of equal volumes ended as {job}")
            return span / MIB / seconds

        def slower_disk() -> float:
            return min(fio.sequential_read(disk.node, size) for disk in (primary, secondary)) / MIB

        def compare() -> float:
            began = time.perf_counter()
            run("qemu-img", "compare", "-T", "none", "-f", "raw", "-F", "raw", *equal)
            return size / MIB / (time.perf_counter() - began)

        beside_disks = by_turns(effort.repeat, ours, slower_disk)
        beside_compare = by_turns(effort.repeat, ours, compare)
    work = f"scan of equal volumes of {size // MIB} MiB"
    return [
        Ratio(
            work, "MiB/s", beside_disks[0], "slower disk read alone by fio", beside_disks[1], 0.9
        ),
        Ratio(work, "MiB/s", beside_compare[0], "qemu-img compare -T none", beside_compare[1], 2.0),
    ]
