"""What must hold of a volume after an accident, whatever the accident was."""

from hil_tests.box import Box
from hil_tests.host import Attachment, Host
from hil_tests.oracle import BLOCK, Oracle, complaints_at


def judge(
    box: Box, host: Host, name: str, oracle: Oracle, written_before: int, points: bool = True
) -> None:
    """All of it: what hosts read, that the disks agree, and points up to the last flush.

    `written_before` is the volume's write number as the load began, on a volume of zeros.  After
    a gap not all of the load's `points` are there.
    """
    box.await_state(name, "protected")
    with host.attach(name) as volume:
        read = read_blocks(volume, oracle.blocks)
    wrong = [line for block, data in read for line in oracle.complaints(block, data)]
    assert not wrong, "\n".join(wrong[:20])
    assert box.verify(name) == 0
    last = oracle.exact_until if points else 0
    for number in sorted({last, last // 2, 1} - {0}):
        with host.attach(f"{name}@write:{written_before + number}") as past:
            wrong = complaints_at(oracle, number, read_blocks(past, oracle.blocks))
        assert not wrong, "\n".join(wrong[:20])


def read_blocks(volume: Attachment, blocks: list[int]) -> list[tuple[int, bytes]]:
    """Each with its number."""
    return [(block, volume.read(block * BLOCK, BLOCK)) for block in blocks]
