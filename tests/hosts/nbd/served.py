"""An NBD server on a loop of its own thread, with targets in memory."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from appliance.config import AllowRule, TcpEndpoint, TlsSettings
from appliance.events import FieldValue
from appliance.hosts.nbd import credentials
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.guests import AllowList
from appliance.hosts.nbd.listener import Listener
from appliance.loop import Loop
from tests.hosts.nbd.memory_target import MemoryTarget, PlayedSource

T = TypeVar("T")


class Served:
    """`targets` by name, served on `socket` and at `endpoint`."""

    def __init__(
        self,
        directory: Path,
        loop: Loop,
        connection_limit: int,
        tls: TlsSettings | None,
        allow: Sequence[AllowRule] | None,
    ) -> None:
        self.loop = loop
        self.socket = directory / "nbd.sock"
        self.targets = {
            "finance": MemoryTarget(64 << 20, 512, post=loop.post),
            "mail": MemoryTarget(64 << 20, 4096, post=loop.post),
            "finance@-10m": MemoryTarget(64 << 20, 512, read_only=True, post=loop.post),
        }
        self.source = PlayedSource(*self.targets.items())
        self.exports = Exports(self.source)
        self.events: list[tuple[str, dict[str, FieldValue]]] = []
        self.listener = Listener(
            loop,
            self.exports,
            connection_limit=connection_limit,
            credentials=credentials.load(tls) if tls is not None else None,
            allow=AllowList(allow),
            emit=self._emit,
        )
        self.listener.listen_unix(self.socket)
        self.endpoint = self.listener.listen_tcp(TcpEndpoint("127.0.0.1", 0))

    def _emit(self, code: str, **fields: FieldValue) -> None:
        self.events.append((code, fields))

    def uri(self, name: str) -> str:
        return f"nbd+unix:///{quote(name)}?socket={self.socket}"

    def on_loop(self, action: Callable[[], T]) -> T:
        """Run `action` on the loop's thread and wait for what it returns."""
        results: list[T] = []
        done = threading.Event()

        def run() -> None:
            results.append(action())
            done.set()

        self.loop.post_from_thread(run)
        assert done.wait(10), "the loop does not turn"
        return results[0]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition`, asked on the loop, holds."""
        held = threading.Event()

        def ask() -> None:
            if condition():
                held.set()
            else:
                self.loop.after(0.002, ask)

        self.loop.post_from_thread(ask)
        assert held.wait(20), "it never came to be"


@contextmanager
def serve(
    directory: Path,
    connection_limit: int = 64,
    tls: TlsSettings | None = None,
    allow: Sequence[AllowRule] | None = None,
) -> Iterator[Served]:
    errors: list[Exception] = []
    with Loop(on_error=errors.append) as loop:
        served = Served(directory, loop, connection_limit, tls, allow)
        thread = threading.Thread(target=loop.run)
        thread.start()
        try:
            yield served
        finally:
            closed = threading.Event()

            def close() -> None:
                served.listener.close().when_finished(closed.set)

            loop.post_from_thread(close)
            finished = closed.wait(20)
            loop.stop()
            thread.join(20)
    assert finished, "the listener did not close"
    assert not errors
    assert served.listener.connections == 0
    assert served.listener.budget.used == 0
    assert not any(target.pool.out for target in served.targets.values())
    assert not any(served.source.connected.values())
