"""The NBD server's sockets on the loop: accepts, receives, sends, and sends away.

Replies leave once a turn: sessions that have something to send gather, and one
post after the turn's completions sends for all of them, so that a batch of
requests costs one system call in and one out.

A host that does not speak in time, or that holds payload which others wait for
and moves nothing, is sent away.
"""

import ipaddress
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.cdp.memory import BufferPool
from appliance.cdp.tasks import Completion
from appliance.config import TcpEndpoint
from appliance.errors import BadSettings
from appliance.hosts.nbd.budget import PAYLOAD_LIMIT, Budget
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.session import Phase, Session
from appliance.loop import Loop, LoopTimer

CONNECTION_LIMIT: Final = 64
BACKLOG: Final = 16
WATCH_SECONDS: Final = 1.0
HANDSHAKE_SECONDS: Final = 30
"""For a host to say what it wants, once connected."""
LINGER_SECONDS: Final = 3
"""For a host to take its last answers before its socket is closed."""
STALL_SECONDS: Final = 30
"""For a host to move a byte while it holds payload that others wait for."""

logger = logging.getLogger(__name__)


class Connection:
    """A socket and its session.  `gone` is called when nothing of it is left."""

    def __init__(
        self,
        loop: Loop,
        peer: socket.socket,
        session: Session,
        gone: "Callable[[Connection], None]",
    ) -> None:
        self.session = session
        self.quiet_seconds = 0
        """Since the last byte was moved."""
        self.phase_seconds = 0
        """Spent in negotiation, or on the way out."""
        self._loop = loop
        self._socket = peer
        self._gone = gone
        self._waits_for: tuple[bool, bool] = (False, False)
        self._blocked = False

    def settle(self) -> None:
        """Send what there is, go on with what was held up, and wait for the right events."""
        session = self.session
        if session.closed:
            if not session.in_flight:
                self._gone(self)
            return
        if not self._send():
            self.drop("the host is gone")
            return
        if session.stalled:
            session.proceed()
        if session.over:
            self.drop(session.fault)
        else:
            self._wait()

    def drop(self, reason: str) -> None:
        """Close the socket; what is in flight finishes without it."""
        if reason:
            logger.info("NBD connection closed: %s", reason)
        if self._waits_for != (False, False):
            self._loop.unregister(self._socket.fileno())
            self._waits_for = (False, False)
        self._socket.close()
        self.session.close()
        if not self.session.in_flight:
            self._gone(self)

    def _receive(self) -> None:
        space = self.session.receive_buffer()
        if not space:
            self._wait()
            return
        try:
            count = self._socket.recv_into(space)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self.drop("")
            return
        self.quiet_seconds = 0
        try:
            self.session.received(count)
        except Exception:
            self.drop("an error of ours")
            raise

    def _writable(self) -> None:
        self._blocked = False
        self.settle()

    def _send(self) -> bool:
        """Send until all is sent or the socket is full; False if the host is gone."""
        session = self.session
        chunks = session.output()
        while chunks and not self._blocked:
            try:
                count = self._socket.sendmsg(chunks)
            except BlockingIOError:
                self._blocked = True
            except OSError:
                return False
            else:
                self.quiet_seconds = 0
                session.sent(count)
                chunks = session.output()
        return True

    def _wait(self) -> None:
        """Have the loop call back for what the session can use now, and for nothing else.

        A socket that is neither read nor written is not registered at all: a
        hang-up would wake the loop over and over.
        """
        reading = self.session.reading
        if (reading, self._blocked) == self._waits_for:
            return
        self._waits_for = (reading, self._blocked)
        if reading or self._blocked:
            self._loop.register(
                self._socket.fileno(),
                self._receive if reading else None,
                self._writable if self._blocked else None,
            )
        else:
            self._loop.unregister(self._socket.fileno())


