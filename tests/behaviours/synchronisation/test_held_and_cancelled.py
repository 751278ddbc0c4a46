"""A person holds the baseline or resync that protection waits for."""

import pytest

from appliance.cdp.interfaces import BLOCK
from appliance.cdp.jobs import Job, JobKind
from tests.cdp.simulated_pair import SimulatedPair

KINDS: list[JobKind] = ["baseline", "resync"]


def owing(kind: JobKind, pair: SimulatedPair) -> tuple[SimulatedPair, Job]:
    """A pair whose baseline or resync is under way, and has come some way."""
    if kind == "baseline":
        pair = SimulatedPair(5, secondary_size=2 << 20)
        pair.start(until_protected=False)
    else:
        pair.stop()
        pair.start(with_secondary=False)
        for block in range(20):
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
        pair.run(pair.lifecycle.attach(pair.secondary))
    job = pair.volume.job
    assert job is not None
    assert job.kind == kind
    return pair, job


def lost_and_back(pair: SimulatedPair) -> None:
    """The secondary is pulled, and put back."""
    pair.lifecycle.secondary_gone()
    pair.idle()
    assert pair.volume.state == "tracking"
    pair.secondary.close()
    pair.secondary = pair.secondary.reopen()
    pair.run(pair.lifecycle.attach(pair.secondary))


def again(pair: SimulatedPair, end: str) -> Job | None:
    """The job after a new life, or after its secondary has come back."""
    if end == "loss":
        lost_and_back(pair)
    else:
        getattr(pair, end)()
        pair.start(until_protected=False)
    return pair.volume.job


def held_again(pair: SimulatedPair, job: Job, end: str) -> Job:
    """Hold the job; what comes back is held, too."""
    job.pause()
    pair.idle()
    assert job.result is None
    held = again(pair, end)
    assert held is not None
    assert held.kind == job.kind
    pair.idle()
    assert held.paused
    assert held.bytes_done == 0, "it was held before its first step"
    return held


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["stop", "kill", "power_cut", "loss"])
def test_what_is_held_comes_back_held_until_it_is_let_go_on(
    kind: JobKind, end: str, pair: SimulatedPair
) -> None:
    pair, job = owing(kind, pair)
    held = held_again(pair, job, end)
    held.go_on()
    pair.run(pair.volume.require_history().checkpoint())  # its own comes before it
    assert held.result is None
    going_on = again(pair, end)
    assert going_on is not None
    assert not going_on.paused
    pair.world.run_until(going_on.finished)
    assert going_on.result == "done"
    pair.idle()
    assert pair.volume.state == "protected"


@pytest.mark.parametrize("kind", KINDS)
def test_a_hold_that_comes_too_late_holds_nothing_else(kind: JobKind, pair: SimulatedPair) -> None:
    pair, job = owing(kind, pair)
    held = held_again(pair, job, "kill")
    held.go_on()
    pair.world.run_until(lambda: not pair.volume.log.out_of_sync())
    held.pause()
    pair.world.run_until(held.finished)
    assert held.result == "done"
    pair.idle()
    lost_and_back(pair)
    pair.world.run_until(lambda: pair.volume.state == "protected")
