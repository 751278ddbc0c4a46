"""Disks that fail, hang or drag in the middle of jobs."""

import pytest

from hil_tests.accidents import judge, judge_point
from hil_tests.box import Box, faults, spoil
from hil_tests.host import Host, Load, Unreachable
from hil_tests.oracle import BLOCK, content

pytestmark = pytest.mark.lg_feature("disk-faults")
MIB = 1 << 20


def _loaded(box: Box, host: Host, seed: int, writes: int) -> tuple[Load, int]:
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(writes)
    return load, before


def test_a_bad_sector_on_the_secondary_in_verify(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    load, before = _loaded(box, host, seed, 50)
    # In the midst of the base image.
    faults(pair.secondary).fail("read", "medium", first=(40 << 20) // pair.secondary.sector)
    job = box.cdpctl("sync finance --verify")["job"]["number"]
    ended = box.await_job("finance", job)
    assert ended["result"] != "done" or ended["bytes_different"], ended
    load.await_writes(50)
    faults(pair.secondary).heal()
    oracle = load.stop()
    assert load.failed == []
    judge(box, host, "finance", oracle, before, points=False)


def test_a_bad_sector_on_the_primary_in_verify_and_restore(box: Box, host: Host, seed: int) -> None:
    """A verify says so; a restore writes over it."""
    pair = box.pair()
    box.protect("finance", pair)
    load, before = _loaded(box, host, seed, 100)
    oracle = load.stop()
    block = oracle.writes[-1].block
    spoil(pair.primary, "read", block)
    job = box.cdpctl("sync finance --verify")["job"]["number"]
    assert box.await_job("finance", job)["result"]
    with host.attach("finance") as finance:
        assert oracle.complaints(block, finance.read(block * BLOCK, BLOCK)) == []
    box.cdpctl(f"restore finance --to write:{before + 50} --yes")
    box.until("it has ended", lambda: box.volume("finance")["last_job"]["kind"] == "restore")
    judge_point(host, "finance", oracle, 50)
    faults(pair.primary).heal()
    judge_point(host, "finance", oracle, 50)
    assert box.verify("finance") == 0


def test_a_secondary_of_which_nothing_can_be_read_in_verify(
    box: Box, host: Host, seed: int
) -> None:
    """The verify ends, and what hosts write is tracked: such a disk protects nothing."""
    pair = box.pair()
    box.protect("finance", pair)
    load, before = _loaded(box, host, seed, 50)
    faults(pair.secondary).fail("read", "medium")
    job = box.cdpctl("sync finance --verify")["job"]["number"]
    assert box.await_job("finance", job)["result"] != "done"
    box.await_state("finance", "tracking")
    assert box.told("EV202")
    load.await_writes(50)
    faults(pair.secondary).heal()
    box.await_state("finance", "protected")
    oracle = load.stop()
    assert load.failed == []
    judge(box, host, "finance", oracle, before, points=False)


def test_a_bad_sector_on_the_secondary_under_a_restore(box: Box, host: Host) -> None:
    """Nobody is let in to the half of a restore; it goes on by itself once the sector reads."""
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    with host.attach("finance") as finance:
        for start in range(30 * MIB, 36 * MIB, MIB):
            finance.write(start, content(1) * (MIB // BLOCK))
        finance.flush()
    # In the base image, which begins behind the first mebibyte, and before the third.
    first = 35 * MIB // pair.secondary.sector
    faults(pair.secondary).fail("read", "medium", first=first, count=8)
    box.cdpctl(f"restore finance --to write:{before} --yes")
    box.until("it has failed", lambda: _ended(box, "restore", "failed"))
    assert "EV213" in [alert["code"] for alert in box.volume("finance")["alerts"]]
    with pytest.raises(Unreachable):
        host.attach("finance")
    faults(pair.secondary).heal()
    box.until("it is done", lambda: _ended(box, "restore", "done"))
    box.await_state("finance", "protected")
    with host.attach("finance") as finance:
        for start in range(30 * MIB, 36 * MIB, MIB):
            assert finance.read(start, MIB) == bytes(MIB)
    assert box.verify("finance") == 0


def test_a_primary_that_hangs(box: Box, host: Host, seed: int) -> None:
    """It is taken out of service at its deadline, and comes back by itself, nothing lost."""
    pair = box.pair()
    box.protect("finance", pair)
    load, before = _loaded(box, host, seed, 50)
    faults(pair.primary).stall()
    box.until("it is noticed", lambda: box.volume("finance")["state"] != "protected")
    faults(pair.primary).heal()
    oracle = load.cut_off()
    judge(box, host, "finance", oracle, before)


def test_a_slow_secondary_under_ack_primary(box: Box, host: Host, seed: int) -> None:
    """Hosts do not wait for it."""
    pair = box.pair()
    box.protect("finance", pair)
    box.cdpctl("set finance ack=primary")
    load, before = _loaded(box, host, seed, 10)
    faults(pair.secondary).slow(16 << 10)
    load.await_writes(200, timeout=60)
    oracle = load.stop()
    assert load.failed == []
    faults(pair.secondary).heal()
    judge(box, host, "finance", oracle, before, points=False)


def _ended(box: Box, kind: str, result: str) -> bool:
    """Has such a job ended like that?"""
    ended = [event["fields"] for event in box.told("EV301")]
    return any((each["kind"], each["result"]) == (kind, result) for each in ended)
