"""Disks that fail while hosts write."""

from errno import EIO

import pytest

from hil_tests.accidents import judge
from hil_tests.box import Box, faults, spoil
from hil_tests.host import Host
from hil_tests.oracle import BLOCK

pytestmark = pytest.mark.lg_feature("disk-faults")


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_bad_sector_on_the_primary_is_read_from_the_secondary(
    box: Box, host: Host, seed: int, sector: int
) -> None:
    pair = box.pair(sector)
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(100)
    oracle = load.stop()
    block = oracle.blocks[0]
    spoil(pair.primary, "read", block)
    with host.attach("finance") as finance:
        assert oracle.complaints(block, finance.read(block * BLOCK, BLOCK)) == []
    (repaired,) = box.told("EV106")
    assert (repaired["fields"]["offset"], repaired["fields"]["length"]) == (block * BLOCK, BLOCK)
    faults(pair.primary).heal()
    judge(box, host, "finance", oracle, before)


def test_a_primary_that_fails_some_writes_tells_the_host(box: Box, host: Host, seed: int) -> None:
    """Only those fail; what the host was told of is all there is."""
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(50)
    spoil(pair.primary, "write", 8, count=8)
    box.until("it is told", lambda: box.told("EV205"))
    load.await_writes(50)
    faults(pair.primary).heal()
    box.await_state("finance", "protected")
    load.await_writes(50)
    oracle = load.stop()
    assert set(load.failed) == {EIO}
    judge(box, host, "finance", oracle, before, points=False)


@pytest.mark.parametrize("how", ["error", "medium"])
def test_a_secondary_that_fails_every_write_stops_no_host(
    box: Box, host: Host, seed: int, how: str
) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(50)
    faults(pair.secondary).fail("write", how)
    box.await_state("finance", "tracking")
    load.await_writes(50)
    assert {event["fields"]["disk"] for event in box.told("EV103")} == {box.disk(pair.secondary)}
    assert box.told("EV202")
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
