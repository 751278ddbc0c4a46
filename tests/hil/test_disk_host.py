"""The host of a kernel's disk, on a file of this machine."""

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hil_tests.disk_host import DiskHost, Told

SIZE = 4 << 20
PATIENCE_SECONDS = 30


def shell(command: str, timeout: float = 30) -> str:
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, timeout=timeout, check=True
    )
    return done.stdout


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    return path


def after(host: DiskHost, writes: int, stop: Callable[[], Told]) -> Told:
    """What it told, once it had written so much."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while host.writes < writes:
        assert time.monotonic() < ends
        time.sleep(0.05)
    return stop()


def test_what_is_well_is_told_so(disk: Path, tmp_path: Path) -> None:
    host = DiskHost(shell, str(disk), 1, str(tmp_path / "host"))
    told = after(host, 100, lambda: host.stop(PATIENCE_SECONDS))
    assert told.writes >= 100
    assert told.longest > 0
    assert (told.errors, told.wrong) == ([], [])
    assert disk.read_bytes() != bytes(SIZE)


def test_a_disk_that_forgets_is_found_out(disk: Path, tmp_path: Path) -> None:
    host = DiskHost(shell, str(disk), 1, str(tmp_path / "host"))
    forgets = threading.Event()

    def forget() -> None:
        while not forgets.is_set():
            disk.write_bytes(bytes(SIZE))

    def stop() -> Told:
        thread = threading.Thread(target=forget)
        thread.start()
        try:
            return host.stop(PATIENCE_SECONDS)
        finally:
            forgets.set()
            thread.join()

    assert after(host, 100, stop).wrong != []


def test_an_error_is_told(disk: Path, tmp_path: Path) -> None:
    def limited(command: str, timeout: float = 30) -> str:
        return shell(f"ulimit -f 1000; {command}", timeout)  # half a mebibyte

    host = DiskHost(limited, str(disk), 1, str(tmp_path / "host"))
    told = host.stop(PATIENCE_SECONDS)
    assert "File too large" in told.errors[0]
