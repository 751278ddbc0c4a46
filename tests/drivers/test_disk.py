"""The disk driver on regular files and on real block devices, sound, failing and hanging."""

import contextlib
import errno
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from appliance.cdp.interfaces import DISCARD, FLUSH, READ, WRITE, ZERO, DiskIdentity, DiskRequest
from appliance.cdp.memory import Buffer, BufferPool
from appliance.drivers.device import Device, open_device
from appliance.drivers.disk import RawDisk
from appliance.drivers.kernel_aio import Batch
from appliance.drivers.kernel_queue import KernelQueue
from appliance.errors import DiskFailed, DiskInUse, DiskNotFound
from appliance.loop import Loop
from tests.service.media import wait_for

SIZE = 8 << 20
KINDS = ["file", "buffered file", "512-byte sectors", "4096-byte sectors"]


class Bench:
    """Disks on a turning loop, with calls that wait for their completions."""

    def __init__(self, loop: Loop, turn_until: Callable[..., None]) -> None:
        self.loop = loop
        self.queue = KernelQueue(loop)
        self.turn_until = turn_until
        self.opened: list[RawDisk] = []
        self.completed: list[DiskRequest] = []

    def open(self, path: Path, deadline: float = 30.0) -> RawDisk:
        disk = RawDisk.open(path, DiskIdentity("d", str(path)), self.queue, deadline)
        self.opened.append(disk)
        return disk

    def request(
        self, kind: int, offset: int, length: int = 0, data: bytes = b"", durable: bool = False
    ) -> DiskRequest:
        buffer = None
        if kind in (READ, WRITE):
            length = length or len(data)
            buffer = Buffer(length + 512)
            buffer.view[512 : 512 + len(data)] = data
        return DiskRequest(kind, offset, length, buffer, 512, self.completed.append, durable)

    def run(self, disk: RawDisk, requests: Sequence[DiskRequest]) -> None:
        """Submit them all, and wait until each has completed, once."""
        self.completed.clear()
        disk.submit(requests)
        self.turn_until(lambda: len(self.completed) >= len(requests))
        assert sorted(map(id, self.completed)) == sorted(map(id, requests))

    def write(self, disk: RawDisk, offset: int, data: bytes) -> None:
        self.run(disk, [request := self.request(WRITE, offset, data=data)])
        assert request.error is None

    def read(self, disk: RawDisk, offset: int, length: int) -> bytes:
        self.run(disk, [request := self.request(READ, offset, length)])
        assert request.error is None
        return answer(request)

    def errno_of(self, disk: RawDisk, request: DiskRequest) -> int:
        self.run(disk, [request])
        return 0 if request.error is None else request.error.errno or -1

    def let_go(self) -> None:
        for disk in self.opened:
            disk.close()
        self.turn_until(lambda: all(disk.closed for disk in self.opened))


@pytest.fixture
def bench(loop: Loop, turn_until: Callable[..., None]) -> Iterator[Bench]:
    bench = Bench(loop, turn_until)
    yield bench
    bench.let_go()


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path: Path, mocker: MockerFixture) -> Path:
    """A disk of SIZE zeros of each kind."""
    if "sectors" in request.param:
        make: Callable[..., Path] = request.getfixturevalue("loop_device")
        return make(SIZE, int(request.param.split("-")[0]))
    if request.param == "buffered file":
        refuse_direct(mocker)
    return new_file(tmp_path)


@pytest.fixture
def disk(bench: Bench, path: Path) -> RawDisk:
    return bench.open(path)


def new_file(tmp_path: Path) -> Path:
    file = tmp_path / "disk"
    file.touch()
    os.truncate(file, SIZE)
    return file


