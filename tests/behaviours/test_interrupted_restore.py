"""A restore that loses its secondary, or its service, half-way: nobody is served half of it."""

from errno import EIO

import pytest
from pytest_mock import MockerFixture

from appliance import events
from appliance.cdp import restore
from appliance.cdp.interfaces import BLOCK, WRITE
from appliance.cdp.tasks import Task
from appliance.errors import NoRoom, VolumeNotReady
from appliance.service.exports import VolumeExports
from tests.behaviours.half_restored import Interrupted
from tests.cdp.simulated_pair import SimulatedPair
from tests.cdp.test_restore import start_restore

pytestmark = pytest.mark.usefixtures("in_small_steps")


def test_without_its_secondary_nobody_is_served_half_of_it(half: Interrupted) -> None:
    half.lose_secondary()
    assert half.is_closed()


def test_it_goes_on_when_the_secondary_is_back(half: Interrupted) -> None:
    half.lose_secondary()
    half.bring_back()
    pair = half.pair
    pair.world.run_until(lambda: not pair.volume.closed_to_hosts)
    assert half.is_whole()
    pair.world.run_until(lambda: pair.volume.protection.value == "protected")
    newest = pair.volume.maps()[-1].last_write
    assert pair.point(f"write:{newest}") == half.wanted
    assert pair.point(f"write:{half.newest}") == pair.states[half.newest]


@pytest.mark.parametrize("lost_before", [True, False])
@pytest.mark.parametrize("way", ["kill", "power_cut", "stop"])
def test_a_start_without_the_secondary_serves_nobody_either(
    half: Interrupted, lost_before: bool, way: str
) -> None:
    pair = half.pair
    if lost_before:
        half.lose_secondary()
        pair.secondary.medium.replug()
    getattr(pair, way)()
    pair.start(with_secondary=False, readable=False)
    assert half.is_closed()
    # And again, as often as it may be.
    pair.kill()
    pair.start(with_secondary=False, readable=False)
    assert half.is_closed()
    half.bring_back()
    pair.world.run_until(lambda: not pair.volume.closed_to_hosts)
    assert half.is_whole()


def test_a_start_with_the_secondary_ends_it_before_hosts_come(half: Interrupted) -> None:
    pair = half.pair
    half.lose_secondary()
    pair.secondary.medium.replug()
    pair.kill()
    pair.start(readable=False)
    assert half.is_whole()
    pair.kill()
    pair.start(with_secondary=False)
    assert half.is_whole(), "what has ended keeps nobody out"


def test_given_up_without_the_secondary_hosts_get_what_is_there(half: Interrupted) -> None:
    pair = half.pair
    half.lose_secondary()
    pair.run(pair.lifecycle.jobs.restores.give_up())
    assert pair.volume.state == "tracking"
    found = pair.read(pair.volume)
    assert found not in (half.wanted, pair.states[half.newest])
    pair.secondary.medium.replug()
    pair.power_cut()
    pair.start(with_secondary=False)
    assert pair.read(pair.volume) == found, "and it stays given up"
    written = pair.random.randbytes(BLOCK)
    pair.write(0, written)
    half.bring_back()
    pair.world.run_until(lambda: pair.volume.protection.value == "protected")
    pair.kill()
    pair.start()
    assert pair.read(pair.volume) == written + found[BLOCK:], "what hosts wrote since counts"


def test_given_up_while_it_runs_it_can_be_undone(half: Interrupted) -> None:
    pair = half.pair
    pair.run(pair.lifecycle.jobs.restores.give_up())
    assert half.job.result == "cancelled"
    assert pair.volume.state == "protected"
    undone = start_restore(pair, half.newest)
    pair.world.run_until(undone.finished)
    assert pair.read(pair.volume) == pair.states[half.newest]
    with pytest.raises(VolumeNotReady):
        pair.run(pair.lifecycle.jobs.restores.give_up())


def test_given_up_it_does_not_start_again_meanwhile(half: Interrupted) -> None:
    pair = half.pair
    giving_up = Task(pair.lifecycle.jobs.restores.give_up())
    pair.primary.medium.stall()
    pair.idle()
    assert not giving_up.finished
    assert pair.volume.job is None
    pair.primary.medium.release()
    pair.world.run_until(giving_up)
    assert pair.volume.state == "protected"


def test_it_can_be_given_up_while_the_volume_starts(half: Interrupted) -> None:
    pair = half.pair
    pair.kill()
    starting = Task(pair.made().start(pair.secondary))
    pair.world.run_until(lambda: pair.volume.job is not None)
    pair.run(pair.lifecycle.jobs.restores.give_up())
    pair.world.run_until(starting)
    assert events.RESTORE_OWED not in dict(pair.volume.alerts())
    assert not half.is_whole()


