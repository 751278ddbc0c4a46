"""A connection to the service's own NBD socket, made ready for the kernel to use.

The handshake is the NBD specification's "fixed newstyle", as far as the kernel understands what
follows it: simple replies, no contexts.
"""

import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.hosts.nbd import wire

HANDSHAKE_SECONDS: Final = 10.0
DEFAULT_BLOCK: Final = 512
_CREDENTIALS: Final = struct.Struct("=3i")
"""Process, user and group of who listens (unix(7), SO_PEERCRED)."""


class NotAdmitted(Exception):
    """The volume cannot be attached now, in words; `server` is the process that said so, if one
    did."""

    def __init__(self, reason: str, server: int | None = None) -> None:
        super().__init__(reason)
        self.server = server


@dataclass(frozen=True, slots=True)
class Attachment:
    """A volume as a server gives it.  `size` and `block` in bytes, `flags` as they were sent."""

    socket: socket.socket
    server: int
    """The server's process."""
    size: int
    flags: int
    block: int


def attach(path: Path, volume: str) -> Attachment:
    """Connect to `volume` at the Unix socket `path`; the socket is then the caller's.

    Raises NotAdmitted.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(HANDSHAKE_SECONDS)
    server: int | None = None
    try:
        connection.connect(bytes(path))
        credentials = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        server, _, _ = _CREDENTIALS.unpack(credentials)
        size, flags, block = _shake_hands(connection, volume)
        connection.settimeout(None)
    except (OSError, EOFError, ValueError, struct.error) as error:
        connection.close()
        raise NotAdmitted(str(error), server) from error
    except BaseException:
        connection.close()
        raise
    return Attachment(connection, server, size, flags, block)


def _shake_hands(connection: socket.socket, volume: str) -> tuple[int, int, int]:
    """Size, flags and block; raises ValueError with the server's words if it refuses."""
    magic, options, _ = wire.GREETING.unpack(_receive(connection, wire.GREETING.size))
    if (magic, options) != (wire.GREETING_MAGIC, wire.OPTION_MAGIC):
        raise ValueError("no NBD server listens there")
    name = volume.encode()
    wishes = wire.COUNT.pack(1) + wire.COUNT.pack(wire.INFO_BLOCK_SIZE)
    data = wire.LENGTH.pack(len(name)) + name + wishes
    connection.sendall(
        wire.CLIENT_FLAGS.pack(wire.FIXED_NEWSTYLE | wire.NO_ZEROES)
        + wire.OPTION.pack(wire.OPTION_MAGIC, wire.OPTION_GO, len(data))
        + data
    )
    size, flags, block = 0, 0, DEFAULT_BLOCK
    while True:
        kind, data = _reply(connection)
        if kind == wire.REPLY_ACK:
            return size, flags, block
        if kind & wire.REPLY_ERROR:
            raise ValueError(wire.printable(data.decode(errors="replace")) or "it was refused")
        (information,) = wire.COUNT.unpack_from(data)
        if information == wire.INFO_EXPORT:
            _, size, flags = wire.INFO_EXPORT_DATA.unpack(data)
        elif information == wire.INFO_BLOCK_SIZE:
            _, block, _, _ = wire.INFO_BLOCK_SIZE_DATA.unpack(data)


def _reply(connection: socket.socket) -> tuple[int, bytes]:
    header = _receive(connection, wire.OPTION_REPLY.size)
    magic, _, kind, length = wire.OPTION_REPLY.unpack(header)
    if magic != wire.OPTION_REPLY_MAGIC or length > wire.LARGEST_OPTION:
        raise ValueError("what answers there does not speak NBD")
    return kind, _receive(connection, length)


def _receive(connection: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        piece = connection.recv(length - len(received))
        if not piece:
            raise EOFError("the server closed the connection")
        received += piece
    return bytes(received)
