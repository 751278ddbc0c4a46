"""Restore of scattered changed blocks, beside `dd` of as many bytes in the same blocks.

The time is what a person waits: from the request on the control socket, with
the plan made, to the answer that everything is back and flushed.
"""

import time

from bench import fio
from bench.figures import Effort, Figure, Ratio
from bench.rig import GIB, HISTORY, MIB, MeasurementFailed, Rig, Service, run

BLOCK = 4096


def _seconds_to_restore(service: Service, volume: str, span: int, blocks: int, turn: int) -> float:
    """Change so many blocks and put them back."""
    point = f"before-{turn}"
    service.ask("snapshot", volume=volume, name=point)
    fio.over_nbd(
        service.uri(volume), "randwrite", block=BLOCK, depth=32, span=span, amount=blocks * BLOCK
    )
    began = time.perf_counter()
    answer = service.ask("restore", volume=volume, to=f"snapshot:{point}", yes=True, wait=True)
    seconds = time.perf_counter() - began
    job = answer["job"]
    if job["result"] != "done" or job["bytes_copied"] != blocks * BLOCK:
        raise MeasurementFailed(f"the restore ended as {job}")
    return seconds


def restore(effort: Effort) -> list[Figure]:
    """1 % of a volume; and the same blocks on a volume of a quarter of its size."""
    size = 512 * MIB if effort.quick else 2 * GIB
    ours: list[float] = []
    smaller: list[float] = []
    theirs: list[float] = []
    with Rig() as rig:
        zeros = bytes(4 * MIB)
        touched = 640 * MIB
        disks = {
            name: (
                rig.disk(f"{name}-primary", bytes_),
                rig.disk(f"{name}-secondary", bytes_ + HISTORY, zeros, bytes_ + touched),
            )
            for name, bytes_ in (("large", size), ("small", size // 4))
        }
        copied = rig.disk("copied", 64 * MIB, zeros)
        service = rig.service()
        spans = {name: service.protect(name, *pair) // MIB * MIB for name, pair in disks.items()}
        blocks = spans["large"] // 100 // BLOCK
        megabytes = blocks * BLOCK / MIB
        source = disks["large"][1].node
        for turn in range(effort.repeat):
            ours.append(
                megabytes / _seconds_to_restore(service, "large", spans["large"], blocks, turn)
            )
            began = time.perf_counter()
            run(
                *("dd", f"if={source}", f"of={copied.node}", f"bs={BLOCK}", f"count={blocks}"),
                *("iflag=direct", "oflag=direct", "conv=fsync"),
            )
            theirs.append(megabytes / (time.perf_counter() - began))
            smaller.append(
                megabytes / _seconds_to_restore(service, "small", spans["small"], blocks, turn)
            )
    return [
        Ratio(
            f"restore of 1 % changed 4 KiB blocks ({blocks})",
            "MiB/s",
            ours,
            f"dd of {blocks} blocks, bs=4k, direct",
            theirs,
            0.8,
        ),
        Ratio(
            f"restore of {blocks} blocks, volume of {size // MIB} MiB",
            "MiB/s",
            ours,
            f"the same, volume of {size // 4 // MIB} MiB",
            smaller,
            0.8,
        ),
    ]
