"""A lost checkpoint slot costs nothing: the other one names maps that still lie untouched."""

import pytest

from appliance.cdp.checkpoint import Checkpoints
from appliance.cdp.format import PAGE
from tests.cdp.simulated_pair import SimulatedPair

LIVES = 12


def overwrite_and_lose_the_newest_slot(pair: SimulatedPair) -> None:
    """Write so much that old maps are folded and their segments used again; then cut the power,
    and spoil the newest checkpoint."""
    pair.write_at_random(30)
    for _ in range(pair.random.randrange(400)):
        pair.world.step()
    pair.power_cut()
    checkpoints = Checkpoints(pair.secondary, pair.superblock.for_peer(), pair.pool)
    pair.run(checkpoints.load())
    at = checkpoints.offset(checkpoints.number)
    pair.secondary.medium.contents[at : at + PAGE] = bytes(PAGE)


def live_on(pair: SimulatedPair) -> int:
    """Points that were right, over some lives."""
    right = 0
    for _ in range(LIVES):
        pair.start()
        right += pair.hold_against_states(every=7)[0]
        overwrite_and_lose_the_newest_slot(pair)
    return right


@pytest.fixture
def pair() -> SimulatedPair:
    pair = SimulatedPair(3)
    pair.start()
    pair.write_at_random(60)
    return pair


def test_the_slot_before_it_still_stands(pair: SimulatedPair) -> None:
    pair.stop()
    assert live_on(pair)
