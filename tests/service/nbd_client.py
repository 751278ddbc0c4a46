"""A small NBD client of the tests' own: several requests in flight, answers as they come."""

import select
import socket
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from appliance.hosts.nbd import wire
from tests.hosts.nbd import host_words

STEP = 1 << 20


class Reply(NamedTuple):
    """The answer to one request; `error` is an errno, 0 for success."""

    cookie: int
    error: int
    data: bytes


class NbdClient:
    """One connection to an export.

    Raises ExportRefusedError at first, ConnectionError once the server is gone,
    TimeoutError where it does not answer in `seconds`.
    """

    def __init__(self, path: Path, export: str, seconds: float = 30.0) -> None:
        self._seconds = seconds
        self._in = bytearray()
        self._out = bytearray()
        self._asked: dict[int, int] = {}
        """By cookie, how many bytes the answer brings."""
        self._replies: deque[Reply] = deque()
        self._cookie = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(str(path))
            self._negotiate(export)
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        while len(self._in) < count:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._in += data
        taken = bytes(self._in[:count])
        del self._in[:count]
        return taken

    def _negotiate(self, export: str) -> None:
        host_words.greet(self._exactly, self._socket.sendall)
        self.size, self.flags = host_words.go(self._exactly, self._socket.sendall, export)

    @property
    def in_flight(self) -> int:
        return len(self._asked)

    def submit(
        self, command: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0
    ) -> int:
        """Ask for something; its cookie.  What does not fit the socket is sent by `collect`."""
        self._cookie += 1
        self._asked[self._cookie] = length if command == wire.COMMAND_READ else 0
        self._out += host_words.request(
            command, offset, length, cookie=self._cookie, flags=flags, payload=data
        )
        self._send()
        return self._cookie

    def _send(self) -> None:
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            return

    def collect(self, seconds: float | None = None) -> list[Reply]:
        """The answers that came, at least one; none where none came in `seconds`.

        Without `seconds` none is a TimeoutError.
        """
        deadline = time.monotonic() + (self._seconds if seconds is None else seconds)
        self._take_apart()
        while not self._replies:
            left = deadline - time.monotonic()
            if left < 0:
                if seconds is None:
                    raise TimeoutError(f"no answer in {self._seconds} s")
                return []
            writing = [self._socket] if self._out else []
            readable, _, _ = select.select([self._socket], writing, [], left)
            self._send()
            if readable:
                data = self._socket.recv(1 << 20)
                if not data:
                    raise ConnectionError("the server closed the connection")
                self._in += data
                self._take_apart()
        replies = list(self._replies)
        self._replies.clear()
        return replies

    def _take_apart(self) -> None:
        at, size = 0, wire.SIMPLE_REPLY.size
        while len(self._in) - at >= size:
            magic, error, cookie = wire.SIMPLE_REPLY.unpack_from(self._in, at)
            assert magic == wire.SIMPLE_MAGIC
            length = 0 if error else self._asked[cookie]
            if len(self._in) - at < size + length:
                break
            data = bytes(self._in[at + size : at + size + length])
            at += size + length
            del self._asked[cookie]
            self._replies.append(Reply(cookie, error, data))
        del self._in[:at]

    # One at a time

    def ask(
        self, command: int, offset: int = 0, length: int = 0, data: bytes = b"", flags: int = 0
    ) -> Reply:
        """Ask for one thing and wait for its answer; nothing else is in flight."""
        assert not self._asked
        cookie = self.submit(command, offset, length, data, flags)
        (reply,) = self.collect()
        assert reply.cookie == cookie
        return reply

    def read(self, offset: int, length: int) -> bytes:
        """Raises OSError as the server says."""
        return _good(self.ask(wire.COMMAND_READ, offset, length)).data

    def write(self, offset: int, data: bytes, flags: int = 0) -> None:
        """Raises OSError as the server says."""
        _good(self.ask(wire.COMMAND_WRITE, offset, len(data), data, flags))

    def flush(self) -> None:
        """Raises OSError as the server says."""
        _good(self.ask(wire.COMMAND_FLUSH))

    def whole(self) -> bytes:
        """Every byte of the export."""
        return b"".join(
            self.read(at, min(STEP, self.size - at)) for at in range(0, self.size, STEP)
        )


def _good(reply: Reply) -> Reply:
    if reply.error:
        raise OSError(reply.error, "the server said so")
    return reply
