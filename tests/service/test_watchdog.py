"""What feeds the service manager's watchdog, and what starves it."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import events
from appliance.cdp.interfaces import READ, WRITE, DiskIdentity, DiskRequest
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.tasks import Task
from appliance.drivers.clock import SystemClock
from appliance.drivers.discovery import FoundDisk
from appliance.drivers.disk import RawDisk
from appliance.drivers.kernel_queue import KernelQueue
from appliance.loop import Loop
from appliance.readiness import ALIVE, READY, alive_period, notify
from appliance.service.bays import Bay, Bays
from appliance.service.watchdog import MARGIN_SECONDS, Request, Watchdog
from appliance.simulated.world import World
from tests.service.service_process import MIB, Service

DEADLINE = 30.0
PERIOD = 5.0
PATIENCE = DEADLINE + MARGIN_SECONDS


class Guarded:
    """A watchdog in virtual time; `requests` are those under way."""

    def __init__(self) -> None:
        self.world = World(0)
        self.requests: list[Request] = []
        self.fed: list[float] = []
        self.told: list[events.FieldValue] = []
        watchdog = Watchdog(
            self.world,
            self.world.clock,
            lambda: self.requests,
            DEADLINE,
            PERIOD,
            lambda: self.fed.append(self.now),
            self.emit,
        )
        watchdog.start()
        self.world.run_until(lambda: bool(self.fed))

    @property
    def now(self) -> float:
        return self.world.clock.monotonic_ns() / 1e9

    def emit(self, code: str, **fields: events.FieldValue) -> None:
        assert code == events.REQUEST_LOST
        assert isinstance(fields["seconds"], int)
        assert fields["seconds"] > PATIENCE
        self.told.append(fields["disk"])

    def fed_for(self, seconds: float) -> int:
        """How often it is fed in this time."""
        self.fed.clear()
        end = self.now + seconds
        self.world.run_until(lambda: self.now >= end)
        return len(self.fed)


def test_a_box_at_rest_is_fed_in_time() -> None:
    guarded = Guarded()
    assert guarded.fed_for(600) >= 600 / PERIOD - 1
    assert max(b - a for a, b in zip(guarded.fed, guarded.fed[1:], strict=False)) <= PERIOD


def test_requests_that_complete_feed_it() -> None:
    guarded = Guarded()
    numbers = iter(range(10**6))
    for _ in range(100):
        guarded.requests = [(next(numbers), "alpha"), (next(numbers), "beta")]
        assert guarded.fed_for(PATIENCE - PERIOD) > 0
    assert guarded.told == []


def test_a_disk_that_hangs_until_its_deadline_does_not_starve_it() -> None:
    guarded = Guarded()
    guarded.requests = [(1, "alpha")]
    hanging = guarded.fed_for(DEADLINE)
    guarded.requests = []
    assert hanging >= DEADLINE / PERIOD - 1
    assert guarded.fed_for(60) >= 60 / PERIOD - 1
    assert guarded.told == []


def test_a_request_that_neither_ends_nor_is_given_up_starves_it() -> None:
    guarded = Guarded()
    guarded.requests = [(1, "alpha"), (2, "beta")]
    guarded.fed_for(DEADLINE)
    guarded.requests = [(1, "alpha"), (3, "beta")]
    guarded.fed_for(MARGIN_SECONDS + 2 * PERIOD)
    assert guarded.fed_for(300) == 0
    assert guarded.told == ["alpha", "beta"], "each is told once"
    guarded.requests = []
    assert guarded.fed_for(60) >= 60 / PERIOD - 1


@pytest.mark.parametrize(
    ("wait", "pid", "period"),
    [
        ("20000000", "", 10.0),
        ("20000000", "ours", 10.0),
        ("20000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("soon", "", None),
    ],
)
def test_how_often_the_manager_wants_to_hear(
    monkeypatch: pytest.MonkeyPatch, wait: str, pid: str, period: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", wait)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)
    assert alive_period() == period


def test_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert alive_period() is None


# Real parts


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def close(self) -> None:
        self._socket.close()

    def next(self, seconds: float = 20.0) -> str:
        """The next datagram; empty if none comes in this time."""
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(100).decode()
        except TimeoutError:
            return ""

    def drain(self) -> float:
        """Take what is there; a moment that nothing which comes now is older than."""
        while True:
            moment = time.monotonic()
            if not self.next(0.001):
                return moment


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """Who started us, and wants to hear from us twice in 0.4 s."""
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield manager
    manager.close()


def never_told(code: str, **fields: events.FieldValue) -> None:
    raise AssertionError(f"{code} {fields}")


def watch(loop: Loop, disk: RawDisk | None, deadline: float) -> None:
    def requests() -> list[Request]:
        return [] if disk is None or disk.oldest is None else [(disk.oldest, "alpha")]

    period = alive_period()
    assert period is not None
    watchdog = Watchdog(
        loop, SystemClock(), requests, deadline, period, lambda: notify(ALIVE), never_told
    )
    watchdog.start()


def test_a_loop_that_is_stuck_starves_it(manager: Manager) -> None:
    stuck, free = threading.Event(), threading.Event()

    def hang() -> None:
        stuck.set()
        free.wait(30)

    with Loop() as loop:
        watch(loop, None, 30)
        turning = threading.Thread(target=loop.run)
        turning.start()
        try:
            assert manager.next() == ALIVE
            assert manager.next() == ALIVE
            loop.post_from_thread(hang)
            assert stuck.wait(20)
            manager.drain()
            assert manager.next(1.0) == ""
            free.set()
            assert manager.next() == ALIVE
        finally:
            free.set()
            loop.stop()
            turning.join(20)


def test_a_real_disk_that_hangs_does_not_starve_it(
    manager: Manager,
    loop: Loop,
    turn_until: Callable[..., None],
    stalling_device: Callable[..., Any],
) -> None:
    device = stalling_device(8 * MIB)
    disk = RawDisk.open(device.node, DiskIdentity("d", ""), KernelQueue(loop), deadline=0.6)
    back: list[DiskRequest] = []
    watch(loop, disk, 0.6)
    device.stall()
    disk.submit([DiskRequest(WRITE, 0, 4096, Buffer(4096), 0, back.append)])
    assert disk.oldest is not None
    turn_until(lambda: bool(back))
    assert disk.fenced
    assert disk.outstanding
    manager.drain()
    turn_until(lambda: manager.next(0.001) == ALIVE)
    device.resume()
    disk.close()
    turn_until(lambda: disk.closed)


def test_what_waits_behind_nothing_is_under_way(loop: Loop, tmp_path: Path) -> None:
    """A piece that the driver forgot to give to the kernel would be seen, too."""
    file = tmp_path / "disk"
    file.write_bytes(bytes(MIB))
    disk = RawDisk.open(file, DiskIdentity("d", ""), KernelQueue(loop), deadline=30)
    disk._places = 0
    disk.submit([DiskRequest(READ, 0, 4096, Buffer(4096), 0, lambda _: None)])
    assert disk.outstanding == 0
    assert disk.oldest is not None
    disk.close()
    while not disk.closed:
        loop.turn()


def test_the_service_feeds_it(manager: Manager, make_service: Callable[..., Service]) -> None:
    service = make_service()
    service.disk("alpha", 8 * MIB)
    service.disk("beta", 64 * MIB)
    service.launch()
    assert manager.next() == READY
    began = manager.drain()  # we may have been late for some
    assert [manager.next() for _ in range(5)] == [ALIVE] * 5
    assert time.monotonic() - began > 0.5, "not more often than is asked for"
    service.wait_for_disks("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    assert manager.next() == ALIVE

    assert service.process is not None
    service.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, service.process.pid, os.WSTOPPED)
    manager.drain()
    assert manager.next(1.0) == ""
    service.process.send_signal(signal.SIGCONT)
    assert manager.next() == ALIVE
    assert service.events(events.REQUEST_LOST) == []
    # What the manager does next tells where it stood.
    service.process.send_signal(signal.SIGABRT)
    assert service.process.wait(20) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in service.story()
    assert "loop.py" in service.story()


def test_bays_tell_of_every_disk_that_they_have_open(
    loop: Loop, turn_until: Callable[..., None], tmp_path: Path
) -> None:
    file = tmp_path / "alpha"
    file.write_bytes(bytes(MIB))
    identity = DiskIdentity("alpha", str(file))
    bays = Bays(loop, BufferPool(), never_told, 30, time.monotonic_ns)
    opening = Task(bays.open(Bay(FoundDisk(identity, MIB, 512, 512, ""))))
    turn_until(lambda: opening.finished)
    disk = opening.result()
    assert bays.requests() == []
    disk.submit([DiskRequest(READ, 0, 4096, Buffer(4096), 0, lambda _: None)])
    ((number, of),) = bays.requests()
    assert (number, of) == (disk.oldest, "alpha")
    turn_until(lambda: disk.oldest is None)
    assert bays.requests() == []
    closing = Task(bays.close(disk))
    turn_until(lambda: closing.finished)
