"""A scan that is interrupted, held or cancelled: it goes on where it was, or is over for good."""

from dataclasses import replace

import pytest
from pytest_mock import MockerFixture

from appliance.cdp import comparison, full_scan
from appliance.cdp.changes import Changes
from appliance.cdp.extents import EMPTY, Extents
from appliance.cdp.interfaces import BLOCK
from appliance.cdp.jobs import JobKind
from appliance.cdp.policies import MIB, Throttle
from appliance.cdp.tasks import Completion
from tests.behaviours.synchronisation.changed_pair import (
    figures,
    newest,
    spoil,
    start,
    suspects,
    synchronised,
)
from tests.cdp.simulated_pair import SimulatedPair


@pytest.mark.parametrize("step", range(20, 60, 8))
def test_a_checkpoint_of_somebody_elses_loses_nothing_that_a_scan_has_found(
    pair: SimulatedPair, step: int, mocker: MockerFixture
) -> None:
    """Long before its own is due: what lies before its cursor is not looked at again."""
    mocker.patch.object(full_scan, "SAVE_NS", 3600 * 10**9)
    spoil(pair, [2, 5, 6, 12, 20])
    job = start(pair, "verify")
    for _ in range(step):
        pair.world.step()
    assert job.result is None
    assert pair.volume.history is not None
    pair.run(pair.volume.history.checkpoint())
    pair.stop()

    pair.start(until_protected=False)

    going_on = pair.volume.job
    assert going_on is not None
    pair.world.run_until(going_on.finished)
    assert figures(going_on) == (5 * BLOCK, 0)


@pytest.mark.parametrize("kind", ["full", "verify"])
@pytest.mark.parametrize("end", ["kill", "power_cut"])
@pytest.mark.parametrize("step", [*range(2, 60, 6), 23])
def test_a_scan_goes_on_where_a_crash_stopped_it(
    pair: SimulatedPair, kind: JobKind, end: str, step: int
) -> None:
    spoil(pair, [2, 5, 6, 12, 20])
    job = start(pair, kind)
    for _ in range(step * 4):
        if job.finished.finished:
            break
        pair.world.step()
    ended, cursor = job.result, job.bytes_scanned
    getattr(pair, end)()
    pair.start(until_protected=False)
    going_on = pair.volume.job
    if ended is None and job.bytes_done == job.bytes_total > 0 and going_on is None:
        pass  # the crash came between the note of its end and its end
    elif ended is None and cursor:
        assert going_on is not None
        assert going_on.kind == kind
        # All that were under way at the end, and the one whose note was not durable yet.
        assert going_on.bytes_scanned >= cursor - (comparison.AHEAD + 1) * comparison.STEP
        pair.world.run_until(going_on.finished)
        copied = 5 * BLOCK if kind == "full" else 0
        assert figures(going_on) == (5 * BLOCK, copied)
        assert going_on.result == "done"
    elif ended is None:  # the crash came before the scan was noted
        pair.idle()
        synchronised(pair, kind)
    assert pair.volume.job is None
    expected = [(1, 3), (4, 6), (7, 7)]
    assert suspects(pair)[:3] == expected
    if kind == "full":
        assert pair.point(f"write:{newest(pair)}") == pair.read(pair.volume)
        pair.run(
            pair.lifecycle.jobs.restores.plan(
                pair.run(pair.volume.resolve(f"write:{newest(pair)}"))
            )
        )
        assert figures(synchronised(pair, "verify")) == (0, 0)


def test_a_held_scan_stays_held_over_a_restart(pair: SimulatedPair) -> None:
    job = start(pair, "verify")
    job.pause()
    pair.idle()
    pair.stop()
    pair.start(until_protected=False)
    held = pair.volume.job
    assert held is not None
    pair.idle()
    assert held.paused
    assert held.result is None
    held.go_on()
    pair.world.run_until(held.finished)
    assert held.result == "done"


def test_a_cancelled_scan_is_over_for_good(pair: SimulatedPair) -> None:
    job = start(pair, "full")
    job.cancel()
    pair.world.run_until(job.finished)
    assert job.result == "cancelled"
    pair.idle()
    pair.stop()
    pair.start()
    assert pair.volume.job is None


def test_after_a_cancelled_copy_hosts_write_maps_of_their_own(pair: SimulatedPair) -> None:
    spoil(pair, [2, 5, 12, 20])
    job = start(pair, "full")
    pair.world.run_until(lambda: job.bytes_copied > 0)
    job.cancel()
    pair.world.run_until(job.finished)
    assert job.result == "cancelled"
    pair.write(0, pair.random.randbytes(BLOCK))
    assert pair.volume.maps()[-1].kind == "host"
    assert pair.volume.maps()[-2].kind == "fix_up"
    assert suspects(pair)[-1][1] == newest(pair), "what was copied by half is trusted by nobody"
    assert figures(synchronised(pair, "full"))[0] < 4 * BLOCK
    point = pair.run(pair.volume.resolve(f"write:{newest(pair)}"))
    pair.run(pair.lifecycle.jobs.restores.plan(point))
    assert pair.point(point.text) == pair.read(pair.volume)


def test_a_scan_that_is_cancelled_while_it_looks_at_the_hosts_watches_no_longer(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    looks: list[Changes] = []

    async def never_the_second_time(changes: Changes) -> Extents:
        looks.append(changes)
        if len(looks) == 2:
            await Completion[None]()
        return EMPTY

    mocker.patch.object(Changes, "all", never_the_second_time)
    job = start(pair, "verify")
    pair.world.run_until(lambda: len(looks) == 2)
    job.cancel()
    pair.world.run_until(job.finished)
    assert pair.volume.history is not None
    assert not pair.volume.history.journal.watched


def test_the_throttle_and_what_it_holds_survive_a_restart(pair: SimulatedPair) -> None:
    slow = Throttle(1, 1)
    policies = replace(pair.lifecycle.volume.require_history().policies, throttle=slow)
    pair.run(pair.lifecycle.set_policies(policies))
    pair.power_cut()
    pair.start()
    history = pair.volume.require_history()
    assert history.policies.throttle == slow
    began = pair.world.clock.monotonic_ns()
    synchronised(pair, "verify")
    seconds = (pair.world.clock.monotonic_ns() - began) / 1e9
    assert seconds >= 0.9 * pair.volume.size / MIB - 2 * comparison.STEP / MIB
    history.policies = replace(policies, throttle=Throttle(16, 0))
    began = pair.world.clock.monotonic_ns()
    synchronised(pair, "verify")
    assert (pair.world.clock.monotonic_ns() - began) / 1e9 < seconds / 5
