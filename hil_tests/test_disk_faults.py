"""Disks that fail while hosts write."""

import pytest

from hil_tests.accidents import judge
from hil_tests.box import Box, faults
from hil_tests.host import Host

pytestmark = pytest.mark.lg_feature("disk-faults")


def test_a_bad_sector_on_the_primary_is_read_from_the_secondary(
    box: Box, host: Host, seed: int
) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    load = host.load("finance", seed)
    load.await_writes(100)
    oracle = load.stop()
    block = oracle.blocks[0]
    faults(pair.primary).fail("read", "medium", first=block * 8, count=8)
    box.shell("sync; echo 3 >/proc/sys/vm/drop_caches")
    with host.attach("finance") as finance:
        assert oracle.complaints(block, finance.read(block * 4096, 4096)) == []
    faults(pair.primary).heal()


def test_a_secondary_that_fails_every_write_stops_no_host(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(50)
    faults(pair.secondary).fail("write")
    box.await_state("finance", "tracking")
    load.await_writes(50)
    faults(pair.secondary).heal()
    box.await_state("finance", "protected")
    oracle = load.stop()
    assert load.failed == []
    judge(box, host, "finance", oracle, before, points=False)


def test_a_secondary_that_answers_no_more_stops_no_host(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(50)
    faults(pair.secondary).stall()
    box.await_state("finance", "tracking")
    load.await_writes(50)
    faults(pair.secondary).heal()
    box.await_state("finance", "protected")
    oracle = load.stop()
    assert load.failed == []
    judge(box, host, "finance", oracle, before, points=False)
