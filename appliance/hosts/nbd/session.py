"""One host connection without its socket: bytes in, bytes out, requests to a target.

The owner of the socket receives into `receive_buffer()` and says how much came
(`received`), sends what `output()` lists and says how much went (`sent`).  It
is told by `wake` that something has changed, at most once until it calls
`output()`.  After sending it calls `proceed()` if the session is `stalled`,
closes the socket if the session is `over`, and reads on only while `reading`.

What bounds memory, whatever the host does:

* Requests are read in place from one ring.  A long WRITE that has not arrived
  whole gets memory of its own, which counts in the shared budget from then on;
  so does every READ until its answer has left.
* While the budget has no room, too many requests are in flight, or too many
  bytes wait to be sent, nothing is parsed and `receive_buffer()` is empty: the
  socket is not read.
* What must be refused but has a payload is drained through the ring.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from appliance.cdp.memory import BufferPool
from appliance.hosts.nbd import wire
from appliance.hosts.nbd.budget import Account, Budget
from appliance.hosts.nbd.buffers import Chunk, Inbox, Outbox
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.guests import ANYBODY, Guest
from appliance.hosts.nbd.negotiation import Negotiation, Security
from appliance.hosts.nbd.transmission import Transmission

_NOWHERE: Final = memoryview(b"")


class Phase(Enum):
    GREETING = "greeting"
    OPTIONS = "options"
    SECURING = "securing"
    """STARTTLS is answered: nothing is taken in the clear any more."""
    REQUESTS = "requests"
    FINISHING = "finishing"
    """Nothing more is read; what is in flight finishes, and its answers leave."""
    CLOSED = "closed"
    """The socket is gone; what is in flight finishes, and its answers are dropped."""


# Looking up a member of an enumeration takes a fifth of a microsecond.
_GREETING, _OPTIONS, _SECURING, _REQUESTS, _FINISHING, _CLOSED = Phase


class Session:
    """See the module."""

    def __init__(
        self,
        exports: Exports,
        budget: Budget,
        pool: BufferPool,
        wake: Callable[[], None],
        guest: Guest = ANYBODY,
        security: Security = Security.NONE,
    ) -> None:
        self.phase = _GREETING
        self.fault = ""
        """Why the host was sent away, if it broke the protocol."""
        self._pool = pool
        self._account = Account(budget, self._admitted)
        self._inbox = Inbox(pool)
        self._outbox = Outbox(self._account, wake)
        self._negotiation = Negotiation(
            exports, self._outbox.say, self._outbox.rouse, self.finish, guest, security
        )
        self._transmission: Transmission | None = None
        self._waits_for_room = False
        """Options are left unparsed."""
        self._outbox.tail += wire.GREETING.pack(
            wire.GREETING_MAGIC, wire.OPTION_MAGIC, wire.FIXED_NEWSTYLE | wire.NO_ZEROES
        )

    @property
    def reading(self) -> bool:
        """`receive_buffer()` would not be empty."""
        phase = self.phase
        closed = phase is _FINISHING or phase is _CLOSED or phase is _SECURING
        return not (closed or self.stalled)

    @property
    def closed(self) -> bool:
        """The socket is gone."""
        return self.phase is _CLOSED

    @property
    def negotiating(self) -> bool:
        """It is the host's turn to say what it wants."""
        return self.phase in {_GREETING, _OPTIONS, _SECURING} and not self._negotiation.opening

    @property
    def stalled(self) -> bool:
        """Parsing stopped before the end of what was received; `proceed` tries again."""
        transmission = self._transmission
        return transmission.stalled if transmission is not None else self._waits_for_room

    @property
    def in_flight(self) -> int:
        """Requests that the target has not completed."""
        return self._transmission.in_flight if self._transmission is not None else 0

    @property
    def over(self) -> bool:
        """The socket may be closed."""
        if self.fault:
            return True
        return self.phase is _FINISHING and not self.in_flight and self._outbox.empty

    @property
    def idle(self) -> bool:
        """Nothing is held that only the host can set free, by sending or by taking answers."""
        transmission = self._transmission
        large = transmission is not None and transmission.large is not None
        return not self._account.held or (self._outbox.empty and not large)

    def receive_buffer(self) -> memoryview:
        """Where to receive; empty while the socket shall not be read."""
        if not self.reading:
            return _NOWHERE
        transmission = self._transmission
        if transmission is not None and transmission.large is not None:
            return transmission.large_space()
        return self._inbox.space()

    def received(self, count: int) -> None:
        """`count` bytes were put into the buffer last asked for."""
        transmission = self._transmission
        if transmission is not None and transmission.large is not None:
            transmission.large_received(count)
        else:
            self._inbox.end += count
        self.proceed()

    def proceed(self) -> None:
        """Parse what is there, as far as it is allowed to go on."""
        if self.phase is _GREETING:
            self._take_client_flags()
        if self.phase is _OPTIONS:
            self._take_options()
        transmission = self._transmission
        if self.phase is _REQUESTS and transmission is not None:
            transmission.take()
            if transmission.ended:
                self.fault = transmission.fault
                self.finish()

    def secured(self, guest: Guest) -> None:
        """TLS is there, and says who the host is; what comes from now on was encrypted."""
        if self.phase is _SECURING:
            self._negotiation.secured(guest)
            self.phase = _OPTIONS

    def output(self) -> list[Chunk]:
        """What to send next, in order; the buffers stay unchanged until `sent`."""
        return self._outbox.output()

    def sent(self, count: int) -> None:
        """`count` bytes of `output()` have left."""
        self._outbox.sent(count)

    def finish(self) -> None:
        """Read nothing more; finish what is in flight, and be `over` then."""
        if self.phase in {_FINISHING, _CLOSED}:
            return
        self.phase = _FINISHING
        self._waits_for_room = False
        if self._transmission is not None:
            self._transmission.stop_reading()
        self._account.leave()
        self._outbox.rouse()

    def close(self) -> None:
        """The socket is gone.  The export is let go when nothing is in flight any more."""
        if self.phase is _CLOSED:
            return
        self.finish()
        self.phase = _CLOSED
        self._outbox.clear()
        self._inbox.release()
        if self._transmission is not None:
            self._transmission.abandon()
        if not self.in_flight:
            self._negotiation.abandon()

    def _break(self, fault: str) -> None:
        """The host broke the protocol: nothing that it says from here on can be trusted."""
        self.fault = fault
        self.finish()

    def _admitted(self) -> None:
        """The budget has room again."""
        self.proceed()
        self._outbox.rouse()

    def _drained(self) -> None:
        """The socket went first, and now the last request in flight is done."""
        self._negotiation.abandon()
        self._outbox.rouse()

    def _take_client_flags(self) -> None:
        inbox = self._inbox
        if inbox.end - inbox.start < wire.CLIENT_FLAGS.size:
            return
        (flags,) = wire.CLIENT_FLAGS.unpack_from(inbox.view, inbox.start)
        inbox.start += wire.CLIENT_FLAGS.size
        if flags & ~(wire.FIXED_NEWSTYLE | wire.NO_ZEROES):
            self._break(f"unknown client flags {flags:#x}")
            return
        self._negotiation.no_zeroes = bool(flags & wire.NO_ZEROES)
        self.phase = _OPTIONS

    def _take_options(self) -> None:
        self._waits_for_room = False
        negotiation = self._negotiation
        while negotiation.outcome == "haggling" and self._take_option():
            pass
        if negotiation.outcome == "transmission":
            assert negotiation.lease is not None
            self._transmission = Transmission(
                negotiation.lease.export,
                negotiation.structured,
                self._inbox,
                self._outbox,
                self._account,
                self._pool,
                self._drained,
            )
            self.phase = _REQUESTS
        elif negotiation.outcome == "securing":
            self.phase = _SECURING
            if self._inbox.start != self._inbox.end:
                # Not of this host, perhaps: whoever is between could have put it there.
                self._break("it speaks on in the clear behind STARTTLS")
        elif negotiation.outcome == "farewell":
            self.finish()
        elif negotiation.outcome == "broken":
            self._break(negotiation.fault)

    def _take_option(self) -> bool:
        """Answer the option at the front of the inbox; False when that is not possible now."""
        inbox, negotiation = self._inbox, self._negotiation
        if not inbox.skipped():
            return False
        if negotiation.opening or self._outbox.backlogged:
            self._waits_for_room = True
            return False
        data = inbox.start + wire.OPTION.size
        if data > inbox.end:
            return False
        magic, option, length = wire.OPTION.unpack_from(inbox.view, inbox.start)
        if magic != wire.OPTION_MAGIC:
            self._break("an option without its magic")
            return False
        if length > wire.LARGEST_OPTION:
            inbox.start = data
            inbox.skip(length, lambda: negotiation.refuse_size(option))
        elif data + length <= inbox.end:
            inbox.start = data + length
            negotiation.take(option, bytes(inbox.view[data : data + length]))
        else:
            return False
        return True
