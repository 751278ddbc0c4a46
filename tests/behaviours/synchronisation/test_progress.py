"""What people are told of a synchronisation: how far it is, and for how long yet."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from pytest_mock import MockerFixture

from appliance.cdp import full_scan
from appliance.cdp.interfaces import BLOCK
from appliance.cdp.jobs import Job, JobKind
from appliance.cdp.policies import Throttle
from appliance.operators.descriptions import describe_job
from appliance.operators.text import progress
from tests.behaviours.synchronisation.changed_pair import figures, spoil, start
from tests.cdp.simulated_pair import SimulatedPair


def told(job: Job) -> dict[str, Any]:
    """As every face gets it."""
    answer: dict[str, Any] = msgspec.to_builtins(describe_job(job))
    return answer


def test_the_bar_moves_with_all_that_is_done(pair: SimulatedPair) -> None:
    """What a job counts as done is what people see of it, the copies too; in the end it is all."""
    spoil(pair, range(0, 20, 2))
    job = start(pair, "full")
    copying = set()
    while job.result is None:
        pair.world.step()
        assert progress.bytes_done(told(job)) == job.bytes_done
        if job.phase == "copying":
            copying.add(progress.percent(told(job)))
    assert len(copying) >= 10
    assert job.bytes_copied == 10 * BLOCK
    assert progress.bytes_done(told(job)) == job.bytes_total


@pytest.mark.parametrize("gathered", [0, 1 << 18])
@pytest.mark.parametrize("kind", ["full", "verify"])
def test_what_was_read_different_is_work_as_soon_as_it_is_found(
    pair: SimulatedPair, kind: JobKind, gathered: int, mocker: MockerFixture
) -> None:
    """To be looked at again, and for a full to be copied: nothing is added later."""
    mocker.patch.object(full_scan, "GATHERED", gathered)
    spoil(pair, [2, 3, 5, 12, 21])
    job = start(pair, kind)
    each = 3 if kind == "full" else 2
    pair.world.run_until(lambda: job.bytes_scanned == pair.volume.size)
    assert job.bytes_total == pair.volume.size + (each - 1) * 5 * BLOCK
    assert job.bytes_done < job.bytes_total
    before, percents = job.bytes_total, [progress.percent(told(job))]
    while job.result is None:
        assert job.bytes_total == before
        percents.append(progress.percent(told(job)))
        pair.world.step()
    assert percents == sorted(percents)
    assert job.bytes_done == job.bytes_total == before
    assert job.bytes_scanned == pair.volume.size
    assert figures(job) == (5 * BLOCK, (each - 2) * 5 * BLOCK)


@pytest.mark.parametrize("kind", ["full", "verify"])
def test_what_turns_out_not_to_differ_is_no_work_any_more(
    pair: SimulatedPair, kind: JobKind
) -> None:
    spoil(pair, [2, 5, 12])
    job = start(pair, kind)
    pair.world.run_until(lambda: job.phase == "revising")
    foreseen = job.bytes_total
    assert foreseen > pair.volume.size
    pair.write(12 * BLOCK, pair.random.randbytes(BLOCK))
    pair.world.run_until(job.finished)
    assert job.bytes_done == job.bytes_total <= foreseen
    assert figures(job)[0] in (2 * BLOCK, 3 * BLOCK)


@pytest.mark.parametrize("kind", ["full", "verify", "resync"])
def test_the_time_left_is_right_while_what_differs_is_looked_at_again(
    pair: SimulatedPair, kind: JobKind
) -> None:
    """Under a ceiling all work is as fast, and so there is one true answer."""
    history = pair.volume.require_history()
    history.policies = replace(history.policies, throttle=Throttle(1, 1))
    spoil(pair, range(23))
    if kind == "resync":
        pair.run(pair.volume.log.set_out_of_sync(range(pair.superblock.regions)))
    job = start(pair, kind)
    promised = []
    while job.result is None:
        pair.world.step()
        eta = job.eta_seconds()
        if eta is not None and job.bytes_scanned == pair.volume.size:
            promised.append(pair.world.clock.monotonic_ns() / 1e9 + eta)
    took = pair.world.clock.monotonic_ns() / 1e9
    assert max(promised) - took < 0.03
    assert took - min(promised) < 0.03


@pytest.mark.parametrize("copied", [1, 4])
def test_a_copy_that_goes_on_after_a_crash_is_honest_too(pair: SimulatedPair, copied: int) -> None:
    history = pair.volume.require_history()
    policies = replace(history.policies, throttle=Throttle(1, 1))
    pair.run(pair.lifecycle.set_policies(policies))
    spoil(pair, range(0, 20, 2))
    job = start(pair, "full")
    pair.world.run_until(lambda: job.bytes_copied >= copied * BLOCK)
    pair.kill()
    pair.start(until_protected=False, readable=False)
    going_on = pair.volume.job
    assert going_on is not None
    percents, promised = [], []
    while going_on.result is None:
        percents.append(progress.percent(told(going_on)))
        eta = going_on.eta_seconds()
        if eta is not None and going_on.bytes_revised >= 4 * BLOCK:  # the first waits for nothing
            promised.append(pair.world.clock.monotonic_ns() / 1e9 + eta)
        pair.world.step()
    took = pair.world.clock.monotonic_ns() / 1e9
    assert percents == sorted(percents)
    assert percents[0] >= 50
    assert going_on.bytes_done == going_on.bytes_total
    assert figures(going_on) == (10 * BLOCK, 10 * BLOCK)
    assert min(promised) > took - 0.05
