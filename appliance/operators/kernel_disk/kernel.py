"""The kernel's NBD client, by generic netlink (linux/netlink.h, genetlink.h, nbd-netlink.h).

Not by the ioctls that `nbd-client -persist` uses: with those, all that is under way or comes while
the server is away fails at once.  By netlink the kernel is told to wait for another connection.

A device that was connected so outlives whoever connected it, even one that was killed.  So each
bears a mark of ours, which the kernel shows beside the process that connected it.
"""

import os
import socket
import struct
from pathlib import Path
from typing import Final

from appliance.operators.kernel_disk.attachment import Attachment

RETRY_MILLISECONDS: Final = 2000
"""What a lost connection had under way is sent on the next one after so long at most.  A slow
answer is only waited for again."""
ANSWER_SECONDS: Final = 5.0
MARK: Final = b"ebbtide"
"""Of what was connected here, in sysfs (`backend`)."""
PROCESS: Final = b"cdp-kernel-disk"
"""The name of a process that does so, as far as the kernel keeps names: 15 bytes."""

_NETLINK_GENERIC: Final = 16
_REQUEST_AND_ACK: Final = 0x1 | 0x4
_ERROR: Final = 2
_CONTROL: Final = 0x10
_GET_FAMILY: Final = 3
_FAMILY_ID: Final = 1
_FAMILY_NAME: Final = 2
_VERSION: Final = 1
_NESTED: Final = 1 << 15

_CONNECT: Final = 1
_DISCONNECT: Final = 2
_RECONFIGURE: Final = 3
_INDEX: Final = 1
_SIZE: Final = 2
_BLOCK: Final = 3
_TIMEOUT: Final = 4
_SERVER_FLAGS: Final = 5
_SOCKETS: Final = 7
_DEAD_CONNECTION: Final = 8
_BACKEND: Final = 10
_SOCKET_ITEM: Final = 1
_SOCKET_DESCRIPTOR: Final = 1

_MESSAGE: Final = struct.Struct("=IHHII")
"""Length, type, flags, sequence number, port."""
_GENERIC: Final = struct.Struct("=BBH")
"""Command, version, nothing."""
_ATTRIBUTE: Final = struct.Struct("=HH")
"""Length with this header, type; padded to four bytes."""
_U16: Final = struct.Struct("=H")
_U32: Final = struct.Struct("=I")
_U64: Final = struct.Struct("=Q")
_ERRNO: Final = struct.Struct("=i")


class KernelDisk:
    """One of the kernel's NBD devices, by its name, such as "nbd0"; raises OSError throughout."""

    def __init__(
        self,
        name: str,
        patience: float,
        sysfs: Path = Path("/sys/block"),
        processes: Path = Path("/proc"),
    ) -> None:
        """`patience`: for so many seconds, I/O waits for a connection before it fails."""
        if not name.startswith("nbd") or not name.removeprefix("nbd").isdecimal():
            raise ValueError(f"{name} is none of the kernel's NBD devices")
        self.name = name
        self._place = sysfs / name
        self._processes = processes
        self._patience = int(patience)
        self._index = int(name.removeprefix("nbd"))
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
        self._netlink.settimeout(ANSWER_SECONDS)
        self._sequence = 0
        try:
            self._netlink.bind((0, 0))
            self._family = self._resolve(b"nbd\0")
        except BaseException:
            self._netlink.close()
            raise

    def close(self) -> None:
        """The device stays as it is."""
        self._netlink.close()

    def connect(self, attachment: Attachment) -> None:
        """Give the kernel a connection; the device must have none that somebody keeps."""
        if self._is_left_over():
            self.disconnect()
        self._ask(
            self._family,
            _CONNECT,
            _attribute(_INDEX, _U32.pack(self._index)),
            _attribute(_SIZE, _U64.pack(attachment.size)),
            _attribute(_BLOCK, _U64.pack(attachment.block)),
            # None: the server sees to its own disks' deadlines, and they may be long.
            _attribute(_TIMEOUT, _U64.pack(0)),
            _attribute(_SERVER_FLAGS, _U64.pack(attachment.flags)),
            _attribute(_DEAD_CONNECTION, _U64.pack(self._patience)),
            _attribute(_BACKEND, MARK + b"\0"),
            _sockets(attachment.socket),
        )
        (self._place / "queue" / "io_timeout").write_text(f"{RETRY_MILLISECONDS}\n")

    def reconnect(self, attachment: Attachment) -> None:
        """Another connection in the place of one that broke."""
        self._ask(
            self._family,
            _RECONFIGURE,
            _attribute(_INDEX, _U32.pack(self._index)),
            _attribute(_BACKEND, MARK + b"\0"),
            _sockets(attachment.socket),
        )

    def disconnect(self) -> None:
        """What is under way fails, and all that comes."""
        self._ask(self._family, _DISCONNECT, _attribute(_INDEX, _U32.pack(self._index)))

    def _is_left_over(self) -> bool:
        """Connected by a process like this one, which was killed."""
        try:
            mark = (self._place / "backend").read_bytes().strip()
            process = (self._place / "pid").read_text().strip()
        except FileNotFoundError:
            return False
        try:
            name = (self._processes / process / "comm").read_bytes().strip()
        except FileNotFoundError:
            name = b""
        return mark == MARK and name != PROCESS

    def _resolve(self, family: bytes) -> int:
        answer = self._ask(_CONTROL, _GET_FAMILY, _attribute(_FAMILY_NAME, family))
        at = 0
        while at < len(answer):
            length, kind = _ATTRIBUTE.unpack_from(answer, at)
            if kind == _FAMILY_ID:
                (number,) = _U16.unpack_from(answer, at + _ATTRIBUTE.size)
                return int(number)
            at += max(length + -length % 4, _ATTRIBUTE.size)
        raise OSError("the kernel does not name its NBD family")

    def _ask(self, family: int, command: int, *attributes: bytes) -> bytes:
        """The attributes of the answer, if there is one beside the acknowledgement."""
        self._sequence += 1
        body = _GENERIC.pack(command, _VERSION, 0) + b"".join(attributes)
        self._netlink.send(
            _MESSAGE.pack(_MESSAGE.size + len(body), family, _REQUEST_AND_ACK, self._sequence, 0)
            + body
        )
        answer = b""
        while True:
            received, at = self._netlink.recv(1 << 16), 0
            while at < len(received):
                length, kind, _, sequence, _ = _MESSAGE.unpack_from(received, at)
                body = received[at + _MESSAGE.size : at + length]
                at += max(length + -length % 4, _MESSAGE.size)
                if sequence != self._sequence:
                    continue
                if kind != _ERROR:
                    answer = body[_GENERIC.size :]
                    continue
                (number,) = _ERRNO.unpack_from(body)
                if number:
                    raise OSError(-number, os.strerror(-number))
                return answer


def _attribute(kind: int, data: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + bytes(-length % 4)


def _sockets(connection: socket.socket) -> bytes:
    descriptor = _attribute(_SOCKET_DESCRIPTOR, _U32.pack(connection.fileno()))
    return _attribute(_SOCKETS | _NESTED, _attribute(_SOCKET_ITEM | _NESTED, descriptor))
