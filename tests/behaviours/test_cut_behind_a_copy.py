"""The power goes right behind a baseline that copied what only the primary's cache held."""

import pytest

from appliance.cdp.tasks import Task
from tests.cdp.simulated_pair import SimulatedPair

BLOCK = 4096


@pytest.mark.parametrize("seed", range(12))
def test_both_disks_agree_although_the_primary_lost_what_was_copied(seed: int) -> None:
    pair = SimulatedPair(seed=seed)
    pair.start(with_secondary=False)
    pair.write(0, b"\x11" * BLOCK * 4)
    pair.flush()
    pair.write(BLOCK, b"\x22" * BLOCK)
    attached = Task(pair.lifecycle.attach(pair.secondary))
    log = pair.volume.log
    pair.world.run_until(lambda: pair.volume.history is not None and not log.out_of_sync())
    assert attached.finished
    pair.power_cut()

    pair.start()

    newest = pair.volume.window()
    assert newest is not None
    assert pair.point(f"write:{newest.newest_write}") == pair.read(pair.volume)