def refuse_direct(mocker: MockerFixture) -> None:
    """Make every file system one that has no direct I/O."""
    real = os.open

    def without_direct(path: Any, flags: int, *more: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct I/O here")
        return real(path, flags, *more)

    mocker.patch("appliance.drivers.device.os.open", without_direct)


def answer(request: DiskRequest) -> bytes:
    assert request.buffer is not None
    return bytes(request.buffer.view[request.start : request.start + request.length])


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


# What any disk does.


def test_geometry(path: Path, disk: RawDisk, request: pytest.FixtureRequest) -> None:
    assert disk.size == SIZE
    is_4k = "4096-byte" in request.node.name
    assert disk.logical_block == (4096 if is_4k else 512)
    assert disk.physical_block >= disk.logical_block
    assert disk.direct == ("buffered" not in request.node.name)
    assert disk.cheap_zero
    assert not disk.fenced


def test_any_mix_of_operations_reads_back_as_a_disk_does(bench: Bench, disk: RawDisk) -> None:
    """Each batch holds requests that do not overlap, so that their order does not matter."""
    chance, block, model = random.Random(7), disk.logical_block, bytearray(SIZE)
    for _ in range(25):
        edges = sorted(chance.sample(range(SIZE // block), 16))
        batch = []
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            offset, length = first * block, (last - first) * block
            length = min(length, chance.choice([block, 8192, 3 << 20]))
            kind = chance.choice([READ, WRITE, WRITE, ZERO])
            data = chance.randbytes(length) if kind == WRITE else b""
            durable = chance.random() < 0.2
            batch.append(bench.request(kind, offset, length, data, durable))
        batch.append(bench.request(FLUSH, 0))
        bench.run(disk, batch)
        for request in batch:
            assert request.error is None
            place = slice(request.offset, request.offset + request.length)
            if request.kind == READ:
                assert answer(request) == model[place]
            elif request.kind == WRITE:
                model[place] = answer(request)
            elif request.kind == ZERO:
                model[place] = bytes(request.length)
    assert bench.read(disk, 0, SIZE) == model
    assert disk.outstanding == 0


def test_more_requests_than_the_kernel_takes(bench: Bench, disk: RawDisk) -> None:
    data = noise(4096)
    requests = [bench.request(WRITE, i % 2048 * 4096, data=data) for i in range(3000)]
    bench.completed.clear()
    disk.submit(requests)
    assert bench.completed == []
    assert disk.outstanding <= 128
    bench.turn_until(lambda: len(bench.completed) == 3000)
    assert {id(request) for request in bench.completed} == {id(request) for request in requests}
    assert not any(request.error for request in requests)
    assert bench.read(disk, 0, SIZE) == data * 2048


def test_the_memory_of_a_request_that_waits_is_nobody_elses(
    bench: Bench, path: Path, mocker: MockerFixture
) -> None:
    """Who has asked may have lost interest: a job that is cancelled gives its buffers back."""
    narrow(mocker, depth=2, largest=64 << 10)
    disk, pool, size = bench.open(path), BufferPool(), 1 << 20
    bench.write(disk, 0, noise(4 * size))
    bench.completed.clear()
    for at in range(4):
        buffer = pool.get(size)
        disk.submit([DiskRequest(READ, at * size, size, buffer, 0, bench.completed.append)])
        buffer.release()
    others = [pool.get(size) for _ in range(4)]
    for buffer in others:
        buffer.view[:] = b"U" * size
    bench.turn_until(lambda: len(bench.completed) == 4)
    assert all(buffer.view == b"U" * size for buffer in others)
    assert not any(request.buffer.pins for request in bench.completed if request.buffer)


def test_what_a_fence_drops_from_the_queue_is_free_again(
    bench: Bench, path: Path, mocker: MockerFixture
) -> None:
    narrow(mocker, depth=2, largest=64 << 10)
    disk = bench.open(path)
    requests = [bench.request(READ, at << 20, 1 << 20) for at in range(6)]
    bench.completed.clear()
    disk.submit(requests)
    disk.close()
    bench.turn_until(lambda: disk.closed and len(bench.completed) == len(requests))
    assert not any(request.buffer.pins for request in requests if request.buffer)


def narrow(mocker: MockerFixture, depth: int, largest: int) -> None:
    """Disks that are opened from now on take so few requests, of so many bytes."""

    def opened(*arguments: Any) -> Device:
        device = open_device(*arguments)
        return replace(device, queue_depth=depth, largest_request=largest)

    mocker.patch("appliance.drivers.disk.open_device", opened)


@pytest.mark.parametrize(
    ("depth", "largest", "piece"),
    [
        (112, 1280 << 10, 4 << 20),
        (56, 128 << 10, 1 << 20),  # not half of the queue for one of them
        (56, 512 << 10, 7 << 19),
        (1, 120 << 10, 120 << 10),  # a USB stick
    ],
)
def test_a_long_piece_leaves_room_for_what_comes_behind(
    bench: Bench, tmp_path: Path, mocker: MockerFixture, depth: int, largest: int, piece: int
) -> None:
    narrow(mocker, depth, largest)
    disk = bench.open(new_file(tmp_path))
    lengths: list[int] = []
    add = Batch.add

    def watched(batch: Batch, *given: Any) -> None:
        lengths.append(given[4])
        add(batch, *given)

    mocker.patch.object(Batch, "add", watched)
    bench.read(disk, 0, 4 << 20)
    assert max(lengths) == piece


def test_zero_and_discard_touch_their_range_only(bench: Bench, disk: RawDisk) -> None:
    data = noise(1 << 20)
    bench.write(disk, 0, data)
    bench.run(disk, [bench.request(ZERO, 65536, 131072), bench.request(DISCARD, 524288, 65536)])
    seen = bench.read(disk, 0, 1 << 20)
    assert seen[65536:196608] == bytes(131072)
    assert seen[:65536] == data[:65536]
    assert seen[196608:524288] == data[196608:524288]
    assert seen[589824:] == data[589824:]
    assert not any(request.error for request in bench.completed)


def test_a_disk_that_cannot_zero_is_written_zeros(
    bench: Bench, path: Path, mocker: MockerFixture
) -> None:
    unsupported = OSError(errno.EOPNOTSUPP, "not here")
    mocker.patch("appliance.drivers.device._punch_hole", side_effect=unsupported)
    disk = bench.open(path)
    mocker.patch("appliance.drivers.device.fcntl.ioctl", side_effect=unsupported)
    data = noise(4 << 20)
    bench.write(disk, 0, data)
    zero, discard = bench.request(ZERO, 4096, (2 << 20) + 4096), bench.request(DISCARD, 0, 4096)
    bench.run(disk, [zero, discard])
    assert (zero.error, discard.error) == (None, None)
    end = (2 << 20) + 8192
    assert bench.read(disk, 0, 4 << 20) == data[:4096] + bytes(end - 4096) + data[end:]
    mocker.stopall()


def test_bad_requests_fail_and_spare_their_neighbours(bench: Bench, disk: RawDisk) -> None:
    good = [bench.request(WRITE, i * 4096, data=noise(4096, i)) for i in range(2)]
    outside = bench.request(READ, SIZE - 4096, 8192)
    batch = [good[0], outside, good[1]]
    if disk.direct:
        batch.insert(1, bench.request(READ, 100, 4096))
    bench.run(disk, batch)
    assert [request.error for request in good] == [None, None]
    for request in batch[1:-1]:
        assert request.error is not None
        assert request.error.errno == errno.EINVAL
    assert bench.read(disk, 0, 8192) == noise(4096, 0) + noise(4096, 1)


def test_a_disk_is_held_by_one_at_a_time(bench: Bench, path: Path, disk: RawDisk) -> None:
    with pytest.raises(DiskInUse):
        bench.open(path)
    disk.close()
    bench.turn_until(lambda: disk.closed)
    again = bench.open(path)
    assert bench.read(again, 0, 4096) == bytes(4096)


def test_close_fails_what_is_under_way_and_what_comes_later(bench: Bench, disk: RawDisk) -> None:
    before = [bench.request(WRITE, i * 4096, data=noise(4096)) for i in range(500)]
    after = bench.request(READ, 0, 4096)
    disk.submit(before)
    disk.close()
    disk.submit([after])
    assert bench.completed == []
    bench.turn_until(lambda: len(bench.completed) == 501 and disk.closed)
    assert len({id(request) for request in bench.completed}) == 501
    assert after.error is not None
    assert after.error.errno == errno.ENODEV
    assert all(request.buffer.pins == 0 for request in before if request.buffer)
    disk.close()


def test_an_error_in_done_does_not_lose_the_other_completions(path: Path) -> None:
    errors: list[Exception] = []
    completed: list[DiskRequest] = []

    def done(request: DiskRequest) -> None:
        completed.append(request)
        if request.offset == 4096:
            raise RuntimeError("a bug in one volume")

    with Loop(errors.append) as loop:
        disk = RawDisk.open(path, DiskIdentity("d", str(path)), KernelQueue(loop))
        buffer = Buffer(4096)
        disk.submit([DiskRequest(READ, i * 4096, 4096, buffer, 0, done) for i in range(8)])
        disk.close()
        while not disk.closed or len(completed) < 8:
            loop.turn()
    assert [str(error) for error in errors] == ["a bug in one volume"]


def test_short_transfers_are_continued(bench: Bench, path: Path, mocker: MockerFixture) -> None:
    """The kernel may do less than it was asked to: here never more than 4096 bytes."""
    add, preadv, pwritev = Batch.add, os.preadv, os.pwritev

    def add_less(
        self: Batch, token: int, opcode: int, fd: int, to: int, length: int, *a: Any
    ) -> None:
        add(self, token, opcode, fd, to, min(length, 4096), *a)

    mocker.patch.object(Batch, "add", add_less)
    mocker.patch("os.preadv", lambda fd, into, at: preadv(fd, [into[0][:4096]], at))
    mocker.patch("os.pwritev", lambda fd, of, at, flags: pwritev(fd, [of[0][:4096]], at, flags))
    disk = bench.open(path)
    data = noise((3 << 20) + 12288)
    bench.write(disk, 4096, data)
    assert bench.read(disk, 4096, len(data)) == data
    mocker.stopall()
    assert bench.read(disk, 4096, len(data)) == data


def test_what_the_kernel_does_not_even_take_fails_alone(
    bench: Bench, tmp_path: Path, mocker: MockerFixture
) -> None:
    disk = bench.open(new_file(tmp_path))
    add = Batch.add

    def spoil(self: Batch, token: int, opcode: int, *a: Any) -> None:
        add(self, token, 99 if len(self.tokens) in (0, 3) else opcode, *a)

    mocker.patch.object(Batch, "add", spoil)
    requests = [bench.request(WRITE, i * 4096, data=noise(4096, i)) for i in range(6)]
    bench.run(disk, requests)
    failed = [request.error.errno if request.error else 0 for request in requests]
    assert failed == [errno.EINVAL, 0, 0, errno.EINVAL, 0, 0]
    assert disk.outstanding == 0


def test_flush_and_durable_writes_flush_the_disk(
    bench: Bench, loop_device: Callable[..., Path]
) -> None:
    node = loop_device(SIZE)
    disk = bench.open(node)

    def flushes_of(request: DiskRequest) -> int:
        def count() -> int:
            return int(Path(f"/sys/block/{node.name}/stat").read_text().split()[15])

        before = count()
        assert bench.errno_of(disk, request) == 0
        return count() - before

    assert flushes_of(bench.request(WRITE, 0, data=noise(4096))) == 0
    assert flushes_of(bench.request(FLUSH, 0)) == 1
    assert flushes_of(bench.request(WRITE, 0, data=noise(4096), durable=True)) == 1


# What cannot be a disk.


def test_what_is_not_there_or_not_a_disk(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(DiskNotFound):
        bench.open(tmp_path / "nothing")
    with pytest.raises(DiskFailed):
        bench.open(tmp_path)
    with pytest.raises(DiskFailed):
        bench.open(Path("/dev/null"))


def test_a_mounted_disk_is_refused(
    bench: Bench, loop_device: Callable[..., Path], tmp_path: Path
) -> None:
    node = loop_device(SIZE)
    subprocess.run(["mkfs.ext4", "-q", str(node)], check=True)
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", str(node), str(place)], check=True)
    try:
        with pytest.raises(DiskInUse, match="mounted"):
            bench.open(node)
    finally:
        subprocess.run(["umount", str(place)], check=True)
    bench.open(node)


# Disks in trouble.


def test_a_medium_error_is_eio_and_the_disk_goes_on(
    bench: Bench, loop_device: Callable[..., Path], tmp_path: Path
) -> None:
    node = loop_device(SIZE)
    disk = bench.open(node)
    os.truncate(tmp_path / "loop-0", SIZE // 2)
    assert bench.errno_of(disk, bench.request(READ, SIZE - 4096, 4096)) == errno.EIO
    assert bench.errno_of(disk, bench.request(READ, SIZE // 2 - 4096, 3 << 20)) == errno.EIO
    assert not disk.fenced
    assert bench.read(disk, 0, 4096) == bytes(4096)


@pytest.mark.parametrize("kind", [READ, WRITE])
def test_a_disk_pulled_out_is_gone(
    bench: Bench, loop_device: Callable[..., Path], tmp_path: Path, kind: int
) -> None:
    """The kernel shows a pulled disk as one without size; so does a loop on an emptied file."""
    node = loop_device(SIZE)
    disk = bench.open(node)
    os.truncate(tmp_path / "loop-0", 0)
    subprocess.run(["losetup", "--set-capacity", str(node)], check=True)
    assert bench.errno_of(disk, bench.request(kind, 0, 4096)) == errno.ENODEV
    assert disk.fenced
    assert bench.errno_of(disk, bench.request(kind, 0, 4096)) == errno.ENODEV


def test_the_end_of_a_file_that_shrank_is_eio(bench: Bench, tmp_path: Path) -> None:
    disk = bench.open(new_file(tmp_path))
    os.truncate(tmp_path / "disk", 4096)
    assert bench.errno_of(disk, bench.request(READ, 0, 8192)) == errno.EIO


def told(disk: RawDisk) -> int:
    """How many results wait for the loop."""
    eventfd = disk._queue._eventfd if disk.direct else disk._eventfd
    shown = Path(f"/proc/self/fdinfo/{eventfd}").read_text().split()
    return int(shown[shown.index("eventfd-count:") + 1], 16)


@pytest.mark.parametrize("amid_a_turn", [False, True])
def test_a_held_up_loop_is_no_hanging_disk(bench: Bench, path: Path, amid_a_turn: bool) -> None:
    """Also where it is held up after it has looked what is ready, and before its timers."""
    disk = bench.open(path, deadline=0.3)
    requests = [bench.request(WRITE, i * 4096, data=noise(4096)) for i in range(30)]

    def be_held_up() -> None:
        given = time.monotonic()
        disk.submit(requests)
        # The loop does not turn, though the disk is through, and says so for each it was given.
        wait_for(lambda: told(disk) == disk.outstanding > 0, "the disk")
        wait_for(lambda: time.monotonic() - given > 0.6, "the deadline to pass")

    if amid_a_turn:
        with ready(bench.loop, be_held_up):
            bench.loop.turn(0)
    else:
        be_held_up()
    bench.turn_until(lambda: len(bench.completed) == 30)
    assert not any(request.error for request in requests)
    assert not disk.fenced


@contextlib.contextmanager
def ready(loop: Loop, action: Callable[[], None]) -> Iterator[None]:
    """`action` is what the loop finds to do as it looks what is ready."""
    wake = os.eventfd(1, os.EFD_NONBLOCK)
    loop.register(wake, action)
    try:
        yield
    finally:
        loop.unregister(wake)
        os.close(wake)


def test_a_hanging_disk_is_fenced_at_its_deadline_and_its_memory_kept(
    bench: Bench, stalling_device: Callable[..., Any], tmp_path: Path
) -> None:
    device = stalling_device(SIZE)
    deadline = 3.0  # seconds, in which a busy machine is done with all that does not hang
    hanging, sound = bench.open(device.node, deadline), bench.open(new_file(tmp_path))
    bench.write(hanging, 0, noise(4096))
    pool = BufferPool()
    buffer = pool.get(4096)
    late: list[DiskRequest] = []
    requests = [DiskRequest(WRITE, 8192, 4096, buffer, 0, late.append)]
    requests += [DiskRequest(ZERO, 65536, 65536, None, 0, late.append) for _ in range(4)]
    requests += [bench.request(READ, i * 4096, 4096) for i in range(600)]
    requests.append(bench.request(WRITE, 1 << 20, data=noise(3 << 20)))
    for request in requests:
        request.done = late.append
    device.stall()
    started = time.monotonic()
    hanging.submit(requests[:5])
    threading.Event().wait(0.1)  # now zeroing hangs in the kernel, with what locks it holds
    hanging.submit(requests[5:])
    assert time.monotonic() - started < deadline / 2, "submitting to a hanging disk waits for it"

    bench.write(sound, 0, noise(4096, 2))
    assert late == [], "the sound disk is served meanwhile"
    bench.turn_until(lambda: len(late) == len(requests))
    assert deadline - 0.05 < time.monotonic() - started < 2 * deadline
    assert {request.error.errno for request in late if request.error} == {errno.ETIMEDOUT}
    assert len({id(request) for request in late}) == len(requests)
    assert hanging.fenced
    assert bench.errno_of(hanging, bench.request(READ, 0, 4096)) == errno.ETIMEDOUT

    assert buffer.pins == 1
    assert hanging.outstanding > 0
    buffer.release()
    hanging.close()
    bench.loop.turn(0.05)
    assert not hanging.closed
    other = pool.get(4096)
    assert other.address != buffer.address, "the kernel may still read this memory"

    device.resume()
    bench.turn_until(lambda: hanging.closed, 20)
    assert (hanging.outstanding, buffer.pins) == (0, 0)
    assert len(late) == len(requests), "a late completion was told twice"
    assert pool.get(4096).address == buffer.address
    again = bench.open(device.node)
    assert bench.read(again, 0, 4096) == noise(4096)
