"""A read that the primary refuses: the secondary answers only where both are known to agree.

DESIGN.md, section 4, rule 8.
"""

from errno import EIO

import pytest

from appliance import events
from appliance.cdp import synchronise
from tests.cdp.simulated_pair import REGION, SimulatedPair

BLOCK = 4096
SECTOR = 512
SPOT = 4 * REGION


def spoil(pair: SimulatedPair, offset: int) -> None:
    pair.primary.medium.bad_sectors.add(offset // SECTOR)


def assert_refused(pair: SimulatedPair, offset: int) -> None:
    with pytest.raises(OSError, match="read") as refused:
        pair.read(pair.volume, offset, BLOCK)
    assert refused.value.errno == EIO


def test_where_both_agree_the_secondary_answers_and_the_primary_is_healed() -> None:
    pair = SimulatedPair(seed=1)
    pair.start()
    pair.write(SPOT, b"\x11" * BLOCK)
    spoil(pair, SPOT)

    assert pair.read(pair.volume, SPOT, BLOCK) == b"\x11" * BLOCK

    assert not pair.primary.medium.bad_sectors
    assert events.READ_REPAIRED in pair.events


def test_what_was_written_without_the_secondary_is_never_answered_from_it() -> None:
    pair = SimulatedPair(seed=2)
    pair.start()
    pair.write(SPOT, b"\x11" * BLOCK)
    pair.stop()
    pair.start(with_secondary=False)
    pair.write(SPOT, b"\x22" * BLOCK)
    pair.stop()
    spoil(pair, SPOT)
    pair.start(until_protected=False, readable=False)

    assert pair.volume.history is not None
    assert_refused(pair, SPOT)
    assert_refused(pair, SPOT + SECTOR * 7 - BLOCK + SECTOR)  # a read that only ends there
    assert pair.volume.state == "syncing"
    assert pair.read(pair.volume, 0, SPOT) == bytes(SPOT)


def test_a_read_over_two_regions_needs_both_in_sync() -> None:
    pair = SimulatedPair(seed=3)
    pair.start()
    pair.stop()
    pair.start(with_secondary=False)
    pair.write(SPOT, b"\x22" * BLOCK)
    pair.stop()
    for offset in (SPOT - SECTOR, SPOT):
        spoil(pair, offset)
    pair.start(until_protected=False, readable=False)

    with pytest.raises(OSError, match="read") as refused:
        pair.read(pair.volume, SPOT - BLOCK, 2 * BLOCK)
    assert refused.value.errno == EIO
    assert pair.read(pair.volume, SPOT - BLOCK, BLOCK) == bytes(BLOCK)


def test_before_the_baseline_has_ended_nothing_is_answered_from_the_secondary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(synchronise, "CLEAR_AT", 1)
    pair = SimulatedPair(seed=4)
    pair.start(until_protected=False)
    pair.world.run_until(lambda: not pair.volume.log.is_out_of_sync(0))
    assert pair.volume.history is not None
    assert not pair.volume.history.chain.baseline_whole
    spoil(pair, 0)

    assert_refused(pair, 0)
