"""The other end of a session over TLS: a played host whose bytes go through a real handshake."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.cdp.tasks import Completion
from appliance.hosts.nbd import wire
from appliance.hosts.nbd.channel import TlsChannel
from appliance.hosts.nbd.credentials import Credentials
from appliance.hosts.nbd.guests import AllowList, Guest
from appliance.hosts.nbd.negotiation import Security
from appliance.hosts.nbd.session import Session
from tests.hosts.nbd.authority import APPLIANCE
from tests.hosts.nbd.played_host import PlayedHost


def at_once(work: Callable[[], None]) -> Completion[None]:
    """Offloaded work that is done before anything else happens."""
    done: Completion[None] = Completion()
    try:
        work()
    except Exception as error:
        done.fail(error)
    else:
        done.succeed(None)
    return done


@dataclass(kw_only=True)
class SecureHost(PlayedHost):
    """A host that speaks TLS once `shake_hands` was called.

    `raw` keeps what came in the clear or encrypted; `split` cuts what it sends
    into pieces of so many bytes.
    """

    credentials: Credentials
    context: ssl.SSLContext
    allow: AllowList = field(default_factory=AllowList)
    offload: Callable[[Callable[[], None]], Completion[None]] = at_once
    split: int = 1 << 30
    session_to_resume: ssl.SSLSession | None = None
    raw: bytearray = field(default_factory=bytearray)
    refusals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        nobody = Guest(frozenset())
        self.session = Session(
            self.exports, self.budget, self.pool, self._roused, nobody, Security.REQUIRED
        )
        self.channel = self.tls_channel = TlsChannel(
            self.session,
            self.credentials,
            self.offload,
            self._roused,
            lambda names: Guest(self.allow.volumes(APPLIANCE, names), self.refusals.append),
            self.refusals.append,
        )
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_hostname=APPLIANCE,
            session=self.session_to_resume,
        )
        self.secure = False

    def start_tls(self) -> None:
        """Up to the appliance's consent."""
        self.greet()
        assert self.ask(wire.OPTION_STARTTLS) == [(wire.REPLY_ACK, b"")]

    def shake_hands(self) -> None:
        """Raises ssl.SSLError where the appliance refuses while hands are shaken."""
        self.secure = True
        for _ in range(10):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._carry()
            else:
                self._carry()
                return
        raise AssertionError("the handshake does not end")

    def is_over(self) -> bool:
        """May the socket be closed?"""
        return self.channel.over

    def tell(self, data: bytes) -> int:
        if not self.secure:
            return super().tell(data)
        self.tls.write(data)
        self._carry()
        return len(data)

    def settle(self, at_most: int = 1 << 30) -> None:
        """Raises ssl.SSLError if the appliance has sent an alert."""
        if not self.secure:
            super().settle(at_most)
            return
        self._carry()
        try:
            while True:
                data = self.tls.read(1 << 20)
                if not data:
                    return
                self.said += data
        except ssl.SSLWantReadError:
            return

    def _carry(self) -> None:
        """What is encrypted, to and fro, until neither side has more to say."""
        moved = True
        while moved:
            data = self.outgoing.read()
            moved = bool(data)
            for start in range(0, len(data), self.split):
                piece = data[start : start + self.split]
                while piece and not self.channel.over:
                    taken = super().tell(piece)
                    piece = piece[taken:]
                    self._receive()
            moved |= self._receive()

    def _receive(self) -> bool:
        received = False
        while chunks := self.channel.output():
            data = b"".join(chunks)
            self.incoming.write(data)
            self.raw += data
            self.channel.sent(len(data))
            received = True
        if self.channel.stalled:
            self.channel.proceed()
        return received
