"""One host's socket on the loop, and the session and channel behind it."""

import logging
import socket
from collections.abc import Callable
from typing import Final

from appliance.hosts.nbd.channel import Channel
from appliance.hosts.nbd.session import Session
from appliance.loop import Loop

SENT_AT_ONCE: Final = 1 << 20
"""Bytes to one host in one turn, before others have theirs."""

logger = logging.getLogger(__name__)


class Connection:
    """A socket and its session.  `gone` is called when nothing of it is left.

    `address` is empty for a host on the Unix socket; `number` grows with each connection.
    """

    def __init__(
        self,
        loop: Loop,
        peer: socket.socket,
        address: str,
        number: int,
        session: Session,
        channel: Channel,
        gone: "Callable[[Connection], None]",
    ) -> None:
        self.session = session
        self.address = address
        self.number = number
        self.quiet_seconds = 0
        """Since the last byte was moved."""
        self.phase_seconds = 0
        """Spent in negotiation, or on the way out."""
        self._loop = loop
        self._socket = peer
        self._channel = channel
        self._gone = gone
        self._waits_for: tuple[bool, bool] = (False, False)
        self._blocked = False

    def settle(self) -> None:
        """Send what there is, go on with what was held up, and wait for the right events."""
        session, channel = self.session, self._channel
        if session.closed:
            if not session.in_flight:
                self._gone(self)
            return
        if not self._send():
            self.drop("the host is gone")
            return
        if channel.stalled:
            channel.proceed()
        if channel.over:
            self.drop(channel.fault)
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
        self._channel.close()
        if not self.session.in_flight:
            self._gone(self)

    def _receive(self) -> None:
        space = self._channel.receive_buffer()
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
            self._channel.received(count)
        except Exception:
            self.drop("an error of ours")
            raise

    def _writable(self) -> None:
        self._blocked = False
        self.settle()

    def _send(self) -> bool:
        """Send until all is sent, the socket is full, or others shall have their turn.

        False if the host is gone.
        """
        channel, left = self._channel, SENT_AT_ONCE
        chunks = channel.output()
        while chunks and not self._blocked:
            try:
                count = self._socket.sendmsg(chunks)
            except BlockingIOError:
                self._blocked = True
            except OSError:
                return False
            else:
                self.quiet_seconds = 0
                channel.sent(count)
                left -= count
                if left < 0:
                    self._blocked = True
                    return True
                chunks = channel.output()
        return True

    def _wait(self) -> None:
        """Have the loop call back for what the session can use now, and for nothing else.

        A socket that is neither read nor written is not registered at all: a
        hang-up would wake the loop over and over.
        """
        reading = self._channel.reading
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