class Listener:
    """The NBD server.  Listens nowhere until told where."""

    def __init__(
        self,
        loop: Loop,
        exports: Exports,
        payload_limit: int = PAYLOAD_LIMIT,
        connection_limit: int = CONNECTION_LIMIT,
    ) -> None:
        self.budget = Budget(self._schedule_admission, payload_limit)
        self._loop = loop
        self._exports = exports
        self._pool = BufferPool()
        self._connection_limit = connection_limit
        self._sockets: list[socket.socket] = []
        self._paths: list[Path] = []
        self._connections: set[Connection] = set()
        self._roused: list[Connection] = []
        self._admitting = False
        self._watch_timer: LoopTimer | None = None
        self._closed: Completion[None] | None = None

    @property
    def connections(self) -> int:
        """Hosts connected, and those gone whose last requests are still in flight."""
        return len(self._connections)

    def listen_unix(self, path: Path) -> None:
        """Take hosts on a Unix socket, open to its owner and group.

        A socket that a killed service left behind is replaced.  Raises
        `BadSettings` if the path is taken or cannot be used.
        """
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        umask = os.umask(0o117)
        try:
            _remove_dead_socket(path)
            server.bind(str(path))
        except OSError as error:
            server.close()
            raise BadSettings(reason=f"NBD socket {path}: {error.strerror or error}") from error
        finally:
            os.umask(umask)
        self._paths.append(path)
        self._listen(server)

    def listen_tcp(self, endpoint: TcpEndpoint) -> TcpEndpoint:
        """Take hosts on TCP; loopback only.  Returns the endpoint with its true port.

        Raises `BadSettings` for another address, or one that cannot be had.
        """
        address = ipaddress.ip_address(endpoint.address)
        if not address.is_loopback:
            raise BadSettings(reason=f"NBD over TCP on {endpoint}: only loopback, without TLS")
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((endpoint.address, endpoint.port))
        except OSError as error:
            server.close()
            raise BadSettings(reason=f"NBD over TCP on {endpoint}: {error.strerror}") from error
        self._listen(server)
        return TcpEndpoint(endpoint.address, server.getsockname()[1])

    def close(self) -> Completion[None]:
        """Take no more hosts and send away those there are; idempotent.

        Completes when nothing of any of them is in flight.
        """
        if self._closed is None:
            self._closed = Completion()
            for server in self._sockets:
                self._loop.unregister(server.fileno())
                server.close()
            for path in self._paths:
                path.unlink(missing_ok=True)
            for connection in list(self._connections):
                connection.session.finish()
            self._complete_close()
        return self._closed

    def _listen(self, server: socket.socket) -> None:
        server.listen(BACKLOG)
        self._sockets.append(server)
        self._loop.register(server.fileno(), lambda: self._accept(server))

    def _accept(self, server: socket.socket) -> None:
        try:
            peer, _ = server.accept()
        except OSError:  # it was gone again, or there are no descriptors left
            return
        if len(self._connections) >= self._connection_limit:
            logger.warning("NBD connection refused: %d is the limit", self._connection_limit)
            peer.close()
            return
        peer.setblocking(False)
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        session = Session(self._exports, self.budget, self._pool, lambda: self._rouse(connection))
        connection = Connection(self._loop, peer, session, self._forget)
        self._connections.add(connection)
        if self._watch_timer is None:
            self._watch_timer = self._loop.after(WATCH_SECONDS, self._watch)
        connection.settle()

    def _rouse(self, connection: Connection) -> None:
        if not self._roused:
            self._loop.post(self._settle)
        self._roused.append(connection)

    def _settle(self) -> None:
        roused, self._roused = self._roused, []
        for connection in roused:
            connection.settle()

    def _schedule_admission(self) -> None:
        if not self._admitting:
            self._admitting = True
            self._loop.post(self._admit)

    def _admit(self) -> None:
        self._admitting = False
        self.budget.admit()

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._complete_close()

    def _complete_close(self) -> None:
        if self._closed is not None and not self._connections and not self._closed.finished:
            if self._watch_timer is not None:
                self._watch_timer.cancel()
                self._watch_timer = None
            self._closed.succeed(None)

    def _watch(self) -> None:
        """Once a second: send away hosts that hold up others, or never get to the point."""
        for connection in list(self._connections):
            connection.quiet_seconds += 1
            reason = self._overstayed(connection)
            if reason:
                connection.drop(reason)
        self._watch_timer = (
            self._loop.after(WATCH_SECONDS, self._watch) if self._connections else None
        )

    def _overstayed(self, connection: Connection) -> str:
        """Why the host is to be sent away, or nothing."""
        session = connection.session
        if session.phase is Phase.REQUESTS:
            connection.phase_seconds = 0
            stalled = not session.idle and connection.quiet_seconds > STALL_SECONDS
            return "it holds up others and moves nothing" if stalled and self.budget.waiting else ""
        if session.negotiating:
            connection.phase_seconds += 1
            return "no handshake in time" if connection.phase_seconds > HANDSHAKE_SECONDS else ""
        if session.phase is Phase.FINISHING and not session.in_flight:
            connection.phase_seconds += 1
            return (
                "its last answers were not taken"
                if connection.phase_seconds > LINGER_SECONDS
                else ""
            )
        return ""


def _remove_dead_socket(path: Path) -> None:
    """Remove a socket on which nobody listens any more; raises OSError if somebody does."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
