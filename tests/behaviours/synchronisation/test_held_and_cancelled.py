"""A person holds, or does not want, the baseline or resync that protection waits for."""

import pytest

from appliance import events
from appliance.cdp.extents import extents
from appliance.cdp.interfaces import BLOCK, SECTOR
from appliance.cdp.jobs import Job, JobKind
from appliance.errors import VolumeNotReady
from tests.behaviours.synchronisation.changed_pair import start
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


def told(pair: SimulatedPair) -> str | None:
    return dict(pair.volume.alerts()).get(events.NOT_SYNCHRONISED)


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held", [False, True])
def test_what_was_cancelled_is_told_until_it_goes_on(
    kind: JobKind, held: bool, pair: SimulatedPair
) -> None:
    pair, job = owing(kind, pair)
    if held:
        job.pause()
        pair.idle()
    job.cancel()
    pair.world.run_until(job.finished)
    assert job.result == "cancelled"
    cancelled = f"the {kind} was cancelled; `sync finance` goes on with it"
    assert told(pair) == f"not synchronised: {cancelled}"
    assert events.NOT_SYNCHRONISED in pair.events
    pair.idle(30)
    assert pair.volume.job is None, "nobody wants it"
    assert told(pair)
    with pytest.raises(VolumeNotReady, match=f"{cancelled}$"):
        start(pair, "verify")
    going_on = start(pair, "resync")
    assert going_on.kind == kind
    assert not going_on.paused
    assert told(pair) is None
    with pytest.raises(VolumeNotReady, match=f"its {kind} is under way$"):
        start(pair, "verify")
    going_on.pause()
    with pytest.raises(VolumeNotReady, match=f"its {kind} is held$"):
        start(pair, "full")
    going_on.go_on()
    pair.world.run_until(going_on.finished)
    assert pair.volume.state == "protected"
    assert told(pair) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["stop", "kill", "loss"])
def test_what_was_cancelled_is_owed_all_the_same(
    kind: JobKind, end: str, pair: SimulatedPair
) -> None:
    pair, job = owing(kind, pair)
    job.pause()
    pair.idle()
    job.cancel()
    pair.idle()
    assert told(pair)
    going_on = again(pair, end)
    assert going_on is not None
    assert going_on.kind == kind
    assert told(pair) is None
    pair.world.run_until(going_on.finished)
    assert pair.volume.state == "protected"


def test_without_a_secondary_nothing_is_said_of_what_was_cancelled(pair: SimulatedPair) -> None:
    pair, job = owing("resync", pair)
    job.cancel()
    pair.idle()
    assert told(pair)
    pair.lifecycle.secondary_gone()
    pair.idle()
    assert [code for code, _ in pair.volume.alerts()] == [events.SECONDARY_LOST]


@pytest.mark.parametrize("turns", range(7))
def test_one_that_is_cancelled_as_it_ends_can_be_ended(turns: int, pair: SimulatedPair) -> None:
    """Both disks are equal, and only that was not said yet."""
    pair, job = owing("resync", pair)
    pair.world.run_until(lambda: not pair.volume.log.out_of_sync())
    for _ in range(turns):
        pair.world.step()
    job.cancel()
    pair.world.run_until(job.finished)
    pair.idle()
    assert told(pair)
    pair.world.run_until(start(pair, "resync").finished)
    assert pair.volume.state == "protected"


def test_a_resync_that_was_not_owed_is_cancelled_in_silence(pair: SimulatedPair) -> None:
    """And does not keep out one that is owed later."""
    job = start(pair, "resync")
    job.cancel()
    pair.world.run_until(job.finished)
    assert job.result == "cancelled"
    assert told(pair) is None
    pair.run(pair.volume.doubt(extents([4 * BLOCK // SECTOR], [5 * BLOCK // SECTOR])))
    pair.idle()
    assert pair.volume.state == "protected"


@pytest.mark.parametrize("kind", ["verify", "full"])
def test_a_held_scan_makes_way_for_a_resync(kind: JobKind, pair: SimulatedPair) -> None:
    scan = start(pair, kind)
    pair.world.run_until(lambda: scan.bytes_scanned >= 8 * BLOCK)
    scan.pause()
    pair.idle()
    behind = scan.bytes_scanned
    pair.run(pair.volume.doubt(extents([4 * BLOCK // SECTOR], [5 * BLOCK // SECTOR])))
    assert pair.volume.state == "syncing"
    pair.idle(5)
    assert pair.volume.state == "protected"
    assert scan.result == "interrupted"
    assert pair.volume.last_job is not None
    assert (pair.volume.last_job.kind, pair.volume.last_job.result) == ("resync", "done")
    held = pair.volume.job
    assert held is not None
    assert (held.kind, held.paused, held.bytes_scanned) == (kind, True, behind)
    pair.kill()
    pair.start(until_protected=False)
    held = pair.volume.job
    assert held is not None
    assert (held.kind, held.paused) == (kind, True)
    held.go_on()
    pair.world.run_until(held.finished)
    assert held.result == "done"
