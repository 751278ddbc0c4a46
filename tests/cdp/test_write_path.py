"""The way of a write, step by step: order, acknowledgement, flushes, errors, locks."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EIO

import numpy as np
import pytest

from appliance.cdp.commit_group import REPAIR
from appliance.cdp.interfaces import FLUSH, SECTOR, WRITE, HostRequest
from appliance.cdp.policies import Ack
from appliance.cdp.route import Mode
from appliance.cdp.tasks import Completion, Task
from tests.simulation.draws import Shape
from tests.simulation.exhaustive import hold_to_the_word
from tests.simulation.oracle import bytes_of
from tests.simulation.rig import Rig
from tests.simulation.watching import protected_media, watched

SHAPE = Shape(primary=136 << 10, secondary=1280 << 10, segment=64 << 10, region=4 << 10)


@contextmanager
def protected(seed: int = 1, shape: Shape = SHAPE) -> Iterator[Rig]:
    rig = Rig(seed, shape, media=protected_media(shape))
    with watched(rig):
        rig.start()
        yield rig


@pytest.mark.parametrize("seed", range(8))
def test_of_overlapping_writes_in_flight_the_last_wins_on_both_disks(seed: int) -> None:
    with protected(seed) as rig:
        for first in (0, 4, 2, 6, 0, 3):
            rig.write(first, 8)
        rig.settle()
        assert np.array_equal(rig.read(0, rig.sectors), rig.oracle.head)
        assert hold_to_the_word(rig) >= 6


def test_numbers_follow_the_order_of_arrival() -> None:
    with protected() as rig:
        requests = [rig.write(8 * at, 8) for at in range(5)]
        rig.settle()
        numbers = [request.number for request in requests]
        assert numbers == list(range(numbers[0], numbers[0] + 5))
        assert rig.path.completed_write == numbers[-1]


def test_a_write_larger_than_a_group_has_one_number_and_one_answer() -> None:
    with protected() as rig:
        before = rig.path.next_write
        rig.write(0, 100)
        rig.write(50, 2)
        rig.settle()
        assert rig.path.next_write == before + 2
        assert np.array_equal(rig.view(before), rig.oracle.at(before)[0])


@pytest.mark.parametrize("ack", list(Ack))
def test_who_must_have_it_before_the_host_hears(ack: Ack) -> None:
    with protected() as rig:
        rig.path.ack = ack
        rig.write(0, 8)
        rig.settle()
        rig.secondary_medium.stall()
        rig.write(0, 8)
        rig.world.run_idle()
        assert bool(rig.hosts_in_flight) == (ack is Ack.BOTH)
        rig.secondary_medium.release()
        rig.settle()


def test_a_write_that_the_primary_refuses_is_told_to_its_host_alone() -> None:
    with protected() as rig:
        rig.write(0, 8)
        rig.settle()
        rig.errors_allowed = True
        rig.primary_medium.fail_next(WRITE, EIO)
        failing, well = rig.write(0, 4), rig.write(6, 2)
        rig.settle()
        assert sorted([failing.error, well.error]) == [0, EIO]
        rig.settle_jobs()
        rig.pass_time(2)
        rig.settle_jobs()
        assert rig.volume.protection.value == "protected"
        assert np.array_equal(rig.view(rig.path.completed_write), rig.read(0, rig.sectors))


def test_a_failed_flush_is_told_to_every_host_once() -> None:
    with protected() as rig:
        rig.errors_allowed = True
        rig.write(0, 8)
        rig.settle()
        rig.primary_medium.fail_next(FLUSH, EIO)
        first = rig.flush(host=1)
        rig.settle()
        second, again = rig.flush(host=2), rig.flush(host=1)
        rig.settle()
        third = rig.flush(host=2)
        rig.settle()
        assert [request.error for request in (first, second, again, third)] == [EIO, EIO, 0, 0]


def test_a_lock_holds_writes_back_and_lets_them_go_in_order() -> None:
    with protected() as rig:
        rig.finish("locking", Task(rig.path.lock(0, 8 * 512)))
        held = [rig.write(0, 4), rig.write(2, 4)]
        free = rig.write(20, 4)
        rig.wait("the free one", lambda: free not in rig.hosts_in_flight)
        assert all(request in rig.hosts_in_flight for request in held)
        rig.path.unlock(0, 8 * 512)
        rig.settle()
        assert held[0].number < held[1].number
        assert np.array_equal(rig.read(0, rig.sectors), rig.oracle.head)


def test_a_lock_that_is_given_up_while_it_waits_holds_nobody() -> None:
    with protected() as rig:
        rig.write(0, 8)
        waiting = Task(rig.path.lock(0, 4096))
        assert not waiting.finished
        waiting.cancel()
        rig.write(0, 8)
        rig.settle()


def test_a_pause_lets_what_has_started_come_to_its_end() -> None:
    with protected() as rig:
        rig.write(0, 8)
        while rig.path._intents.starting is None:
            rig.turn()
        rig.path.pause()
        drained = rig.path.drain()
        rig.wait("the drain", lambda: drained.finished)
        assert rig.path.mode is Mode.PAUSED
        rig.path.resume()
        rig.settle()


def test_a_full_history_folds_and_the_host_goes_on() -> None:
    with protected() as rig:
        for _ in range(60):
            for first in range(0, 96, 24):
                rig.write(first, 16)
            rig.settle()
        assert rig.volume.protection.value == "protected"
        window = rig.volume.window()
        assert window is not None
        assert window.oldest_write > 1
        assert hold_to_the_word(rig)


@pytest.mark.parametrize("ack", list(Ack))
@pytest.mark.parametrize("trouble", ["stalls", "fails", "is pulled"])
def test_what_is_meant_for_the_journal_alone_is_good_only_once_it_is_there(
    ack: Ack, trouble: str
) -> None:
    with protected() as rig:
        rig.path.ack = ack
        rig.write(0, 8)
        rig.settle()
        rig.secondary_medium.stall()
        answered: Completion[HostRequest] = Completion()
        data = memoryview(bytes_of(rig.read(0, 8)))
        request = HostRequest(REPAIR, 0, 8 * 512, answered.succeed, data=data)
        rig.path.write(request)
        rig.world.run_idle()
        assert not answered.finished
        rig.oracle.secondary_lost_power()
        if trouble == "fails":
            rig.secondary_medium.fail_next(WRITE, EIO)
            rig.secondary_medium.release()
        elif trouble == "is pulled":
            rig.secondary_medium.remove()
        rig.wait("the answer", lambda: answered.finished)
        assert request.error == EIO
        assert rig.path.mode is Mode.TRACKING


@pytest.mark.parametrize("ack", list(Ack))
def test_what_is_meant_for_the_journal_alone_is_told_once_it_is_there(ack: Ack) -> None:
    with protected() as rig:
        rig.path.ack = ack
        answered: Completion[HostRequest] = Completion()
        data = memoryview(bytes_of(rig.read(0, 8)))
        request = HostRequest(REPAIR, 0, 8 * 512, answered.succeed, data=data)
        rig.path.write(request)
        rig.wait("the answer", lambda: answered.finished)
        assert not request.error
        assert rig.path.completed_write == request.number


def test_a_write_over_one_that_waits_for_a_lock_waits_behind_it() -> None:
    """Though it does not touch the locked bytes itself."""
    rig = Rig(1, SHAPE, media=protected_media(SHAPE))
    with watched(rig):
        rig.start()
        locked = Task(rig.path.lock(8 * SECTOR, 8 * SECTOR))
        rig.wait("a lock", lambda: locked.finished)
        done: list[int] = []
        for number, (first, sectors) in enumerate([(4, 8), (4, 2), (0, 2)]):
            data = bytes([number + 1]) * (sectors * SECTOR)
            request = HostRequest(
                WRITE,
                first * SECTOR,
                sectors * SECTOR,
                lambda request, number=number: done.append(number),  # type: ignore[misc]
                data=data,
            )
            rig.volume.submit(request)
        rig.wait("the write that touches neither", lambda: done == [2])
        rig.pass_time(1)
        assert done == [2]
        rig.path.unlock(8 * SECTOR, 8 * SECTOR)
        rig.wait("those that waited", lambda: len(done) == 3)
        image = rig.primary_medium.contents
        assert image[4 * SECTOR] == 2
        assert image[6 * SECTOR] == 1
