"""Is the primary what it was when we left it?  Only the newest maps are asked."""

import pytest
from pytest_mock import MockerFixture

from appliance import events
from appliance.cdp import head_check
from appliance.cdp.head_check import agrees_with_head
from appliance.cdp.history import History
from tests.cdp.simulated_pair import SimulatedPair

BLOCK = 4096
SECTOR = 512


@pytest.fixture(autouse=True)
def few_blocks(mocker: MockerFixture) -> None:
    """So that a small volume has more of them."""
    mocker.patch.object(head_check, "LAST_BLOCKS", 4)


def history_of(pair: SimulatedPair) -> History:
    assert pair.volume.history is not None
    return pair.volume.history


def agrees(pair: SimulatedPair) -> bool:
    return pair.run(agrees_with_head(history_of(pair), pair.primary, pair.pool, set))


def test_of_the_newest_blocks_each_counts_and_older_ones_do_not() -> None:
    """Each in a map of its own, and the newest written twice."""
    pair = SimulatedPair(seed=3, secondary_size=4 << 20)
    pair.start()
    for block in (1, 3, 5, 7, 9, 9):
        pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
        pair.stop()
        pair.start()
    contents = pair.primary.medium.contents
    for block, seen in ((1, False), (3, True), (5, True), (7, True), (9, True)):
        assert agrees(pair)
        contents[block * BLOCK] ^= 1
        assert agrees(pair) is not seen, block
        contents[block * BLOCK] ^= 1


def test_what_it_reads_does_not_grow_with_the_history() -> None:
    pair = SimulatedPair(seed=3, secondary_size=4 << 20)
    pair.start()
    counters = pair.secondary.medium.counters
    read = []
    for _ in range(3):
        for block in range(8):
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
            pair.stop()
            pair.start()
        before = counters.copy()
        assert agrees(pair)
        read.append((counters - before).bytes_read)
    maps = len(history_of(pair).chain.all_maps)
    assert maps > 20
    assert read[1:] == read[:1] * 2
    assert read[0] <= 8 * pair.superblock.segment_size + 4 * BLOCK


def test_a_block_written_over_and_over_does_not_lead_into_the_past(mocker: MockerFixture) -> None:
    mocker.patch.object(head_check, "MOST_ENTRIES", 8)
    pair = SimulatedPair(seed=3, secondary_size=4 << 20)
    pair.start()
    for _ in range(30):
        pair.write(0, pair.random.randbytes(BLOCK))
        pair.stop()
        pair.start()
    before = pair.secondary.medium.counters.copy()
    assert agrees(pair)
    read = (pair.secondary.medium.counters - before).bytes_read
    assert read <= 16 * pair.superblock.segment_size


def test_maps_that_cannot_be_read_count_as_agreeing() -> None:
    pair = SimulatedPair(seed=4)
    pair.start()
    for block in range(8):
        pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
    pair.stop()
    pair.start()
    segments = [s for m in history_of(pair).chain.maps for s in m.segments]
    pair.stop()
    for segment in segments:
        at = pair.superblock.segment_offset(segment)
        pair.secondary.medium.contents[at : at + pair.superblock.segment_size] = bytes(
            pair.superblock.segment_size
        )
    pair.start()
    assert pair.volume.service.value == "online"
    assert events.WRITTEN_ELSEWHERE not in pair.events


def test_what_a_resync_repaired_belongs_to_the_head() -> None:
    pair = SimulatedPair(seed=5, primary_block=4096)
    pair.start()
    pair.write(0, pair.random.randbytes(2 * BLOCK))
    pair.stop()
    pair.start()
    for block in range(4):
        pair.primary.medium.contents[block * BLOCK + SECTOR] ^= 1
    pair.run(pair.volume.log.set_out_of_sync([0]))
    pair.lifecycle.jobs.continue_syncing()
    pair.world.run_until(lambda: pair.volume.job is None)
    newest = history_of(pair).chain.all_maps[-1]
    repaired = pair.run(history_of(pair).rows(newest))
    assert repaired["length"].sum() == 4 * BLOCK // SECTOR
    assert agrees(pair)
    pair.primary.medium.contents[SECTOR] ^= 1
    assert not agrees(pair)
