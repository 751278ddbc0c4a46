"""The primary refuses an intent: what asked for it fails, and the next write asks again."""

from contextlib import suppress
from errno import EIO

import pytest

from appliance.cdp.interfaces import FLUSH, WRITE, HostRequest
from appliance.cdp.tasks import Completion, Task
from appliance.errors import DiskFailed
from tests.cdp.simulated_pair import REGION, SimulatedPair

BLOCK = 4096


def test_a_region_whose_intent_failed_is_not_taken_for_known() -> None:
    pair = SimulatedPair(seed=3)
    pair.start()
    medium = pair.primary.medium
    medium.fail_next(WRITE, EIO, 1)
    answered: Completion[HostRequest] = Completion()
    data = memoryview(b"\x55" * BLOCK)
    pair.volume.submit(HostRequest(WRITE, 0, BLOCK, answered.succeed, data=data))
    assert pair.world.run_until(answered).error == EIO
    before = medium.counters.copy()

    pair.write(0, b"\x66" * BLOCK)

    assert (medium.counters - before).durable_writes >= 1


def test_a_stop_keeps_the_intent_of_a_region_whose_bit_could_not_be_written() -> None:
    """The write fails, the note that the disks differ there fails too, and then all is well."""
    pair = SimulatedPair(seed=8)
    pair.start()
    pair.write(0, b"\x11" * BLOCK)
    medium = pair.primary.medium
    medium.fail_next(WRITE, EIO, 2)
    answered: Completion[HostRequest] = Completion()
    data = memoryview(b"\x55" * BLOCK)
    pair.volume.submit(HostRequest(WRITE, 0, BLOCK, answered.succeed, data=data))
    assert pair.world.run_until(answered).error == EIO
    pair.world.run_until(lambda: pair.volume.job is not None)
    assert pair.volume.log.out_of_sync() == [0]
    pair.stop()

    pair.start()

    newest = pair.volume.maps()[-1].last_write
    assert pair.point(f"write:{newest}") == pair.read(pair.volume)
    assert "EV208" in pair.events, "there was something to settle"


def test_regions_that_found_no_room_are_not_listed() -> None:
    """The flush that was to make room fails; the slot is written for others before the next."""
    pair = SimulatedPair(seed=5)
    pair.start()
    log = pair.volume.log
    log.capacity = 3
    for region in range(log.capacity):
        pair.write(region * REGION, b"\x11" * BLOCK)
    pair.primary.medium.fail_next(FLUSH, EIO)
    refused = pair.begin_write(log.capacity * REGION, b"\x22" * BLOCK)
    assert pair.world.run_until(refused).error == EIO

    assert pair.volume.path is not None
    pair.run(pair.volume.path.promise(pair.volume.write_number))

    assert set(log.active) == set(range(log.capacity))
    pair.write(log.capacity * REGION, b"\x33" * BLOCK)
    assert log.capacity in log.active


@pytest.mark.parametrize("position", range(1, 40, 3))
def test_a_stop_ends_though_neither_disk_takes_anything_more(position: int) -> None:
    """The secondary is lost, and that it is cannot be written down."""
    pair = SimulatedPair(seed=position)
    pair.start()
    done: Completion[HostRequest] = Completion()
    pair.volume.submit(HostRequest(WRITE, 0, BLOCK, done.succeed, data=memoryview(b"z" * BLOCK)))
    stopping = Task(pair.lifecycle.stop())
    for _ in range(position):
        pair.world.step()
    pair.primary.medium.fail_next(WRITE, EIO, 1000)
    pair.secondary.medium.remove()
    pair.lifecycle.secondary_gone()

    with suppress(DiskFailed):
        pair.world.run_until(stopping)

    pair.world.run_until(done)
