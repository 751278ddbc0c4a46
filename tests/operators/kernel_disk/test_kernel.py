"""What the kernel is told about its NBD devices, with a netlink that is played."""

import errno
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.operators.kernel_disk.attachment import Attachment
from appliance.operators.kernel_disk.kernel import MARK, PROCESS, KernelDisk

FAMILY = 37
CONNECT, DISCONNECT, RECONFIGURE = 1, 2, 3
INDEX, SIZE, BLOCK, TIMEOUT, FLAGS, SOCKETS, DEAD_CONNECTION, BACKEND = 1, 2, 3, 4, 5, 7, 8, 10
"""linux/nbd-netlink.h."""

Attributes = dict[int, bytes]


def attributes(data: bytes) -> Attributes:
    found, at = {}, 0
    while at < len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += length + -length % 4
    return found


class Kernel:
    """One NBD device, nbd3, as netlink and sysfs show it; its sockets are numbers."""

    def __init__(self, place: Path) -> None:
        self.sysfs, self.processes = place / "block", place / "proc"
        self._device = self.sysfs / "nbd3"
        (self._device / "queue").mkdir(parents=True)
        self.processes.mkdir()
        self.asked: list[tuple[int, Attributes]] = []
        self.errors: list[int] = []
        self._answers: list[bytes] = []

    # The socket

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def bind(self, address: tuple[int, int]) -> None:
        assert address == (0, 0)

    def close(self) -> None:
        self._answers.clear()

    def send(self, message: bytes) -> None:
        length, family, _, sequence, _ = struct.unpack_from("=IHHII", message)
        assert length == len(message)
        command, _, _ = struct.unpack_from("=BBH", message, 16)
        about = attributes(message[20:])
        number = 0
        if family == FAMILY:
            self.asked.append((command, about))
            number = self._do(command, about)
        else:
            assert about == {2: b"nbd\0"}
            named = struct.pack("=BBHHHHH", 1, 1, 0, 6, 1, FAMILY, 0)
            head = struct.pack("=IHHII", 16 + len(named), 0x10, 0, sequence, 0)
            self._answers.append(head + named)
        acknowledged = struct.pack("=IHHIIi", 20, 2, 0, sequence, 0, -number)
        self._answers.append(acknowledged)

    def recv(self, size: int) -> bytes:
        return self._answers.pop(0)

    # What it does

    def _do(self, command: int, about: Attributes) -> int:
        assert about[INDEX] == struct.pack("=I", 3)
        if command == CONNECT:
            if self.connected:
                return errno.EBUSY
            self.is_connected(about[BACKEND].rstrip(b"\0"), 4711)
        elif command == DISCONNECT:
            for name in ("backend", "pid"):
                (self._device / name).unlink(missing_ok=True)
        elif command == RECONFIGURE:
            shown = (self._device / "backend").read_bytes().strip()
            return 0 if about[BACKEND].rstrip(b"\0") == shown else errno.EINVAL
        return 0

    @property
    def connected(self) -> bool:
        return (self._device / "pid").exists()

    def is_connected(self, mark: bytes, process: int) -> None:
        (self._device / "backend").write_bytes(mark + b"\n")
        (self._device / "pid").write_text(f"{process}\n")

    def runs(self, process: int, name: bytes) -> None:
        place = self.processes / str(process)
        place.mkdir()
        (place / "comm").write_bytes(name + b"\n")

    @property
    def commands(self) -> list[int]:
        return [command for command, _ in self.asked]


@pytest.fixture
def machine(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


@pytest.fixture
def attachment() -> Iterator[Attachment]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Attachment(ours, 100, 64 << 20, 0x2D, 4096)


@pytest.fixture
def disk(machine: Kernel, monkeypatch: pytest.MonkeyPatch) -> KernelDisk:
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", lambda *_: machine)
        return KernelDisk("nbd3", 120, machine.sysfs, machine.processes)


def test_a_device_is_connected_with_all_that_the_kernel_must_know(
    machine: Kernel, disk: KernelDisk, attachment: Attachment
) -> None:
    disk.connect(attachment)
    ((command, about),) = machine.asked
    assert command == CONNECT
    figures = {SIZE: 64 << 20, BLOCK: 4096, TIMEOUT: 0, FLAGS: 0x2D, DEAD_CONNECTION: 120}
    assert {kind: struct.unpack("=Q", about[kind])[0] for kind in figures} == figures
    sockets = attributes(attributes(about[SOCKETS])[1])
    assert sockets == {1: struct.pack("=I", attachment.socket.fileno())}
    assert (machine.sysfs / "nbd3" / "queue" / "io_timeout").read_text() == "2000\n"


def test_it_goes_on_over_another_connection_and_ends(
    machine: Kernel, disk: KernelDisk, attachment: Attachment
) -> None:
    disk.connect(attachment)
    disk.reconnect(attachment)
    disk.disconnect()
    assert machine.commands == [CONNECT, RECONFIGURE, DISCONNECT]
    assert not machine.connected


@pytest.mark.parametrize("name", [None, b"sleep"])
def test_what_one_of_ours_left_when_it_was_killed_is_taken_over(
    machine: Kernel, disk: KernelDisk, attachment: Attachment, name: bytes | None
) -> None:
    machine.is_connected(MARK, 99)
    if name is not None:  # somebody else who has its number by now
        machine.runs(99, name)
    disk.connect(attachment)
    assert machine.commands == [DISCONNECT, CONNECT]


@pytest.mark.parametrize(("mark", "name"), [(MARK, PROCESS), (b"theirs", None), (b"", None)])
def test_what_somebody_keeps_is_left_alone(
    machine: Kernel, disk: KernelDisk, attachment: Attachment, mark: bytes, name: bytes | None
) -> None:
    """Another unit with the same device; or another tool, which needs no process for it."""
    machine.is_connected(mark, 99)
    if name is not None:
        machine.runs(99, name)
    with pytest.raises(OSError, match="busy"):
        disk.connect(attachment)
    assert machine.commands == [CONNECT]


@pytest.mark.parametrize("name", ["sda", "nbd", "nbd0p1", "nbdx"])
def test_what_is_no_nbd_device(name: str) -> None:
    with pytest.raises(ValueError, match="none of the kernel's"):
        KernelDisk(name, 1)
