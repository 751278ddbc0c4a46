"""What must hold of a volume after an accident, whatever the accident was."""

from hil_tests.box import Box
from hil_tests.host import Host
from hil_tests.oracle import Oracle, complaints_at


def judge(
    box: Box, host: Host, name: str, oracle: Oracle, written_before: int, points: bool = True
) -> None:
    """All of it: what hosts read, that the disks agree, and points up to the last flush.

    `written_before` is the volume's write number as the load began, on a volume of zeros.  After
    a gap not all of the load's `points` are there.
    """
    box.await_state(name, "protected")
    with host.attach(name) as volume:
        read = volume.read_blocks(oracle.blocks)
    wrong = [line for block, data in read for line in oracle.complaints(block, data)]
    assert not wrong, "\n".join(wrong[:20])
    assert box.verify(name) == 0
    if points:
        judge_points(box, host, name, oracle, written_before, oracle.exact_until)


def judge_points(
    box: Box, host: Host, name: str, oracle: Oracle, written_before: int, last: int
) -> None:
    """Points up to the load's write `last`, which was flushed, hold what the volume held then."""
    oldest = box.volume(name)["window"]["oldest_write"]
    first = max(1, oldest - written_before)
    assert first <= last, f"the window begins at write {oldest}"
    for number in sorted({first, (first + last) // 2, last}):
        judge_point(host, f"{name}@write:{written_before + number}", oracle, number)


def judge_point(host: Host, export: str, oracle: Oracle, number: int) -> None:
    """An export holds what the volume held after the load's first `number` writes."""
    with host.attach(export) as past:
        wrong = complaints_at(oracle, number, past.read_blocks(oracle.blocks))
    assert not wrong, "\n".join(wrong[:20])