def test_a_block_that_the_primary_refuses_is_written_in_the_end(half: Interrupted) -> None:
    pair = half.pair
    pair.primary.medium.fail_next(WRITE, EIO)
    pair.world.run_until(half.job.finished)
    assert half.job.result == "failed"
    assert half.is_closed()
    pair.world.run_until(lambda: not pair.volume.closed_to_hosts)
    assert half.is_whole()


def test_nothing_is_owed_before_its_first_block(half: Interrupted, mocker: MockerFixture) -> None:
    """Hosts wrote on between the plan and the run: refused, and they go on."""
    pair = half.pair
    pair.world.run_until(half.job.finished)
    mocker.patch.object(restore, "check_room", side_effect=[None, NoRoom(reason="a test")])
    job = start_restore(pair, half.newest)
    pair.world.run_until(job.finished)
    assert isinstance(job.error, NoRoom)
    assert half.is_whole()


def test_a_fenced_primary_is_not_read_from_half_a_restore(half: Interrupted) -> None:
    pair = half.pair
    pair.primary.medium.remove()
    pair.lifecycle.primary_gone()
    pair.world.run_until(half.job.finished)
    with pytest.raises(OSError, match="read"):
        pair.read(pair.volume, 0, BLOCK)


def test_a_secondary_that_only_a_read_misses_is_lost_all_the_same(half: Interrupted) -> None:
    pair = half.pair
    pair.world.run_until(half.job.finished)
    job = start_restore(pair, half.newest)
    pair.world.run_until(lambda: job.phase == "copying" and not pair.secondary.outstanding)
    pair.secondary.medium.remove()
    pair.world.run_until(job.finished)
    assert pair.volume.protection.value == "tracking", "at once: there may be nobody else to notice"
    assert pair.volume.secondary is None
    pair.idle()
    assert half.is_closed()


@pytest.mark.parametrize("steps", range(0, 30, 3))
def test_given_up_hosts_wait_for_its_last_writes(half: Interrupted, steps: int) -> None:
    pair = half.pair
    for _ in range(steps):
        pair.world.step()
    if half.job.finished.finished:
        return
    pair.run(pair.lifecycle.jobs.restores.give_up())
    assert pair.volume.path is not None
    assert pair.volume.path.completed_write == pair.volume.write_number


def test_check_tells_of_it(half: Interrupted) -> None:
    pair = half.pair
    pair.kill()
    found, verdict = pair.check()
    assert "EC206" in {finding.code for finding in found}
    assert verdict.errors == 0


@pytest.mark.parametrize("with_secondary", [True, False])
def test_a_cut_anywhere_leaves_it_done_owed_or_not_begun(with_secondary: bool) -> None:
    """Until its end, power fails before every event; what then starts shows no mixture."""
    ended = False
    closed = 0
    for position in range(0, 400, 7):
        pair = SimulatedPair(position, secondary_size=2 << 20)
        pair.start()
        for block in range(4):
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
        point = pair.volume.write_number
        for block in range(4):
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
        pair.flush()
        newest = pair.volume.write_number
        job = start_restore(pair, point)
        for _ in range(position):
            if job.finished.finished:
                break
            pair.world.step()
        ended = job.finished.finished
        pair.power_cut()
        pair.start(with_secondary=with_secondary, readable=False)
        if pair.volume.closed_to_hosts:
            closed += 1
            pair.run(pair.lifecycle.attach(pair.secondary))
            pair.world.run_until(lambda pair=pair: not pair.volume.closed_to_hosts)  # type: ignore[misc]
            assert pair.read(pair.volume) == pair.states[point], position
        else:
            assert pair.read(pair.volume) in (pair.states[point], pair.states[newest]), position
        if ended:
            assert bool(closed) is not with_secondary
            return
    pytest.fail("the restore never came to its end")


def test_a_damaged_slot_does_not_make_a_start_forget_it(half: Interrupted) -> None:
    pair = half.pair
    pair.kill()
    found = pair.load(pair.primary)
    for slot in range(14):
        at = found.ring_offset + slot * 4096
        pair.primary.medium.contents[at : at + 4096] = bytes(4096)
    pair.start(readable=False)
    assert half.is_whole()


def test_lost_again_while_it_goes_on_it_stays_owed(half: Interrupted) -> None:
    pair = half.pair
    half.lose_secondary()
    half.lose_secondary_again()
    assert half.is_closed()
    half.bring_back()
    pair.world.run_until(lambda: not pair.volume.closed_to_hosts)
    assert half.is_whole()


def test_hosts_are_not_let_in_to_hear_errors(half: Interrupted) -> None:
    pair = half.pair
    exports = VolumeExports({"finance": pair.lifecycle}, dict, lambda code, **fields: None)
    half.lose_secondary()
    with pytest.raises(VolumeNotReady):
        pair.world.run_until(exports.open("finance"))
    half.bring_back()
    pair.world.run_until(lambda: not pair.volume.closed_to_hosts)
    assert pair.world.run_until(exports.open("finance")).target is pair.volume
