"""Who is let in, and what stands between a new host and the exports.

What strangers can take is bounded: connections in all and from one address,
and those that have not come to the point yet, of which the one that has taken
longest gives way.  So whoever only knocks cannot keep out those who may come in.

A host on the Unix socket speaks in the clear and may use everything; the
socket's mode says who that is.  One on TCP needs TLS where there are
credentials, and gets what the allow list gives it.
"""

import socket
from collections.abc import Callable, Collection
from typing import Final

from appliance.cdp.memory import BufferPool
from appliance.hosts.nbd.budget import Budget
from appliance.hosts.nbd.channel import Channel, TlsChannel
from appliance.hosts.nbd.connection import Connection
from appliance.hosts.nbd.credentials import Credentials
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.guests import AllowList, Guest
from appliance.hosts.nbd.negotiation import Security
from appliance.hosts.nbd.refusals import Refusals
from appliance.hosts.nbd.session import Session
from appliance.hosts.nbd.wire import printable
from appliance.loop import Loop

CONNECTION_LIMIT: Final = 64
ADDRESS_LIMIT: Final = 32
"""Connections from one address."""
UNDECIDED_LIMIT: Final = 16
"""Connections over TCP that have not said what they want."""
LOCAL: Final = "local"
"""What a host on the Unix socket is called."""


class Reception:
    """See the module.  An address is empty for a host on the Unix socket."""

    def __init__(
        self,
        loop: Loop,
        exports: Exports,
        budget: Budget,
        credentials: Credentials | None,
        allow: AllowList,
        refusals: Refusals,
        connection_limit: int,
    ) -> None:
        self._loop = loop
        self._exports = exports
        self._budget = budget
        self._pool = BufferPool()
        self._credentials = credentials
        self._allow = allow
        self._refusals = refusals
        self._connection_limit = connection_limit
        self._received = 0

    def lets_in(self, address: str, known: Collection[Connection]) -> bool:
        """Is a host to be listened to, beside those that are `known`?

        If not, that is told.  If so, the longest undecided one may have had to go.
        """
        objection = self._objection(address, known)
        if objection:
            self._refusals.tell(address or LOCAL, objection)
        elif address:
            self._make_way(known)
        return not objection

    def receive(
        self,
        peer: socket.socket,
        address: str,
        rouse: Callable[[Connection], None],
        gone: Callable[[Connection], None],
    ) -> Connection:
        """A connection; `rouse` is told when it wants to be settled, `gone` when it is no more."""

        def refused(reason: str) -> None:
            self._refusals.tell(address, reason)

        def admit(names: frozenset[str]) -> Guest:
            volumes = self._allow.volumes(address, names)
            if volumes is not None and not volumes:
                shown = printable(", ".join(sorted(names)) or "a host without a name")
                refused(f"{shown} is not on the allow list")
            return Guest(volumes, refused)

        def wake() -> None:
            rouse(connection)

        exports, budget, pool = self._exports, self._budget, self._pool
        channel: Channel
        if not address:
            channel = session = Session(exports, budget, pool, wake)
        elif self._credentials is None:
            channel = session = Session(exports, budget, pool, wake, admit(frozenset()))
        else:
            nobody = Guest(frozenset())
            session = Session(exports, budget, pool, wake, nobody, Security.REQUIRED)
            offload = self._loop.offload
            channel = TlsChannel(session, self._credentials, offload, wake, admit, refused)
        self._received += 1
        connection = Connection(self._loop, peer, address, self._received, session, channel, gone)
        return connection

    def _objection(self, address: str, known: Collection[Connection]) -> str:
        """Why a host is not even listened to, or nothing."""
        if len(known) >= self._connection_limit:
            return f"{self._connection_limit} connections are there already"
        if not address:
            return ""
        if not self._allow.may_knock(address):
            return "its address is not on the allow list"
        if sum(other.address == address for other in known) >= ADDRESS_LIMIT:
            return f"{ADDRESS_LIMIT} connections come from there already"
        return ""

    def _make_way(self, known: Collection[Connection]) -> None:
        """Of too many that have not come to the point, the one that has taken longest goes."""
        undecided = [other for other in known if other.address and other.session.negotiating]
        if len(undecided) >= UNDECIDED_LIMIT:
            first = min(undecided, key=lambda other: other.number)
            self._refusals.tell(first.address, "it did not come to the point, and others waited")
            first.drop("others waited")
