"""Looking at disks that `cdpd` does not use: `cdpctl check` and `cdpctl dump`.

The disks are opened read-only and exclusively, so a disk in service is
refused (DiskInUse) and never read underneath it.  No service is needed.
"""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

from appliance.cdp.check.check import Check
from appliance.cdp.check.findings import Finding
from appliance.cdp.dump import Dump, Structure
from appliance.cdp.interfaces import DiskIdentity
from appliance.cdp.memory import BufferPool
from appliance.cdp.tasks import Task
from appliance.drivers.disk import RawDisk
from appliance.drivers.kernel_queue import KernelQueue
from appliance.loop import Loop
from appliance.operators.answers import (
    CheckAnswer,
    FindingDescription,
    StructureDescription,
)
from appliance.wording import printable

T = TypeVar("T")


def check_disks(
    paths: Sequence[str],
    found: Callable[[FindingDescription], None] = lambda finding: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckAnswer:
    """Check one disk, or both disks of a pair; `found` tells each finding as it comes.

    Raises DiskNotFound, DiskInUse and DiskFailed.
    """
    findings: list[FindingDescription] = []

    def take(finding: Finding) -> None:
        described = _described(finding)
        findings.append(described)
        found(described)

    with _Bench() as bench:
        disks = [bench.open(path) for path in paths]
        verdict = bench.run(Check(disks, BufferPool(), take, progress).run())
    return CheckAnswer(
        disks=list(paths),
        findings=findings,
        errors=verdict.errors,
        warnings=verdict.warnings,
        notes=verdict.notes,
    )


def dump_disk(path: str, shown: Callable[[StructureDescription], None]) -> None:
    """Tell every structure of a disk, field by field; there may be millions.

    Raises DiskNotFound, DiskInUse, DiskFailed, and FormatDamaged if no
    superblock can be believed.
    """

    def show(structure: Structure) -> None:
        shown(
            StructureDescription(
                what=structure.what,
                offset=structure.offset,
                fields=structure.fields,
                damage=structure.damage,
            )
        )

    with _Bench() as bench:
        bench.run(Dump(bench.open(path), BufferPool(), show).run())


def _described(finding: Finding) -> FindingDescription:
    return FindingDescription(
        code=finding.code,
        severity=finding.severity,
        disk=finding.disk,
        what=printable(finding.what),
        reason=printable(finding.reason),
        offset=finding.offset,
        length=finding.length,
        explanation=finding.kind.explanation,
    )


class _Bench:
    """A loop of its own, and the disks on it, closed in the end."""

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._loop = opened.enter_context(Loop())
            self._queue = KernelQueue(self._loop)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def open(self, path: str) -> RawDisk:
        disk = RawDisk.open(path, DiskIdentity(Path(path).name, path), self._queue, read_only=True)
        self._opened.callback(self._close, disk)
        return disk

    def _close(self, disk: RawDisk) -> None:
        disk.close()
        while not disk.closed:
            self._loop.turn(0.1)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        task = Task(work)
        while not task.finished:
            self._loop.turn()
        return task.result()
