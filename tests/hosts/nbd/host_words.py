"""What a host says and hears before it reads and writes, over whatever carries it.

`take` gives so many of the server's next bytes, or raises; `put` sends some.
"""

import struct
from collections.abc import Callable

from appliance.hosts.nbd import wire

Take = Callable[[int], bytes]
Put = Callable[[bytes], object]
Reply = tuple[int, bytes]
"""Type and data of a reply to an option."""


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return wire.LENGTH.pack(len(raw)) + raw


def option(number: int, data: bytes = b"") -> bytes:
    return wire.OPTION.pack(wire.OPTION_MAGIC, number, len(data)) + data


def info_or_go(number: int, name: str, *wanted: int) -> bytes:
    data = string(name) + struct.pack(f">H{len(wanted)}H", len(wanted), *wanted)
    return option(number, data)


def request(
    command: int,
    offset: int = 0,
    length: int = 0,
    *,
    cookie: int = 1,
    flags: int = 0,
    payload: bytes = b"",
) -> bytes:
    header = wire.REQUEST.pack(wire.REQUEST_MAGIC, flags, command, cookie, offset, length)
    return header + payload


def write(offset: int, payload: bytes, *, cookie: int = 1, flags: int = 0) -> bytes:
    return request(
        wire.COMMAND_WRITE, offset, len(payload), cookie=cookie, flags=flags, payload=payload
    )


def read(offset: int, length: int, *, cookie: int = 1, flags: int = 0) -> bytes:
    return request(wire.COMMAND_READ, offset, length, cookie=cookie, flags=flags)


def greet(take: Take, put: Put, flags: int = wire.FIXED_NEWSTYLE | wire.NO_ZEROES) -> None:
    greeting = wire.GREETING.unpack(take(wire.GREETING.size))
    server_flags = wire.FIXED_NEWSTYLE | wire.NO_ZEROES
    assert greeting == (wire.GREETING_MAGIC, wire.OPTION_MAGIC, server_flags)
    put(wire.CLIENT_FLAGS.pack(flags))


def replies(take: Take, number: int) -> list[Reply]:
    """The replies to an option, to the last: an acknowledgement or an error."""
    found: list[Reply] = []
    while not found or not (found[-1][0] == wire.REPLY_ACK or found[-1][0] & wire.REPLY_ERROR):
        magic, answered, kind, length = wire.OPTION_REPLY.unpack(take(wire.OPTION_REPLY.size))
        assert (magic, answered) == (wire.OPTION_REPLY_MAGIC, number)
        found.append((kind, take(length)))
    return found


class ExportRefusedError(Exception):
    """The server does not give this, in its own sentence."""


def start_tls(take: Take, put: Put) -> None:
    """Up to the server's consent.  Raises ExportRefusedError."""
    put(option(wire.OPTION_STARTTLS))
    _granted(replies(take, wire.OPTION_STARTTLS))


def go(take: Take, put: Put, export: str) -> tuple[int, int]:
    """Enter transmission; the export's size in bytes, and its flags.

    Raises ExportRefusedError.
    """
    put(info_or_go(wire.OPTION_GO, export))
    size, flags = 0, 0
    for kind, data in _granted(replies(take, wire.OPTION_GO)):
        if kind == wire.REPLY_INFO and wire.COUNT.unpack_from(data)[0] == wire.INFO_EXPORT:
            _, size, flags = wire.INFO_EXPORT_DATA.unpack(data)
    return size, flags


def _granted(found: list[Reply]) -> list[Reply]:
    kind, data = found[-1]
    if kind & wire.REPLY_ERROR:
        raise ExportRefusedError(data.decode(errors="replace"))
    return found
