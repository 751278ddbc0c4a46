"""The secondary was away: what happened meanwhile is a gap, and what came of it is told apart.

DESIGN.md, section 4, rules 3, 5, 8 and 9.
"""

from collections.abc import Callable
from errno import EIO
from typing import Any

import pytest
from pytest_mock import MockerFixture

from appliance import events
from appliance.cdp.comparison import Comparison
from appliance.cdp.interfaces import FLUSH, WRITE
from appliance.errors import PointInGap
from tests.cdp.simulated_pair import REGION, SimulatedPair, assert_refused_as_parted

BLOCK = 4096


def protected(seed: int) -> SimulatedPair:
    """One write is in its history, to the first block."""
    pair = SimulatedPair(seed=seed)
    pair.start()
    pair.write(0, b"\x11" * BLOCK)
    return pair


def assert_equal_disks(pair: SimulatedPair) -> None:
    window = pair.volume.window()
    assert window is not None
    assert pair.point(f"write:{window.newest_write}") == pair.read(pair.volume)


# Points


def after_an_absence(seed: int) -> tuple[SimulatedPair, int]:
    """Back in sync, three writes were only tracked; and the last write before them."""
    pair = protected(seed)
    kept = pair.volume.write_number
    pair.stop()
    pair.start(with_secondary=False)
    for region in (1, 3, 5):
        pair.write(region * REGION, b"\x22" * BLOCK)
    pair.stop()
    pair.start()
    return pair, kept


def test_no_point_of_an_absence_is_given() -> None:
    """Not the writes that were only tracked, and no half of what the resync put back."""
    pair, kept = after_an_absence(seed=1)

    window = pair.volume.window()
    assert window is not None
    assert window.newest_write - kept > 3, "the resync put back three blocks"
    for number in range(kept + 1, window.newest_write):
        with pytest.raises(PointInGap):
            pair.point(f"write:{number}")
    assert events.GAP_OPENED in pair.events
    assert pair.point(f"write:{kept}") == pair.states[kept]
    assert_equal_disks(pair)


def test_nor_once_the_service_has_started_anew() -> None:
    pair, kept = after_an_absence(seed=2)
    newest = pair.volume.write_number
    after = pair.write(BLOCK, b"\x33" * BLOCK)
    pair.power_cut()

    pair.start()

    for number in range(kept + 1, newest):
        with pytest.raises(PointInGap):
            pair.point(f"write:{number}")
    assert pair.point(f"write:{kept}") == pair.states[kept]
    assert after > newest
    assert_equal_disks(pair)


# Generations


def lose_the_secondary(pair: SimulatedPair) -> None:
    """It is pulled while hosts write."""
    pair.start()
    pair.secondary.medium.remove()
    pair.write(3 * REGION, b"\x44" * BLOCK)
    assert pair.volume.protection.value == "tracking"


def start_without_it(pair: SimulatedPair) -> None:
    pair.start(with_secondary=False)
    pair.write(3 * REGION, b"\x44" * BLOCK)


GoAlone = Callable[[SimulatedPair], None]
WAYS = pytest.mark.parametrize("go_alone", [lose_the_secondary, start_without_it])


@WAYS
def test_a_secondary_that_went_with_a_clone_of_the_primary_is_refused(go_alone: GoAlone) -> None:
    """The primary and its clone both served alone; then the clone got the secondary."""
    pair = protected(seed=3)
    pair.stop()
    images = pair.images()
    go_alone(pair)
    pair.secondary.medium.replug()
    pair.stop()
    ours = pair.images()[0]
    pair.put_back(images)
    go_alone(pair)
    pair.secondary.medium.replug()
    pair.secondary = pair.secondary.reopen()
    pair.run(pair.lifecycle.attach(pair.secondary))
    pair.world.run_until(lambda: pair.volume.protection.value == "protected")
    pair.stop()
    pair.put_back((ours, pair.images()[1]))

    assert_refused_as_parted(pair)


@WAYS
def test_the_generation_is_new_before_a_write_is_acknowledged_alone(go_alone: GoAlone) -> None:
    pair = protected(seed=4)
    pair.stop()
    before = pair.load(pair.primary)
    go_alone(pair)
    pair.secondary.medium.replug()
    pair.power_cut()

    after = pair.load(pair.primary)

    assert after.generation != before.generation
    assert before.generation in after.parents


