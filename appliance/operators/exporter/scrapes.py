"""The exporter's HTTP: one path, one request a connection, bounds on everything.

A peer that dawdles, sends too much or does not read loses its connection
after `CONNECTION_SECONDS`; when there are too many, the oldest gives way, for
an honest scrape is over in milliseconds.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from appliance.config import TcpEndpoint

HEAD_MAXIMUM: Final = 16 << 10
CONNECTION_SECONDS: Final = 10.0
CONNECTIONS_MAXIMUM: Final = 32
PLAIN: Final = "text/plain; charset=utf-8"
_REQUEST = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.[01]")
_log = logging.getLogger("ebbtide.exporter")

Answer = Callable[[str], Awaitable[tuple[bytes, str]]]
"""From the `Accept` header's value to the body and its type."""


class ScrapeServer:
    """Serves `/metrics` at an endpoint from `start` to `close`."""

    def __init__(
        self,
        answer: Answer,
        connection_seconds: float = CONNECTION_SECONDS,
        connections_maximum: int = CONNECTIONS_MAXIMUM,
    ) -> None:
        self._answer = answer
        self._connection_seconds = connection_seconds
        self._connections_maximum = connections_maximum
        self._connections: dict[asyncio.Task[None], None] = {}
        """Oldest first."""
        self._server: asyncio.Server | None = None

    async def start(self, endpoint: TcpEndpoint) -> TcpEndpoint:
        """Where it listens, with the port that the kernel chose; raises OSError."""
        self._server = await asyncio.start_server(
            self._connected, endpoint.address, endpoint.port, limit=HEAD_MAXIMUM
        )
        address, port = self._server.sockets[0].getsockname()[:2]
        return TcpEndpoint(address, port)

    async def close(self) -> None:
        """Stop listening, and let go of every scraper."""
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections[connection] = None
        if len(self._connections) > self._connections_maximum:
            next(iter(self._connections)).cancel()
        try:
            async with asyncio.timeout(self._connection_seconds):
                writer.write(await self._respond(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # it is the peer's loss; and a cancelled one has no other work to leave
        except Exception:  # a bug; nobody waits for this task to hear of it
            _log.exception("a scrape failed")
        finally:
            del self._connections[connection]
            writer.transport.abort()

    async def _respond(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        lines = head.split(b"\r\n")
        request = _REQUEST.fullmatch(lines[0])
        if request is None:
            return _response(HTTPStatus.BAD_REQUEST)
        if request[1] not in (b"GET", b"HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, more="Allow: GET, HEAD\r\n")
        path = request[2].partition(b"?")[0]
        if path == b"/":
            response = _response(HTTPStatus.OK, b"Ebbtide's metrics are at /metrics.\n")
        elif path != b"/metrics":
            response = _response(HTTPStatus.NOT_FOUND)
        else:
            response = _response(HTTPStatus.OK, *await self._answer(_accepted(lines[1:])))
        if request[1] == b"HEAD":
            return response[: response.index(b"\r\n\r\n") + 4]
        return response


def _accepted(lines: list[bytes]) -> str:
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"accept":
            return value.strip().decode("latin-1")
    return ""


def _response(
    status: HTTPStatus, body: bytes = b"", content_type: str = PLAIN, more: str = ""
) -> bytes:
    if not body and status is not HTTPStatus.OK:
        body = f"{status.phrase}\n".encode()
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + body
