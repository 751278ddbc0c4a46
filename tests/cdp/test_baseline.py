"""The first copy of a primary: how it goes on under a throttle, and after a crash."""

from itertools import pairwise

import pytest

from appliance.cdp.jobs import Job
from appliance.cdp.policies import MIB, Policies, Throttle
from tests.cdp import simulated_pair
from tests.cdp.simulated_pair import SimulatedPair


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> SimulatedPair:
    """Of 12 MiB."""
    monkeypatch.setattr(simulated_pair, "PRIMARY_SIZE", 12 * MIB)
    return SimulatedPair(3, secondary_size=24 * MIB)


def begun(pair: SimulatedPair, ceiling: int) -> Job:
    """The baseline, under a ceiling in MiB/s; what it did before that was set is no matter."""
    pair.start(until_protected=False, readable=False)
    pair.volume.require_history().policies = Policies(throttle=Throttle(1, ceiling))
    assert pair.volume.job is not None
    assert pair.volume.job.kind == "baseline"
    return pair.volume.job


def test_under_a_ceiling_it_goes_on_evenly(pair: SimulatedPair) -> None:
    job = begun(pair, 1)
    pair.idle(1)
    looks = []
    for _ in range(30):
        looks.append(job.bytes_copied)
        pair.idle(0.25)
    steps = [after - before for before, after in pairwise(looks)]
    assert min(steps) >= MIB // 8
    assert max(steps) <= MIB // 2


def test_its_steps_are_short_while_hosts_are_at_work(
    pair: SimulatedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begun(pair, 0)
    monkeypatch.setattr(type(pair.volume), "busy", property(lambda volume: True))
    before = job.bytes_copied
    pair.world.run_until(lambda: job.bytes_copied > before)
    before = job.bytes_copied
    pair.world.run_until(lambda: job.bytes_copied > before)
    assert job.bytes_copied - before <= MIB
    assert job.bytes_copied < job.bytes_total
