"""Scrapers good and bad, against the exporter's HTTP."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest

from appliance.config import TcpEndpoint
from appliance.operators.exporter.scrapes import CONNECTIONS_MAXIMUM, HEAD_MAXIMUM, ScrapeServer

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: box\r\nAccept: text/plain\r\n\r\n"
BODY = b"ebbtide_up 1\n"
Answer = Callable[[str], Awaitable[tuple[bytes, str]]]


async def body(accepted: str) -> tuple[bytes, str]:
    return BODY, f"text/plain; accepted={accepted}"


@contextmanager
def served(answer: Answer = body, seconds: float = 30.0) -> Iterator[TcpEndpoint]:
    """A server whose connections may last so long, in a thread; nobody is left at its end."""
    started: Future[tuple[TcpEndpoint, Callable[[], object]]] = Future()

    async def run() -> None:
        server, stop = ScrapeServer(answer, seconds), asyncio.Event()
        endpoint = await server.start(TcpEndpoint("127.0.0.1", 0))
        wake = asyncio.get_running_loop().call_soon_threadsafe
        started.set_result((endpoint, lambda: wake(stop.set)))
        await stop.wait()
        await server.close()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(asyncio.run, run())
        endpoint, stop = started.result(10)
        try:
            yield endpoint
        finally:
            stop()
        running.result(10)


def connect(endpoint: TcpEndpoint) -> socket.socket:
    return socket.create_connection((endpoint.address, endpoint.port), timeout=10)


def rest(peer: socket.socket) -> bytes:
    """All that still comes; ConnectionResetError if it was cut."""
    return b"".join(iter(lambda: peer.recv(1 << 16), b""))


def send(endpoint: TcpEndpoint, data: bytes) -> bytes:
    """Everything that the server answers to `data`."""
    with connect(endpoint) as peer:
        peer.sendall(data)
        return rest(peer)


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (SCRAPE, b"200 OK", BODY),
        (b"GET /metrics?name=x HTTP/1.0\r\n\r\n", b"200 OK", BODY),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"200 OK", b""),
        (b"GET / HTTP/1.1\r\n\r\n", b"200 OK", b"/metrics"),
        (b"GET /other HTTP/1.1\r\n\r\n", b"404 Not Found", b"Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405 Method Not Allowed", b""),
        (b"GET metrics HTTP/1.1\r\n\r\n", b"400 Bad Request", b""),
        (b"GET /metrics HTTP/2\r\n\r\n", b"400 Bad Request", b""),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request", b""),
        (b"GET /\x1b[2J HTTP/1.1\r\n\r\n", b"400 Bad Request", b""),
        (b"\r\n\r\n", b"400 Bad Request", b""),
        (b"G" * (HEAD_MAXIMUM + 9), b"431 Request Header Fields Too Large", b""),
        (SCRAPE[:-2] + b"X: " + b"x" * HEAD_MAXIMUM + b"\r\n\r\n", b"431 Request Header", b""),
    ],
)
def test_requests(sent: bytes, status: bytes, said: bytes) -> None:
    with served() as endpoint:
        head, _, told = send(endpoint, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in head
    assert said in told
    if sent.startswith(b"HEAD"):
        assert told == b""
        assert b"Content-Length: %d\r\n" % len(BODY) in head
    else:
        assert b"Content-Length: %d\r\n" % len(told) in head


def test_the_accept_header_chooses_the_type() -> None:
    with served() as endpoint:
        answer = send(endpoint, SCRAPE.replace(b"Accept: text", b"aCCEPT:  open"))
    assert b"Content-Type: text/plain; accepted=open/plain\r\n" in answer


def test_half_a_request_is_no_request() -> None:
    with served() as endpoint:
        with connect(endpoint) as peer:
            peer.sendall(SCRAPE[:20])
            peer.shutdown(socket.SHUT_WR)
            assert rest(peer) == b""
        assert BODY in send(endpoint, SCRAPE)


def test_a_dawdler_loses_its_connection() -> None:
    with served(seconds=0.3) as endpoint, connect(endpoint) as peer:
        peer.settimeout(0.02)
        began = time.monotonic()
        # A byte now and then buys no time.
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < began + 10:
                peer.sendall(b"G")
                with contextlib.suppress(TimeoutError):
                    if not peer.recv(1):
                        break
        assert 0.2 < time.monotonic() - began < 5


def test_who_does_not_read_loses_the_connection() -> None:
    over = Event()

    async def large(accepted: str) -> tuple[bytes, str]:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: over.set())
        return b"x" * (64 << 20), "text/plain"

    # Time enough to be asked, and too little for one who does not read.
    with served(large, seconds=3) as endpoint, connect(endpoint) as peer:
        peer.sendall(SCRAPE)
        assert over.wait(30)
        assert len(rest(peer)) < 64 << 20


def test_idle_connections_give_way_to_a_scrape() -> None:
    with served() as endpoint, contextlib.ExitStack() as idle:
        peers = [idle.enter_context(connect(endpoint)) for _ in range(3 * CONNECTIONS_MAXIMUM)]
        assert BODY in send(endpoint, SCRAPE)
        peers[0].settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert peers[0].recv(1) == b""  # the oldest went
        peers[-1].sendall(SCRAPE)
        assert BODY in rest(peers[-1])  # the newest did not


def test_a_scrape_that_fails_does_not_end_the_server(caplog: pytest.LogCaptureFixture) -> None:
    failures = [ValueError("broken")]

    async def failing(accepted: str) -> tuple[bytes, str]:
        if failures:
            raise failures.pop()
        return BODY, "text/plain"

    with served(failing) as endpoint:
        with contextlib.suppress(ConnectionResetError):
            assert send(endpoint, SCRAPE) == b""
        assert BODY in send(endpoint, SCRAPE)
    assert "a scrape failed" in caplog.text


def test_closing_lets_go_of_everybody() -> None:
    with contextlib.ExitStack() as kept:
        with served() as endpoint:
            peers = [kept.enter_context(connect(endpoint)) for _ in range(3)]
            assert BODY in send(endpoint, SCRAPE)
        for peer in peers:
            with contextlib.suppress(ConnectionResetError):
                assert rest(peer) == b""
