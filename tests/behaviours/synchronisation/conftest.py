"""A small simulated pair, synchronised in many steps."""

import pytest
from pytest_mock import MockerFixture

from appliance.cdp import comparison, full_scan, side_by_side, synchronise
from appliance.cdp.interfaces import BLOCK
from tests.behaviours.synchronisation.changed_pair import close_map
from tests.cdp.simulated_pair import SimulatedPair


@pytest.fixture(autouse=True)
def small_steps(mocker: MockerFixture) -> None:
    mocker.patch.object(comparison, "STEP", 2 * BLOCK)
    mocker.patch.object(comparison, "WINDOW", 2 * BLOCK)
    mocker.patch.object(side_by_side, "LONG", 2 * BLOCK)
    mocker.patch.object(synchronise, "STEP", 2 * BLOCK)
    mocker.patch.object(full_scan, "CHUNK", 4 * BLOCK)
    mocker.patch.object(full_scan, "SAVE_NS", 0)


@pytest.fixture
def pair() -> SimulatedPair:
    """Three closed maps over a full base: blocks 1–3, then 4–6, then 1 again."""
    pair = SimulatedPair(5, secondary_size=2 << 20)
    size = pair.superblock.volume_size
    pair.primary.medium.view[:size] = pair.random.randbytes(size)
    pair.start()
    for blocks in ((1, 2, 3), (4, 5, 6), (1,)):
        close_map(pair)
        for block in blocks:
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
    close_map(pair)
    pair.idle()  # a checkpoint names them now: recovery does not read their payload again
    return pair
