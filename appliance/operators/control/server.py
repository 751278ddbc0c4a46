"""The control socket: who may connect, and the bytes between the kernel and sessions.

Whoever may open the socket may do everything; so its mode and group are the
access control (0660).  Who asked is taken from the socket's peer credentials
and written down, beside the face that it calls itself, with every request that
changes something.
"""

import errno
import logging
import pwd
import select
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from appliance import unix_socket
from appliance.errors import ServiceBusy
from appliance.loop import Loop
from appliance.operators import actions
from appliance.operators.answers import ErrorAnswer
from appliance.operators.control import messages
from appliance.operators.control.session import Session
from appliance.operators.interfaces import Appliance
from appliance.operators.operator_lock import Operator
from appliance.operators.requests import Desk

CONNECTIONS_MAXIMUM: Final = 64
USER_CONNECTIONS_MAXIMUM: Final = 32
"""Of one user, so that none shuts all others out."""
READ_BYTES: Final = 64 << 10
ACCEPT_PAUSE_SECONDS: Final = 1.0
_CREDENTIALS = struct.Struct("iII")
"""struct ucred of unix(7): pid, uid, gid."""
_log = logging.getLogger("ebbtide.control")


class ControlServer:
    """Listens on the socket at `path` from now on, until `close`.

    `group` is given access if it exists and we may; see `unix_socket.listen`,
    also for what it raises.
    """

    def __init__(
        self,
        loop: Loop,
        path: Path,
        appliance: Appliance,
        group: str = "cdp",
        connections_maximum: int = CONNECTIONS_MAXIMUM,
    ) -> None:
        self._loop = loop
        self._path = path
        self._desk = Desk(appliance, loop)
        self._connections_maximum = connections_maximum
        self._connections: set[_Connection] = set()
        self._users = {user.pw_uid: user.pw_name for user in pwd.getpwall()}
        self._socket = unix_socket.listen(path, group, CONNECTIONS_MAXIMUM)
        loop.register(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening and let go of every client; idempotent."""
        if self._socket.fileno() < 0:
            return
        self._loop.unregister(self._socket.fileno())
        self._socket.close()
        self._path.unlink(missing_ok=True)
        for connection in list(self._connections):
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    self._pause(error)
                    return
                continue
            client.setblocking(False)
            operator = Operator(self._user(client))
            if not self._has_room(operator.user):
                _turn_away(client, len(self._connections))
                continue
            self._connections.add(_Connection(self._loop, client, operator, self._desk, self._gone))

    def _gone(self, connection: "_Connection") -> None:
        self._connections.discard(connection)

    def _has_room(self, user: str) -> bool:
        theirs = sum(connection.user == user for connection in self._connections)
        return (
            len(self._connections) < self._connections_maximum and theirs < USER_CONNECTIONS_MAXIMUM
        )

    def _pause(self, error: OSError) -> None:
        """Out of descriptors: the waiting client would wake every turn."""
        _log.warning("no more control connections for now: %s", error.strerror)
        self._loop.register(self._socket.fileno(), None)
        self._loop.after(ACCEPT_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.register(self._socket.fileno(), self._accept)

    def _user(self, client: socket.socket) -> str:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        return self._users.get(uid, f"uid {uid}")


class _Connection:
    """One client's socket and session."""

    def __init__(
        self,
        loop: Loop,
        client: socket.socket,
        operator: Operator,
        desk: Desk,
        gone: "Callable[[_Connection], None]",
    ) -> None:
        self._loop = loop
        self._client = client
        self._operator = operator
        self._desk = desk
        self._gone = gone
        self._send_posted = False
        self._watched: tuple[bool, bool] | None = None
        self._session = Session(operator, partial(actions.perform, desk, operator), self._send_soon)
        self._watch()

    @property
    def user(self) -> str:
        return self._operator.user

    def close(self) -> None:
        if self._client.fileno() < 0:
            return
        self._loop.unregister(self._client.fileno())
        self._client.close()
        self._session.close()
        self._desk.leave(self._operator)
        self._gone(self)

    def _send_soon(self) -> None:
        if not self._send_posted:
            self._send_posted = True
            self._loop.post(self._send)

    def _receive(self) -> None:
        try:
            data = self._client.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not data and _has_hung_up(self._client):
            # Who has only ended their requests still waits for answers; this one does not.
            self.close()
            return
        self._session.receive(data)
        self._send()

    def _go_on(self) -> None:
        self._session.fill()
        self._send()

    def _send(self) -> None:
        """Send what there is and fits; watch the socket for what is left to do.

        Nothing is begun here: this is posted whenever an answer is ready, so a
        flood of requests would all be answered in one turn.
        """
        self._send_posted = False
        if self._client.fileno() < 0:
            return
        output = self._session.output
        try:
            if output:
                del output[: self._client.send(output)]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            # Nobody is there any more; but what they have asked for may lie here to be read.
            output.clear()
        except OSError:
            self.close()
            return
        if self._session.over and not output:
            self.close()
        else:
            self._watch()

    def _watch(self) -> None:
        wanted = (self._session.wants_input, self._session.wants_output)
        if wanted == self._watched:
            return
        self._watched = wanted
        if any(wanted):
            self._loop.register(
                self._client.fileno(),
                self._receive if wanted[0] else None,
                self._go_on if wanted[1] else None,
            )
        else:
            # Answers are worked on, and may take long: nobody may be there any more for them.
            self._loop.register_hang_up(self._client.fileno(), self.close)


def _has_hung_up(client: socket.socket) -> bool:
    """Neither side of the connection is open any more."""
    poll = select.poll()
    poll.register(client, 0)
    return bool(poll.poll(0))


def _turn_away(client: socket.socket, connections: int) -> None:
    error = ErrorAnswer.of(ServiceBusy(connections=connections))
    with client:
        try:
            client.send(messages.encode(messages.ErrorMessage(None, error)))
        except OSError:
            return
