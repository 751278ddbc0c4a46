"""Baseline and resync: how they go on under a throttle, and after a crash."""

from itertools import pairwise

import pytest

from appliance.cdp.jobs import Job
from appliance.cdp.policies import MIB, Policies, Throttle
from appliance.cdp.synchronise import Synchroniser
from appliance.cdp.tasks import Completion
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


def test_under_a_ceiling_its_time_left_is_right(pair: SimulatedPair) -> None:
    job = begun(pair, 1)
    job.time_anew()
    promised = []
    while job.result is None:
        pair.idle(0.25)
        if (eta := job.eta_seconds()) is not None:
            promised.append(pair.world.clock.monotonic_ns() / 1e9 + eta)
    took = pair.world.clock.monotonic_ns() / 1e9
    assert len(promised) > 20
    assert max(abs(end - took) for end in promised[4:]) < 1


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


@pytest.mark.parametrize("end", ["kill", "power_cut"])
def test_a_slow_one_gets_on_over_restart_after_restart(pair: SimulatedPair, end: str) -> None:
    """However far it is to the end of a batch; each life repeats a second or so of the last."""
    job = begun(pair, 1)
    left = []
    for _ in range(3):
        pair.idle(3.2)
        assert job.result is None
        getattr(pair, end)()
        job = begun(pair, 1)
        left.append(job.bytes_total)
    assert all(before - after >= 1.5 * MIB for before, after in pairwise([12 * MIB, *left]))
    pair.volume.require_history().policies = Policies()
    pair.world.run_until(job.finished)
    assert job.result == "done"
    assert pair.read(pair.volume) == pair.point(f"write:{pair.volume.write_number}")


def test_disks_that_flush_slowly_are_flushed_less_often(
    pair: SimulatedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve seconds of work, and half a second a flush."""
    flush = Synchroniser._flush_or_fail
    flushes = 0

    async def slow(synchroniser: Synchroniser) -> None:
        nonlocal flushes
        flushes += 1
        rested: Completion[None] = Completion()
        pair.world.after(0.5, lambda: rested.succeed(None))
        await rested
        await flush(synchroniser)

    monkeypatch.setattr(Synchroniser, "_flush_or_fail", slow)
    pair.world.run_until(begun(pair, 1).finished)
    assert 3 <= flushes <= 5


def test_a_slow_resync_gets_on_over_restart_after_restart(pair: SimulatedPair) -> None:
    pair.start(readable=False)
    pair.run(pair.volume.log.set_out_of_sync(range(pair.superblock.regions)))
    pair.run(pair.lifecycle.set_policies(Policies(throttle=Throttle(1, 1))))
    job = pair.lifecycle.jobs.synchronise("resync")
    pair.idle(3.2)
    assert job.result is None
    pair.power_cut()
    pair.start(until_protected=False, readable=False)
    assert 6 * MIB <= pair.volume.dirty_bytes <= 10.5 * MIB
