"""What lies between a socket's bytes and a session: nothing, or TLS.

A session in the clear is its own channel.  `TlsChannel` has the same face: it
passes the clear through up to the answer to STARTTLS, and from there on TLS
between the socket and the session, out of memory on both sides and without a
socket of its own.

Invariants:

* Between the answer to STARTTLS and the end of the handshake the session is
  given no byte, and afterwards only what was decrypted.  (Whoever has spoken on
  behind STARTTLS is sent away by the session.)
* Nothing is read from the socket until the answer to STARTTLS has left, nor
  while a step of the handshake is computed.  Those steps cost milliseconds
  (files, a signature, a chain of certificates) and run beside the loop.
* What is decrypted goes straight into the session's own buffer, no more than
  it asks for: what a session does not want waits, encrypted, and the socket is
  not read.  One slice of answers is encrypted at a time, and the next only
  when that has left.
* A session that ends in order says farewell (close_notify) behind its last
  answer; a handshake that fails sends its alert.
"""

import ssl
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

from appliance.cdp.tasks import Completion
from appliance.errors import BadSettings
from appliance.hosts.nbd.buffers import RING, Chunk
from appliance.hosts.nbd.credentials import Attempt, Credentials
from appliance.hosts.nbd.guests import Guest
from appliance.hosts.nbd.session import Phase, Session

SLICE: Final = 256 << 10
"""Bytes of answers that are encrypted in one go."""
_NOWHERE: Final = memoryview(b"")


class Channel(Protocol):
    """What a connection needs between its socket and its session; see `Session`."""

    @property
    def reading(self) -> bool: ...

    @property
    def stalled(self) -> bool: ...

    @property
    def over(self) -> bool: ...

    @property
    def fault(self) -> str: ...

    def receive_buffer(self) -> memoryview: ...

    def received(self, count: int) -> None: ...

    def output(self) -> list[Chunk]: ...

    def sent(self, count: int) -> None: ...

    def proceed(self) -> None: ...

    def close(self) -> None: ...


class Stage(Enum):
    CLEAR = "clear"
    SHAKING = "shaking hands"
    OPEN = "open"
    FAREWELL = "farewell"
    """Only what is encrypted already still leaves."""
    CLOSED = "closed"


