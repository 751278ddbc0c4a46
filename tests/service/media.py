"""Disks that can be pulled, stalled and spoiled while the service uses them, seen through udev.

A pulled disk is a loop device moved behind the end of its file: it has no size
any more, as the kernel shows a disk that is gone, while the service has it open.
A played disk is a loop device over FUSE over an NBD server of the test's own.
"""

import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from appliance.hosts.nbd import wire

_MACHINE: Final = Path("/dev/loop-control")
OTHERS_SECONDS: Final = 300.0
"""How long others may have the machine to themselves before a test gives up."""
UDEVD: Final = Path("/lib/systemd/systemd-udevd")
# From linux/loop.h.
_SET_STATUS: Final = 0x4C04
_GET_STATUS: Final = 0x4C05
_STATUS_BYTES: Final = 232
_OFFSET_AT: Final = 24
_WRITES: Final = (wire.COMMAND_WRITE, wire.COMMAND_WRITE_ZEROES)


def need(*tools: str) -> None:
    """Skip the test where it cannot have real block devices, or these tools."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not Path("/dev/loop-control").exists():
        pytest.skip("needs loop devices")
    for tool in ("losetup", "udevadm", *tools):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")


def wait_for(ready: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Look every few milliseconds: neither the kernel nor these tools tell when they are ready."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        select.select([], [], [], 0.005)


@contextlib.contextmanager
def machine(alone: bool) -> Iterator[None]:
    """Wait until no other test, of whatever process, is in the way.

    A service takes every disk of udev's that is its kind: a test with one is alone.  Their time
    is not taken from the test's own.
    """
    with _MACHINE.open("rb") as held:
        left, _ = signal.getitimer(signal.ITIMER_REAL)  # until pytest-timeout ends the test
        if left:
            signal.setitimer(signal.ITIMER_REAL, left + OTHERS_SECONDS)
        fcntl.flock(held, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if left:
            signal.setitimer(signal.ITIMER_REAL, left)
        yield


@contextlib.contextmanager
def device_manager() -> Iterator[None]:
    """The machine alone, with udev's daemon, if none runs already."""
    need()
    with machine(alone=True), _udevd():
        yield


@contextlib.contextmanager
def _udevd() -> Iterator[None]:
    ping = ["udevadm", "control", "--ping", "--timeout=5"]

    def answers() -> bool:
        return subprocess.run(ping, capture_output=True, check=False).returncode == 0

    if answers():
        yield
        return
    if not UDEVD.exists():
        pytest.skip("udev is not installed")
    daemon = subprocess.Popen([UDEVD], stderr=subprocess.DEVNULL)
    try:
        wait_for(answers, "systemd-udevd")
        yield
    finally:
        daemon.terminate()
        daemon.wait(30)


