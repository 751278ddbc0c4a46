"""The queue that all disks on a loop share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from appliance.cdp.interfaces import READ, WRITE, DiskIdentity, DiskRequest
from appliance.cdp.memory import Buffer
from appliance.drivers.disk import RawDisk
from appliance.drivers.kernel_aio import KernelAio
from appliance.drivers.kernel_queue import LONG, PLACES, KernelQueue
from appliance.errors import DiskFailed
from appliance.loop import Loop

SIZE = 1 << 20
PAGE = 4096


@pytest.fixture
def queue(loop: Loop) -> KernelQueue:
    return KernelQueue(loop)


@pytest.fixture
def open_disk(
    tmp_path: Path, queue: KernelQueue, turn_until: Callable[..., None]
) -> Iterator[Callable[[str], RawDisk]]:
    """`open_disk(name)`: a new disk on the queue."""
    opened: list[RawDisk] = []

    def open_one(name: str) -> RawDisk:
        file = tmp_path / name
        file.touch()
        os.truncate(file, SIZE)
        opened.append(RawDisk.open(file, DiskIdentity(name, str(file)), queue))
        return opened[-1]

    yield open_one
    for disk in opened:
        disk.close()
    turn_until(lambda: all(disk.closed for disk in opened))


def request(kind: int, offset: int, completed: list[DiskRequest], fill: int = 0) -> DiskRequest:
    buffer = Buffer(PAGE)
    buffer.view[:] = bytes([fill]) * PAGE
    return DiskRequest(kind, offset, PAGE, buffer, 0, completed.append)


def test_what_several_disks_are_asked_for_in_a_turn_costs_one_call(
    loop: Loop,
    open_disk: Callable[[str], RawDisk],
    turn_until: Callable[..., None],
    mocker: MockerFixture,
) -> None:
    disks = [open_disk("primary"), open_disk("secondary")]
    completed: list[DiskRequest] = []

    def ask() -> None:
        for number, disk in enumerate(disks):
            disk.submit([request(WRITE, at * PAGE, completed, number + 1) for at in range(3)])
        assert not submitted.called, "nothing goes to the kernel before the turn has gathered"

    submitted = mocker.spy(KernelAio, "submit")
    loop.post(ask)
    turn_until(lambda: len(completed) == 6)
    assert submitted.spy_return_list == [6]
    assert not any(done.error for done in completed)
    for number, disk in enumerate(disks):
        read: list[DiskRequest] = []
        disk.submit([request(READ, PAGE, read)])
        turn_until(lambda read=read: bool(read))
        assert read[0].buffer is not None
        assert bytes(read[0].buffer.view) == bytes([number + 1]) * PAGE


def test_a_long_batch_does_not_wait_for_the_end_of_the_turn(
    loop: Loop,
    open_disk: Callable[[str], RawDisk],
    turn_until: Callable[..., None],
    mocker: MockerFixture,
) -> None:
    disk = open_disk("disk")
    completed: list[DiskRequest] = []
    submitted = mocker.spy(KernelAio, "submit")
    disk.submit([request(WRITE, at * PAGE, completed) for at in range(LONG)])
    assert submitted.spy_return_list == [LONG]
    assert completed == []
    disk.submit([request(WRITE, 0, completed)])
    turn_until(lambda: len(completed) == LONG + 1)
    assert submitted.spy_return_list == [LONG, 1]


def test_it_closes_with_the_last_disk_and_opens_again(
    loop: Loop,
    open_disk: Callable[[str], RawDisk],
    turn_until: Callable[..., None],
    mocker: MockerFixture,
) -> None:
    destroyed = mocker.spy(KernelAio, "destroy")
    first, second = open_disk("first"), open_disk("second")
    first.close()
    turn_until(lambda: first.closed)
    completed: list[DiskRequest] = []
    second.submit([request(WRITE, 0, completed)])
    turn_until(lambda: bool(completed))
    assert destroyed.call_count == 0
    second.close()
    turn_until(lambda: second.closed and destroyed.call_count == 1)
    third = open_disk("third")
    third.submit([request(WRITE, 0, completed)])
    turn_until(lambda: len(completed) == 2)
    assert not any(done.error for done in completed)


def test_a_disk_whose_requests_would_not_fit_is_refused_until_another_has_gone(
    queue: KernelQueue,
    open_disk: Callable[[str], RawDisk],
    turn_until: Callable[..., None],
) -> None:
    disk = open_disk("disk")
    depth = next(iter(queue._places.values()))
    first_token = queue.join(PLACES - depth, lambda token, result: None)
    with pytest.raises(DiskFailed, match="too many disks"):
        open_disk("one more")
    disk.close()
    turn_until(lambda: disk.closed)
    again = open_disk("one more")
    assert not again.fenced
    queue.leave(first_token)
