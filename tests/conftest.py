"""Fixtures for all tests: a loop to turn, and real block devices to spoil.

What needs root or a tool is skipped, in one line, where that is missing.
Everything attached is detached at the end, after a failure too.
"""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, settings

from appliance.loop import Loop
from tests.service.media import Media, machine, media_in
from tests.service.service_process import Service, service_in

# How long an example takes says how busy the machine is, and nothing of what it is about.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that raises, at the end of a turn, what a callback let out."""
    with Loop() as loop:
        yield loop


@pytest.fixture
def media(tmp_path: Path) -> Iterator[Media]:
    """Disks as udev shows them, which can be pulled, stalled and spoiled."""
    with media_in(tmp_path) as media:
        yield media


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """`make_service(source="directory", **protection)`: a real `cdpd`, to be started; killed
    at the end."""
    with contextlib.ExitStack() as made:

        def make(
            source: Literal["directory", "udev"] = "directory", **protection: float
        ) -> Service:
            return made.enter_context(service_in(tmp_path, source, **protection))

        yield make


@pytest.fixture
def turn_until(loop: Loop) -> Callable[..., None]:
    """`turn_until(condition, seconds=30)` turns the loop until the condition holds."""

    def turn(condition: Callable[[], bool], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            assert left > 0, f"it did not come true in {seconds} s"
            loop.turn(min(left, 0.05))

    return turn


def _needs(*tools: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not Path("/dev/loop-control").exists():
        pytest.skip("needs loop devices")
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")


def _attach(file: Path, sector_size: int) -> Path:
    answer = subprocess.run(
        [
            *("losetup", "--find", "--show", "--direct-io=on"),
            *("--sector-size", str(sector_size), str(file)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(answer.stdout.strip())


def _detach(node: Path) -> None:
    subprocess.run(["losetup", "--detach", str(node)], check=False, capture_output=True)


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """`loop_device(size, sector_size=512, file=None)`: a block device with direct I/O on a file.

    The file is a new one of `size` bytes, or the one given, as it is.
    """
    _needs("losetup")
    attached: list[Path] = []

    def attach(size: int, sector_size: int = 512, file: Path | None = None) -> Path:
        if file is None:
            file = tmp_path / f"loop-{len(attached)}"
            file.touch()
            os.truncate(file, size)
        attached.append(_attach(file, sector_size))
        return attached[-1]

    with machine(alone=False):
        yield attach
        for node in attached:
            _detach(node)


@dataclass
class StallingDevice:
    """A block device at `node` whose medium hangs from `stall` to `resume`."""

    node: Path
    medium: "subprocess.Popen[bytes]"

    def stall(self) -> None:
        self.medium.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.medium.send_signal(signal.SIGCONT)


@pytest.fixture
def stalling_device(tmp_path: Path) -> Iterator[Callable[..., StallingDevice]]:
    """`stalling_device(size)`: a loop device over FUSE over NBD, whose NBD server can be halted."""
    _needs("losetup", "qemu-nbd", "nbdfuse", "fusermount3")
    if not Path("/dev/fuse").exists():
        pytest.skip("needs /dev/fuse")
    numbers = count(1)
    with machine(alone=False), contextlib.ExitStack() as made:

        def make(size: int) -> StallingDevice:
            place = tmp_path / f"stalling-{next(numbers)}"
            place.mkdir()
            medium, window, path = place / "medium", place / "window", place / "nbd"
            medium.touch()
            os.truncate(medium, size)
            window.touch()
            server = _start(
                made, "qemu-nbd", "--format=raw", "--persistent", f"--socket={path}", str(medium)
            )
            _wait_for(server, lambda: _takes_connections(path))
            fuse = _start(made, "nbdfuse", str(window), f"nbd+unix:///?socket={path}")
            made.callback(
                lambda: subprocess.run(["fusermount3", "-u", "-z", str(window)], check=False)
            )
            _wait_for(fuse, lambda: window.stat().st_size == size)
            node = _attach(window, 512)
            made.callback(lambda: _detach(node))
            device = StallingDevice(node, server)
            made.callback(device.resume)
            return device

        yield make


def _start(made: contextlib.ExitStack, *command: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end() -> None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    made.callback(end)
    return process


def _takes_connections(path: Path) -> bool:
    """A socket is there before its server listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        return not probe.connect_ex(str(path))


def _wait_for(process: "subprocess.Popen[bytes]", ready: Callable[[], bool]) -> None:
    """Look every few milliseconds: neither program tells when it is ready."""
    for _ in range(3000):
        if ready():
            return
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        select.select([], [], [], 0.01)
    raise AssertionError(f"{process.args!r} was not ready in 30 s")