def test_an_old_clone_of_the_secondary_is_found_by_what_the_log_relied_on() -> None:
    """Its last block is just as it left it, and still it lacks writes that were retired."""
    pair = protected(seed=5)
    pair.stop()
    stale = pair.images()[1]
    pair.start()
    pair.write(3 * REGION, b"\x55" * BLOCK)
    pair.idle()
    pair.stop()
    pair.put_back((pair.images()[0], stale))

    pair.start()

    assert events.WRITTEN_ELSEWHERE not in pair.events
    assert_equal_disks(pair)


def test_a_flush_that_the_secondary_failed_is_answered_once_tracking_is_durable() -> None:
    pair = protected(seed=6)
    before = pair.load(pair.primary)
    pair.write(3 * REGION, b"\x55" * BLOCK)
    pair.secondary.medium.fail_next(FLUSH, EIO)
    pair.flush()
    pair.power_cut()

    assert pair.load(pair.primary).generation != before.generation
    pair.start()
    assert_equal_disks(pair)


# Intents that move to the bitmap


@pytest.mark.parametrize("seed", range(6))
def test_what_only_the_primary_had_taken_when_the_secondary_went_is_resynced(seed: int) -> None:
    pair = protected(seed)
    pair.secondary.medium.stall()
    data = b"\x66" * BLOCK
    answered = pair.begin_write(3 * REGION, data)
    pair.world.run_idle()
    pair.secondary.medium.remove()
    assert not pair.world.run_until(answered).error
    pair.secondary.medium.replug()
    pair.stop()

    pair.start()

    assert pair.read(pair.volume, 3 * REGION, BLOCK) == data
    assert_equal_disks(pair)


def test_what_only_the_primary_had_taken_at_a_crash_is_resynced_after_a_life_alone() -> None:
    pair = protected(seed=7)
    pair.flush()
    before = pair.images()[1]
    pair.write(3 * REGION, b"\x66" * BLOCK)
    # The service is killed with the record of that write still on its way.
    pair.put_back((pair.images()[0], before))
    pair.start(with_secondary=False)
    pair.stop()

    pair.start()

    assert_equal_disks(pair)


# The resync


@pytest.mark.parametrize("seed", range(6))
def test_a_region_marked_again_behind_its_repair_is_repaired_again(seed: int) -> None:
    """A host's write to it fails half-way on the primary, and reaches the journal."""
    pair = protected(seed)
    pair.stop()
    pair.start(with_secondary=False)
    for region in range(pair.superblock.regions):
        pair.write(region * REGION, b"\x66" * BLOCK)
    pair.stop()
    pair.start(until_protected=False)
    pair.write(0, b"\x77" * BLOCK)  # its intent is known from now on
    job = pair.volume.job
    assert job is not None
    pair.world.run_until(lambda: job.bytes_scanned > 2 * REGION)
    pair.primary.medium.fail_next(WRITE, EIO)
    answered = pair.begin_write(0, b"\x88" * BLOCK)
    assert pair.world.run_until(answered).error == EIO
    assert not job.finished.finished, "it is still at work on the others"

    pair.world.run_until(lambda: pair.volume.protection.value == "protected")

    assert_equal_disks(pair)


@pytest.mark.parametrize("seed", range(6))
def test_a_write_that_fails_as_a_resync_begins_is_repaired(
    seed: int, mocker: MockerFixture
) -> None:
    """On the primary it is half there, in the journal wholly: what is watched is not equal."""
    begin = Comparison.begin

    async def begin_with_trouble(*about: Any) -> Comparison:
        comparison = await begin(*about)
        for error in (0, EIO):  # before the second one its intent is known
            if error:
                pair.primary.medium.fail_next(WRITE, error)
            assert (await pair.begin_write(0, pair.random.randbytes(BLOCK))).error == error
        mocker.stopall()
        return comparison

    pair = protected(seed)
    pair.stop()
    pair.start(with_secondary=False)
    pair.write(3 * REGION, b"\x66" * BLOCK)
    pair.stop()
    mocker.patch.object(Comparison, "begin", begin_with_trouble)
    pair.start(until_protected=False)
    pair.idle(10)
    pair.world.run_until(lambda: pair.volume.protection.value == "protected")

    assert_equal_disks(pair)
