"""Putting points back, over the simulator."""

import pytest
from pytest_mock import MockerFixture

from appliance.cdp import restore
from appliance.cdp.interfaces import BLOCK
from appliance.cdp.jobs import Job
from appliance.errors import NoRoom
from tests.cdp.simulated_pair import SimulatedPair


async def nobody_there() -> None:
    pass


def start_restore(pair: SimulatedPair, write: int) -> Job:
    point = pair.run(pair.volume.resolve(f"write:{write}"))
    planned = pair.run(pair.lifecycle.jobs.restores.plan(point))
    return pair.lifecycle.jobs.restores.start(planned, nobody_there)


def put_back(pair: SimulatedPair, write: int) -> Job:
    job = start_restore(pair, write)
    pair.world.run_until(job.finished)
    assert job.result == "done", job.error
    return job


@pytest.fixture
def in_small_steps(mocker: MockerFixture) -> None:
    """So that a small volume takes many."""
    mocker.patch.object(restore, "STEP", 2 * BLOCK)


@pytest.fixture
def pair() -> SimulatedPair:
    """Full of data: 23 blocks."""
    pair = SimulatedPair(5, secondary_size=2 << 20)
    size = pair.superblock.volume_size
    pair.primary.medium.view[:size] = pair.random.randbytes(size)
    pair.start()
    return pair


@pytest.mark.parametrize("blocks", [(512, 512), (512, 4096), (4096, 512), (4096, 4096)])
@pytest.mark.usefixtures("in_small_steps")
def test_every_byte_is_back_and_the_restore_can_be_undone(blocks: tuple[int, int]) -> None:
    pair = SimulatedPair(
        7, primary_block=blocks[0], secondary_block=blocks[1], secondary_size=2 << 20
    )
    pair.start()
    pair.write_at_random(10)
    before = pair.volume.write_number
    pair.write_at_random(20)
    after = pair.volume.write_number
    put_back(pair, before)
    assert pair.read(pair.volume) == pair.states[before]
    assert pair.point(f"write:{after}") == pair.states[after]
    put_back(pair, after)
    assert pair.read(pair.volume) == pair.states[after]
    assert pair.point(f"write:{before}") == pair.states[before]


@pytest.mark.usefixtures("in_small_steps")
def test_it_costs_what_changed(pair: SimulatedPair) -> None:
    before = pair.volume.write_number
    for block in (1, 2, 9, 17, 22):
        pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
    pair.write(9 * BLOCK, pair.random.randbytes(512))
    job = put_back(pair, before)
    assert job.bytes_total == job.bytes_copied == 5 * BLOCK
    assert pair.read(pair.volume) == pair.states[before]


@pytest.fixture
def full() -> tuple[SimulatedPair, int]:
    """Its history holds the volume twice above a point, and that is nearly all of it."""
    pair = SimulatedPair(5)
    pair.start()
    for _ in range(3):
        before = pair.volume.write_number
        for block in range(23):
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
        pair.volume.require_history().journal.close_map()
    return pair, before - 23


def test_what_would_push_out_its_point_is_refused(full: tuple[SimulatedPair, int]) -> None:
    pair, write = full
    with pytest.raises(NoRoom):
        start_restore(pair, write)
    assert put_back(pair, write + 23).bytes_copied == pair.volume.size
    assert pair.read(pair.volume) == pair.states[write + 23]


def test_long_extents_are_put_back_in_turns(pair: SimulatedPair, mocker: MockerFixture) -> None:
    mocker.patch.object(restore, "STEP", 3 * 512)
    before = pair.volume.write_number
    pair.write(0, b"", zero=pair.volume.size)
    put_back(pair, before)
    assert pair.read(pair.volume) == pair.states[before]


@pytest.mark.usefixtures("in_small_steps")
def test_after_a_crash_it_goes_on_with_what_is_missing(pair: SimulatedPair) -> None:
    before = pair.volume.write_number
    for block in range(23):
        pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
    pair.flush()
    job = start_restore(pair, before)
    pair.world.run_until(lambda: job.bytes_copied >= 6 * BLOCK)
    copied = job.bytes_copied
    pair.kill()
    pair.start()
    assert pair.read(pair.volume) == pair.states[before]
    again = pair.volume.last_job
    assert again is not None
    assert again.kind == "restore"
    assert 0 < again.bytes_copied <= 23 * BLOCK - copied


@pytest.mark.usefixtures("in_small_steps")
def test_once_given_up_it_writes_no_more(pair: SimulatedPair) -> None:
    before = pair.volume.write_number
    for block in range(23):
        pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
    job = start_restore(pair, before)
    pair.world.run_until(lambda: job.bytes_copied >= 4 * BLOCK)
    pair.run(pair.lifecycle.jobs.restores.give_up())
    assert job.result == "cancelled"
    number = pair.volume.write_number
    pair.idle()
    assert pair.volume.write_number == number


@pytest.mark.usefixtures("in_small_steps")
def test_a_block_that_the_primary_does_not_take_fails_the_job(pair: SimulatedPair) -> None:
    before = pair.volume.write_number
    for block in range(10):
        pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
    job = start_restore(pair, before)
    pair.world.run_until(lambda: job.bytes_copied >= 2 * BLOCK)
    pair.primary.medium.remove()
    pair.world.run_until(job.finished)
    assert job.result in {"failed", "cancelled"}
