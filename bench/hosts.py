"""Host writes and reads over NBD, beside qemu-nbd on a disk of the same kind.

The peer, `qemu-nbd --cache=none --aio=io_uring`, protects nothing.  Every write
of ours is acknowledged when both disks have it (policy `both`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import fio
from bench.figures import Effort, Figure, Ratio, by_turns
from bench.rig import GIB, HISTORY, MIB, Rig, Service

BESIDE = "qemu-nbd (none, io_uring)"
BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Exports:
    """Ours and the peer's; `span` is how many bytes of each are used."""

    ours: str
    theirs: str
    span: int
    service: Service


@contextmanager
def exports(effort: Effort) -> Iterator[Exports]:
    """Both, full of data; what ours will write to its history has been touched before, too."""
    size = 256 * MIB if effort.quick else 512 * MIB
    history = GIB if effort.quick else 5 * GIB
    noise = os.urandom(4 * MIB)
    with Rig() as rig:
        primary = rig.disk("primary", size, noise)
        secondary = rig.disk("secondary", size + HISTORY, bytes(4 * MIB), size + history)
        peer = rig.disk("peer", size, noise)
        service = rig.service()
        volume_size = service.protect("bench", primary, secondary)
        span = volume_size // MIB * MIB
        yield Exports(service.uri("bench"), rig.serve_with_qemu(peer), span, service)


def _random(effort: Effort, pattern: fio.Pattern, targets: dict[int, float | None]) -> list[Figure]:
    """A figure for each queue depth in `targets`, which may be none, in thousands a second."""
    seconds = 1.0 if effort.quick else 2.0
    word = "reads" if pattern == "randread" else "writes"
    figures: list[Figure] = []
    with exports(effort) as both:
        for depth, target in targets.items():

            def speed(uri: str, depth: int = depth, seconds: float = seconds) -> float:
                moved = fio.over_nbd(
                    uri, pattern, block=BLOCK, depth=depth, span=both.span, seconds=seconds
                )
                return moved / BLOCK / 1000

            for uri in (both.ours, both.theirs):
                speed(uri, seconds=0.5)
            ours, theirs = by_turns(
                effort.repeat, lambda: speed(both.ours), lambda: speed(both.theirs)
            )
            work = f"4 KiB random host {word}, QD {depth}"
            figures.append(Ratio(work, "k/s", ours, BESIDE, theirs, target))
    return figures


def random_writes(effort: Effort) -> list[Figure]:
    return _random(effort, "randwrite", {32: 1.3, 1: 0.8})


def random_reads(effort: Effort) -> list[Figure]:
    return _random(effort, "randread", {32: None, 1: None})


def sequential_writes(effort: Effort) -> list[Figure]:
    """1 MiB each, beside half of the peer's speed: every byte is written twice."""
    with exports(effort) as both:
        amount = both.span

        def speed(uri: str) -> float:
            moved = fio.over_nbd(uri, "write", block=MIB, depth=8, span=both.span, amount=amount)
            return moved / MIB

        ours, theirs = by_turns(
            effort.repeat, lambda: speed(both.ours), lambda: speed(both.theirs) / 2
        )
    work = "1 MiB sequential host writes, QD 8"
    return [Ratio(work, "MiB/s", ours, f"half of {BESIDE}", theirs, 0.9)]
