"""A host on the network, attached to the box over NBD with TLS.

It speaks the plain protocol (numbers of appliance.hosts.nbd.wire, which follow its public
specification) because a test must know, of every single request, whether its answer came.
"""

import errno
import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, Self

from appliance.hosts.nbd import wire
from hil_tests.oracle import BLOCK, Oracle, content
from tests.hosts.nbd import host_words

BOX_NAME: Final = "box.ebbtide.test"
"""What the box's certificate must say."""
ANSWER_SECONDS: Final = 120
"""A box under TCG takes its time; one that is gone is noticed by the test sooner."""
READS_AT_ONCE: Final = 16


class Unreachable(Exception):
    """No connection, or not to a volume of that name."""


class Lost(Exception):
    """The connection ended; what was asked for last has no answer."""


class Failed(OSError):
    """The box answered with an error."""


class Attachment:
    """One volume, or view, on one host.  From one thread."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, export: str) -> None:
        """Raises Unreachable."""
        self.export = export
        self._cookie = 0
        try:
            self._socket = socket.create_connection(address, ANSWER_SECONDS)
        except OSError as error:
            raise Unreachable(f"{export} at {address[0]}: {error}") from error
        self._stream = self._socket.makefile("rwb")
        try:
            self._negotiate(context)
        except (OSError, Lost, host_words.ExportRefusedError) as error:
            self._hang_up()
            raise Unreachable(f"{export} at {address[0]}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Politely, if anybody is there."""
        try:
            self.send(wire.COMMAND_DISC)
        except Lost:
            pass
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.close()
        self._socket.close()

    def sever(self) -> None:
        """From another thread: whoever waits for an answer gets Lost."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    # One request after the other.  All raise Lost and Failed.

    def read(self, offset: int, length: int) -> bytes:
        return self._ask(wire.COMMAND_READ, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        self._ask(wire.COMMAND_WRITE, offset, len(data), data)

    def flush(self) -> None:
        self._ask(wire.COMMAND_FLUSH)

    def read_blocks(self, blocks: Iterable[int], block: int = BLOCK) -> list[tuple[int, bytes]]:
        """Each with its number, in their order; some are under way at once."""
        wanted, asked, found = list(blocks), dict[int, int](), dict[int, bytes]()
        todo = iter(wanted)
        while len(found) < len(wanted):
            for number in islice(todo, READS_AT_ONCE - len(asked)):
                asked[self.send(wire.COMMAND_READ, number * block, block)] = number
            cookie, error, data = self.receive(dict.fromkeys(asked, block))
            if error:
                raise Failed(error, errno.errorcode.get(error, "unknown"))
            found[asked.pop(cookie)] = data
        return [(number, found[number]) for number in wanted]

    def _ask(self, command: int, offset: int = 0, length: int = 0, data: bytes = b"") -> bytes:
        cookie = self.send(command, offset, length, data)
        answered, error, data = self.receive({cookie: length if not data else 0})
        if answered != cookie:
            raise Lost(f"an answer to {answered}, which nobody asked")
        if error:
            raise Failed(error, errno.errorcode.get(error, "unknown"))
        return data

    # Many under way.

    def send(self, command: int, offset: int = 0, length: int = 0, data: bytes = b"") -> int:
        """Returns the cookie of the request.  Raises Lost."""
        self._cookie += 1
        self._put(host_words.request(command, offset, length, cookie=self._cookie, payload=data))
        return self._cookie

    def receive(self, reads: dict[int, int]) -> tuple[int, int, bytes]:
        """Cookie, error and data of the next answer; `reads` has the lengths of reads, by cookie.

        Raises Lost.
        """
        head = self._take(wire.SIMPLE_REPLY.size)
        magic, error, cookie = wire.SIMPLE_REPLY.unpack(head)
        if magic != wire.SIMPLE_MAGIC:
            raise Lost(f"no answer begins with {magic:#x}")
        return cookie, error, self._take(0 if error else reads.get(cookie, 0))

    # The way in

    def _negotiate(self, context: ssl.SSLContext) -> None:
        host_words.greet(self._take, self._put)
        host_words.start_tls(self._take, self._put)
        self._stream.close()
        self._socket = context.wrap_socket(self._socket, server_hostname=BOX_NAME)
        self._stream = self._socket.makefile("rwb")
        self.size, _ = host_words.go(self._take, self._put, self.export)

    def _put(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise Lost(f"{self.export}: {error}") from error

    def _take(self, count: int) -> bytes:
        try:
            data = self._stream.read(count)
        except (OSError, ValueError) as error:
            raise Lost(f"{self.export}: {error}") from error
        if len(data) < count:
            raise Lost(f"{self.export}: the box hung up")
        return data


@dataclass(frozen=True)
class Host:
    """A host that the box lets in."""

    address: tuple[str, int]
    certificates: Path
    attachments: list[Attachment] = field(default_factory=list)

    def attach(self, export: str) -> Attachment:
        """Raises Unreachable."""
        attachment = Attachment(self.address, self._context(), export)
        self.attachments.append(attachment)
        return attachment

    def leave(self) -> None:
        """Whatever is attached still, as after a test that failed."""
        for attachment in self.attachments:
            attachment.sever()
            attachment.close()

    def load(self, export: str, seed: int, blocks: int = 256) -> "Load":
        """A load that has begun."""
        load = Load(self.attach(export), Random(seed), blocks)
        load.start()
        return load

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.certificates / "ca.pem"))
        context.load_cert_chain(self.certificates / "host.pem", self.certificates / "host.key")
        return context


@dataclass
class Load:
    """Writes to the first `blocks` blocks at random, some under way at once, with a flush now and
    then, until it is stopped or cut off; the oracle knows all of it."""

    attachment: Attachment
    random: Random
    blocks: int
    depth: int = 8
    oracle: Oracle = field(default_factory=Oracle)
    failed: list[int] = field(default_factory=list)
    """Errors that the box answered with."""

    def __post_init__(self) -> None:
        self._news = threading.Condition()
        self._stops = False
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def await_writes(self, count: int, flushed: bool = True, timeout: float = 120) -> None:
        """Until so many were answered since now, and a flush since then."""
        with self._news:
            until = len(self.oracle.confirmed) + count
            ended = not self._news.wait_for(
                lambda: (
                    not self._thread.is_alive()
                    or len(self.oracle.durable if flushed else self.oracle.confirmed) >= until
                ),
                timeout,
            )
            if ended or not self._thread.is_alive():
                raise Lost(f"after {len(self.oracle.confirmed)} of {until} writes")

    def stop(self) -> Oracle:
        """All that was asked is answered, and flushed, unless the box is gone."""
        self._stops = True
        self._thread.join(ANSWER_SECONDS)
        self.attachment.close()
        return self.oracle

    def cut_off(self) -> Oracle:
        """The box is gone, and with it all that is not answered yet."""
        self.attachment.sever()
        self._thread.join(ANSWER_SECONDS)
        self.attachment.close()
        return self.oracle

    def _run(self) -> None:
        under_way: dict[int, int] = {}
        flushes: dict[int, frozenset[int]] = {}
        try:
            while not self._stops:
                while len(under_way) < self.depth:
                    self._write(under_way)
                if not flushes and self.random.random() < 0.05:
                    self._flush(flushes)
                self._answer(under_way, flushes)
            while under_way or flushes:
                self._answer(under_way, flushes)
            self._flush(flushes)
            self._answer(under_way, flushes)
        except Lost:
            pass
        finally:
            with self._news:
                self._news.notify_all()

    def _write(self, under_way: dict[int, int]) -> None:
        write = self.oracle.issue(self.random.randrange(self.blocks))
        data = content(write.number)
        cookie = self.attachment.send(wire.COMMAND_WRITE, write.block * BLOCK, BLOCK, data)
        under_way[cookie] = write.number

    def _flush(self, flushes: dict[int, frozenset[int]]) -> None:
        covered = self.oracle.before_flush()
        flushes[self.attachment.send(wire.COMMAND_FLUSH)] = covered

    def _answer(self, under_way: dict[int, int], flushes: dict[int, frozenset[int]]) -> None:
        cookie, error, _ = self.attachment.receive({})
        with self._news:
            if cookie in flushes:
                covered = flushes.pop(cookie)
                if not error:
                    self.oracle.flushed(covered)
            elif not error:
                self.oracle.confirm(under_way.pop(cookie))
            else:
                under_way.pop(cookie)
            if error:
                self.failed.append(error)
            self._news.notify_all()
