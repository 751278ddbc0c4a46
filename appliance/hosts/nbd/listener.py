"""The NBD server's sockets on the loop: accepts, receives, sends, and sends away.

Replies leave once a turn: sessions that have something to send gather, and one
post after the turn's completions sends for all of them, so that a batch of
requests costs one system call in and one out.

A host that does not speak in time, or that holds payload which others wait for
and moves nothing, is sent away.
"""

import errno
import ipaddress
import socket
from pathlib import Path
from typing import Final

from appliance import events, unix_socket
from appliance.cdp.tasks import Completion
from appliance.config import TcpEndpoint
from appliance.errors import BadSettings
from appliance.events import Emit, FieldValue
from appliance.hosts.nbd.budget import PAYLOAD_LIMIT, Budget
from appliance.hosts.nbd.connection import Connection
from appliance.hosts.nbd.credentials import Credentials
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.guests import AllowList
from appliance.hosts.nbd.reception import CONNECTION_LIMIT, Reception
from appliance.hosts.nbd.refusals import Refusals
from appliance.hosts.nbd.session import Phase
from appliance.loop import Loop, LoopTimer

KEEPALIVE_SECONDS: Final = 30
"""Of silence, until a host on TCP is asked whether it is still there."""
ACCEPT_PAUSE_SECONDS: Final = 1.0
BACKLOG: Final = 16
WATCH_SECONDS: Final = 1.0
HANDSHAKE_SECONDS: Final = 30
"""For a host to say what it wants, once connected."""
LINGER_SECONDS: Final = 3
"""For a host to take its last answers before its socket is closed."""
STALL_SECONDS: Final = 30
"""For a host to move a byte while it holds payload that others wait for."""

_FREEBIND: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, 15),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 78),
}
"""Level and name of IP_FREEBIND and IPV6_FREEBIND, of linux/in.h and linux/in6.h."""

HOSTS_GROUP: Final = "cdp-hosts"
"""Who may use the Unix socket."""


def _unheard(code: str, **fields: FieldValue) -> None:
    pass


class Listener:
    """The NBD server.  Listens nowhere until told where.

    With `credentials`, hosts on TCP need TLS; `allow` says which of them may come.
    """

    def __init__(
        self,
        loop: Loop,
        exports: Exports,
        payload_limit: int = PAYLOAD_LIMIT,
        connection_limit: int = CONNECTION_LIMIT,
        credentials: Credentials | None = None,
        allow: AllowList | None = None,
        emit: Emit = _unheard,
    ) -> None:
        self.budget = Budget(self._schedule_admission, payload_limit)
        self._loop = loop
        self._tls = credentials is not None
        self._emit = emit
        self._refusals = Refusals(emit, loop.after)
        self._reception = Reception(
            loop,
            exports,
            self.budget,
            credentials,
            allow or AllowList(),
            self._refusals,
            connection_limit,
        )
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
        """Take hosts on a Unix socket; see `unix_socket.listen`, also for what it raises."""
        server = unix_socket.listen(path, HOSTS_GROUP, BACKLOG)
        self._paths.append(path)
        self._serve(server)

    def listen_tcp(self, endpoint: TcpEndpoint) -> TcpEndpoint:
        """Take hosts on TCP; loopback only, without TLS.  Returns the endpoint with its true port.

        An address that no interface has is listened on all the same, so that
        hosts come in as soon as one has it, and an event says so.  Raises
        `BadSettings` for an address that is not allowed, or a port that is taken.
        """
        address = ipaddress.ip_address(endpoint.address)
        if not address.is_loopback and not self._tls:
            raise BadSettings(reason=f"NBD over TCP on {endpoint}: only loopback, without TLS")
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        try:
            if not _is_here(endpoint.address, family):
                self._emit(events.ADDRESS_ABSENT, endpoint=str(endpoint))
            server = _bind(endpoint, family)
        except OSError as error:
            raise BadSettings(reason=f"NBD over TCP on {endpoint}: {error.strerror}") from error
        server.listen(BACKLOG)
        self._serve(server)
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
            self._sockets.clear()
            for path in self._paths:
                path.unlink(missing_ok=True)
            self._refusals.close()
            for connection in list(self._connections):
                connection.session.finish()
            self._complete_close()
        return self._closed

    def _serve(self, server: socket.socket) -> None:
        self._sockets.append(server)
        self._loop.register(server.fileno(), lambda: self._accept(server))

    def _accept(self, server: socket.socket) -> None:
        try:
            peer, name = server.accept()
        except OSError as error:  # it was gone again, or there are no descriptors left
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}:
                self._pause(server)
            return
        address = "" if peer.family == socket.AF_UNIX else str(name[0])
        if not self._reception.lets_in(address, self._connections):
            peer.close()
            return
        peer.setblocking(False)
        if address:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _notice_death(peer)
        connection = self._reception.receive(peer, address, self._rouse, self._forget)
        self._connections.add(connection)
        if self._watch_timer is None:
            self._watch_timer = self._loop.after(WATCH_SECONDS, self._watch)
        connection.settle()

    def _pause(self, server: socket.socket) -> None:
        """The host that waits would wake every turn."""

        def resume() -> None:
            if server in self._sockets:
                self._loop.register(server.fileno(), lambda: self._accept(server))

        self._loop.register(server.fileno(), None)
        self._loop.after(ACCEPT_PAUSE_SECONDS, resume)

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


def _is_here(address: str, family: socket.AddressFamily) -> bool:
    """Has an interface of this machine the address now?"""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def _bind(endpoint: TcpEndpoint, family: socket.AddressFamily) -> socket.socket:
    """Raises OSError.  Networks come up when they do; who needs none of them must not wait."""
    server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(*_FREEBIND[family], 1)
        server.bind((endpoint.address, endpoint.port))
    except OSError:
        server.close()
        raise
    return server


def _notice_death(peer: socket.socket) -> None:
    """Have the kernel end the connection of a host that went without a word, in minutes.

    By its own default it takes two hours, and a host that crashes and comes
    again would use up its address's places.
    """
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS // 2)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
