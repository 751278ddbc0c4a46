"""A piece of history goes bad, and then has to be folded: the volume stays protected, and no
point is told as anything but what it was."""

import pytest

from appliance import events
from tests.cdp.simulated_pair import SimulatedPair

BLOCK = 4096
SECTOR = 512


@pytest.fixture
def pair() -> SimulatedPair:
    pair = SimulatedPair(seed=11, secondary_size=1 << 20)
    pair.start()
    return pair


def spoil_the_data_of(pair: SimulatedPair, write: int) -> None:
    """Flip a bit of what history keeps of a write."""
    history = pair.volume.history
    assert history is not None
    for delta_map in history.chain.all_maps:
        for row in pair.run(history.rows(delta_map)):
            if int(row["write"]) == write:
                pair.secondary.medium.contents[int(row["location"]) * SECTOR] ^= 1
                return
    pytest.fail(f"write {write} is in no map")


def write_until_folded(pair: SimulatedPair, write: int) -> None:
    """Fill history with writes behind the first blocks until that write is in the base."""
    history = pair.volume.history
    assert history is not None
    for number in range(2000):
        if history.base_write >= write:
            return
        pair.write((8 + number % 14) * BLOCK, pair.random.randbytes(BLOCK))
        if number % 8 == 0:
            pair.idle(1.1)
    pytest.fail("nothing was folded")


def test_what_the_primary_still_holds_is_taken_from_it(pair: SimulatedPair) -> None:
    damaged = pair.write(4 * BLOCK, b"\x5a" * BLOCK)
    pair.flush()
    spoil_the_data_of(pair, damaged)

    write_until_folded(pair, damaged)

    assert events.HISTORY_DAMAGED in pair.events
    assert pair.volume.protection.value == "protected"
    right, _ = pair.hold_against_states()
    assert right > 10


def test_points_that_only_the_damaged_piece_could_tell_are_given_up(pair: SimulatedPair) -> None:
    damaged = pair.write(4 * BLOCK, b"\x5a" * BLOCK)
    pair.write(5 * BLOCK, b"\x33" * BLOCK)
    pair.flush()
    spoil_the_data_of(pair, damaged)
    pair.write(20 * BLOCK, b"\x77" * BLOCK)
    history = pair.volume.history
    assert history is not None
    history.journal.close_map()
    later = pair.write(4 * BLOCK, b"\xa5" * BLOCK)

    write_until_folded(pair, damaged)

    window = pair.volume.window()
    assert window is not None
    assert window.oldest_write >= later
    assert pair.volume.protection.value == "protected"
    right, _ = pair.hold_against_states()
    assert right > 5