class TlsChannel:
    """See the module.

    `offload` runs a step of the handshake beside the loop.  `wake` is called
    when there may be something to send or to read again.  `admit` makes a guest
    of the names that the host has proved; `refused` is told why it proved none.
    """

    def __init__(
        self,
        session: Session,
        credentials: Credentials,
        offload: Callable[[Callable[[], None]], Completion[None]],
        wake: Callable[[], None],
        admit: Callable[[frozenset[str]], Guest],
        refused: Callable[[str], None],
    ) -> None:
        self.stage = Stage.CLEAR
        self._session = session
        self._credentials = credentials
        self._offload = offload
        self._wake = wake
        self._admit = admit
        self._refused = refused
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._attempt: Attempt | None = None
        self._computing = False
        self._undecrypted = False
        """The session wanted no more; there may be some."""
        self._fault = ""
        self._unsent: memoryview = _NOWHERE
        self._space: memoryview = _NOWHERE

    @property
    def fault(self) -> str:
        return self._fault or self._session.fault

    @property
    def reading(self) -> bool:
        if self.stage is Stage.SHAKING:
            return not self._computing and not self._session.over
        if self.stage in {Stage.CLEAR, Stage.OPEN}:
            return self._session.reading and not self._undecrypted
        return False

    @property
    def stalled(self) -> bool:
        return self._session.stalled or (self._undecrypted and self._session.reading)

    @property
    def over(self) -> bool:
        if self.stage in {Stage.CLEAR, Stage.SHAKING}:
            return self._session.over
        return self.stage is not Stage.OPEN and not self._unsent

    def receive_buffer(self) -> memoryview:
        if self.stage is Stage.CLEAR:
            return self._session.receive_buffer()
        return self._space if self.reading else _NOWHERE

    def received(self, count: int) -> None:
        if self.stage is Stage.CLEAR:
            self._session.received(count)
            return
        self._incoming.write(self._space[:count])
        if self.stage is Stage.SHAKING:
            self._shake()
        else:
            self._decrypt()

    def output(self) -> list[Chunk]:
        if self.stage is Stage.CLEAR:
            return self._session.output()
        if not self._unsent:
            self._collect()
            if not self._unsent and self.stage is Stage.OPEN:
                self._encrypt()
                self._collect()
        return [self._unsent] if self._unsent else []

    def sent(self, count: int) -> None:
        if self.stage is not Stage.CLEAR:
            self._unsent = self._unsent[count:]
            return
        self._session.sent(count)
        if self._session.phase is Phase.SECURING and not self._session.output():
            self._begin()

    def proceed(self) -> None:
        self._session.proceed()
        if self._undecrypted:
            self._decrypt()

    def close(self) -> None:
        self.stage = Stage.CLOSED
        self._unsent = _NOWHERE
        self._session.close()

    def _begin(self) -> None:
        """The answer to STARTTLS has left."""
        self.stage = Stage.SHAKING
        self._space = memoryview(bytearray(RING))

    def _shake(self) -> None:
        self._computing = True
        step = self._offload(self._step)
        step.when_finished(lambda: self._shaken(step))

    def _step(self) -> None:
        """Runs on another thread; nothing else touches what it uses meanwhile."""
        if self._attempt is None:
            self._attempt = self._credentials.attempt(self._incoming, self._outgoing)
        self._attempt.tls.do_handshake()

    def _shaken(self, step: Completion[None]) -> None:
        self._computing = False
        if self.stage is not Stage.SHAKING:
            return
        try:
            step.result()
        except ssl.SSLWantReadError:
            pass
        except (OSError, BadSettings) as error:
            reason = f"TLS handshake: {_reason(error)}"
            self._refused(reason)
            self._fail(reason)
        else:
            assert self._attempt is not None
            self.stage = Stage.OPEN
            self._session.secured(self._admit(self._attempt.names()))
            self._decrypt()
        self._wake()

    def _decrypt(self) -> None:
        """Give the session what came, as far as it wants it."""
        session = self._session
        self._undecrypted = False
        try:
            while session.reading:
                session.received(self._read_into(session.receive_buffer()))
            self._undecrypted = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            session.finish()
        except OSError as error:
            self._fail(f"TLS: {_reason(error)}")
        if self._outgoing.pending:
            self._wake()

    def _read_into(self, space: memoryview) -> int:
        """Decrypt what is there, up to as much; raises the library's reason if that is nothing."""
        assert self._attempt is not None
        read, filled = self._attempt.tls.read, 0
        try:
            while filled < len(space):  # one call of the library gives one record at most
                count = int(read(len(space) - filled, space[filled:]))
                if not count:
                    raise ssl.SSLZeroReturnError
                filled += count
        except OSError:
            if not filled:
                raise
        return filled

    def _encrypt(self) -> None:
        """The next slice of answers, or the farewell."""
        assert self._attempt is not None
        session, tls = self._session, self._attempt.tls
        try:
            if not session.fault:
                piece = _slice(session.output())
                if piece:
                    session.sent(tls.write(piece))
                    return
            if session.over:
                self.stage = Stage.FAREWELL
                tls.unwrap()
        except ssl.SSLWantReadError:  # the host's own farewell is not waited for
            pass
        except OSError as error:
            self._fail(f"TLS: {_reason(error)}")

    def _collect(self) -> None:
        if self._outgoing.pending:
            self._unsent = memoryview(self._outgoing.read())

    def _fail(self, fault: str) -> None:
        self._fault = fault
        self.stage = Stage.FAREWELL
        self._session.finish()
        self._collect()


def _slice(chunks: list[Chunk]) -> Chunk:
    """The front of the chunks as one: what is written apart is a record apart, and those cost."""
    if len(chunks) == 1:
        return memoryview(chunks[0])[:SLICE]
    front: list[Chunk] = []
    room = SLICE
    for chunk in chunks:
        front.append(memoryview(chunk)[:room])
        room -= len(front[-1])
        if not room:
            break
    return b"".join(front)


def _reason(error: OSError | BadSettings) -> str:
    if isinstance(error, BadSettings):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error)