class LoopDisk:
    """A file as a disk; its id is the file's stem.  `node` is None while it is detached."""

    def __init__(self, file: Path, sector: int = 512) -> None:
        self.file = file
        self.sector = sector
        self.node: Path | None = None
        self._pulled: list[Path] = []
        """Where it was, before the service let go of it."""

    @property
    def id(self) -> str:
        return self.file.stem

    def attach(self) -> None:
        """Put it in."""
        assert self.node is None
        shown = subprocess.run(
            [
                *("losetup", "--find", "--show", "--direct-io=on"),
                *("--sector-size", str(self.sector), str(self.file)),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        self.node = Path(shown.stdout.strip())

    def pull(self) -> None:
        """Pull it out, whoever has it open; nothing is on its way to it.

        What is would be written behind the end of the file, and be taken for done:
        pull a `PlayedDisk` under load.
        """
        assert self.node is not None
        node, self.node = self.node, None
        self._pulled.append(node)
        self._move(node, self.file.stat().st_size)
        (Path("/sys/block") / node.name / "uevent").write_text("change")

    def _move(self, node: Path, offset: int) -> None:
        with node.open("rb") as loop:
            status = bytearray(fcntl.ioctl(loop, _GET_STATUS, bytes(_STATUS_BYTES)))
            struct.pack_into("=Q", status, _OFFSET_AT, offset)

            def moved() -> bool:
                try:
                    fcntl.ioctl(loop, _SET_STATUS, bytes(status))
                except OSError as error:
                    if error.errno != errno.EAGAIN:  # someone has just read it through the cache
                        raise
                    return False
                return True

            wait_for(moved, f"{node} to move")

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """While its file system is; the test is skipped where that is not allowed."""
        assert self.node is not None
        place = self.file.parent / "mount"
        place.mkdir()
        mounting = subprocess.run(
            ["mount", str(self.node), str(place)], check=False, capture_output=True, text=True
        )
        if mounting.returncode:
            pytest.skip(f"mounting is not allowed here: {mounting.stderr.strip()}")
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)

    def remove(self) -> None:
        """Give the kernel back what it has of it."""
        nodes = [*self._pulled, self.node] if self.node is not None else self._pulled
        for node in nodes:
            backing = Path("/sys/block") / node.name / "loop" / "backing_file"
            with contextlib.suppress(OSError):
                if backing.read_text().strip() == str(self.file):  # else it is another's by now
                    subprocess.run(["losetup", "--detach", node], check=False, capture_output=True)
        self._pulled, self.node = [], None


class PlayedMedium:
    """An NBD server on a file, whose sectors go bad, and which answers when the test lets it."""

    def __init__(self, file: Path, path: Path) -> None:
        self.bad: set[int] = set()
        """Sectors that cannot be read until they are written."""
        self.refuses_writes = False
        self.pulled = False
        """Nothing can be read or written."""
        self.written: list[tuple[int, int]] = []
        """Offset and length of each write."""
        self._file = os.open(file, os.O_RDWR)
        self._size = os.fstat(self._file).st_size
        self._answers = threading.Event()
        self._answers.set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stall(self) -> None:
        """Answer nothing, and do nothing, until `resume`."""
        self._answers.clear()

    def resume(self) -> None:
        self._answers.set()

    def close(self) -> None:
        self.resume()
        self._listener.shutdown(socket.SHUT_RDWR)
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for opened in (self._listener, *self._clients):
            opened.close()
        os.close(self._file)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(EOFError, OSError), client.makefile("rwb") as stream:

            def take(count: int) -> bytes:
                data = stream.read(count)
                if len(data) < count:
                    raise EOFError
                return bytes(data)

            def say(data: bytes) -> None:
                stream.write(data)
                stream.flush()

            handshake = wire.FIXED_NEWSTYLE | wire.NO_ZEROES
            say(wire.GREETING.pack(wire.GREETING_MAGIC, wire.OPTION_MAGIC, handshake))
            take(wire.CLIENT_FLAGS.size)
            while not self._negotiated(take, say):
                pass
            while True:
                self._answer(take, say)

    def _negotiated(self, take: Callable[[int], bytes], say: Callable[[bytes], None]) -> bool:
        _, option, length = wire.OPTION.unpack(take(wire.OPTION.size))
        take(length)
        flags = wire.EXPORT_HAS_FLAGS | wire.EXPORT_SEND_FLUSH | wire.EXPORT_SEND_WRITE_ZEROES
        export = wire.INFO_EXPORT_DATA.pack(wire.INFO_EXPORT, self._size, flags)
        replies = [(wire.REPLY_ERROR_UNSUPPORTED, b"")]
        if option == wire.OPTION_GO:
            replies = [(wire.REPLY_INFO, export), (wire.REPLY_ACK, b"")]
        for kind, data in replies:
            header = wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, option, kind, len(data))
            say(header + data)
        return bool(option == wire.OPTION_GO)

    def _answer(self, take: Callable[[int], bytes], say: Callable[[bytes], None]) -> None:
        _, _, command, cookie, offset, length = wire.REQUEST.unpack(take(wire.REQUEST.size))
        payload = take(length) if command == wire.COMMAND_WRITE else bytes(length)
        self._answers.wait()
        sectors = range(offset // 512, -(-(offset + length) // 512))
        error, data = 0, b""
        if command == wire.COMMAND_DISC:
            raise EOFError
        if self.pulled:
            error, length = errno.EIO, 0
        elif command == wire.COMMAND_READ:
            if self.bad.intersection(sectors):
                error = errno.EIO
            else:
                data = os.pread(self._file, length, offset)
        elif command in _WRITES and self.refuses_writes:
            error = errno.EIO
        elif command in _WRITES:
            os.pwrite(self._file, payload, offset)
            self.bad.difference_update(sectors)
            self.written.append((offset, length))
        elif command != wire.COMMAND_FLUSH:
            error = errno.EINVAL
        say(wire.SIMPLE_REPLY.pack(wire.SIMPLE_MAGIC, error, cookie) + data)


class PlayedDisk:
    """A disk called `name` whose `medium` a test spoils; `disk` is how the kernel shows it."""

    def __init__(self, made: contextlib.ExitStack, place: Path, name: str, size: int) -> None:
        place.mkdir()
        self.file, window, path = place / "medium", place / name, place / "nbd"
        self.file.touch()
        os.truncate(self.file, size)
        window.touch()
        self.medium = PlayedMedium(self.file, path)
        made.callback(self.medium.close)
        fuse = subprocess.Popen(
            ["nbdfuse", str(window), f"nbd+unix:///?socket={path}"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        made.callback(lambda: _end(fuse))
        made.callback(
            lambda: subprocess.run(
                ["fusermount3", "-u", "-z", str(window)], check=False, capture_output=True
            )
        )
        wait_for(lambda: window.stat().st_size == size, "nbdfuse")
        self.disk = LoopDisk(window)
        made.callback(self.disk.remove)
        made.callback(self.medium.resume)
        self.disk.attach()

    @property
    def id(self) -> str:
        return self.disk.id

    def pull(self) -> None:
        """Pull it out under load: what is on its way fails."""
        self.medium.pulled = True
        self.disk.pull()

    def attach(self) -> None:
        """Put it in again."""
        self.medium.pulled = False
        self.disk.attach()


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Media:
    """Makes disks, all under names that no other test has."""

    def __init__(self, made: contextlib.ExitStack, room: Path) -> None:
        self._made = made
        self._room = room
        self._prefix = f"ebb{os.getpid()}-{time.monotonic_ns() % 1_000_000}"

    def loop(self, name: str, size: int, sector: int = 512, attach: bool = True) -> LoopDisk:
        """A disk on a new file."""
        file = self._room / f"{self._prefix}-{name}"
        file.touch()
        os.truncate(file, size)
        disk = LoopDisk(file, sector)
        self._made.callback(disk.remove)
        if attach:
            disk.attach()
        return disk

    def played(self, name: str, size: int) -> PlayedDisk:
        """A disk whose medium is in the test's hands."""
        need("nbdfuse", "fusermount3")
        if not Path("/dev/fuse").exists():
            pytest.skip("needs /dev/fuse")
        own = f"{self._prefix}-{name}"
        return PlayedDisk(self._made, self._room / f"played-{name}", own, size)


@contextlib.contextmanager
def media_in(room: Path) -> Iterator[Media]:
    """Disks through udev; all of them are gone at the end."""
    with device_manager(), contextlib.ExitStack() as made:
        yield Media(made, room)
