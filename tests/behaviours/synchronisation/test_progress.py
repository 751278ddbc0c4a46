"""What people are told of a synchronisation: how far it is, and for how long yet."""

from typing import Any

import msgspec

from appliance.cdp.interfaces import BLOCK
from appliance.cdp.jobs import Job
from appliance.operators.descriptions import describe_job
from appliance.operators.text import progress
from tests.behaviours.synchronisation.changed_pair import spoil, start
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
