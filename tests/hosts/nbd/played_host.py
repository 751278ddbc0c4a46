"""The other end of a session, without a socket: what is told it, and its replies taken apart."""

import struct
from dataclasses import dataclass, field

from appliance.cdp.memory import BufferPool
from appliance.hosts.nbd import wire
from appliance.hosts.nbd.budget import Budget
from appliance.hosts.nbd.channel import Channel
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.session import Session
from tests.hosts.nbd import host_words
from tests.hosts.nbd.host_words import Reply, info_or_go, option


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    error: int = 0
    data: bytes = b""
    message: str = ""


@dataclass
class PlayedHost:
    """A session and what it said.  `reads` keeps the lengths of READs asked, by cookie."""

    exports: Exports
    budget: Budget = field(default_factory=lambda: Budget(lambda: None))
    pool: BufferPool = field(default_factory=BufferPool)
    reads: dict[int, int] = field(default_factory=dict)
    said: bytearray = field(default_factory=bytearray)
    rousings: int = 0

    def __post_init__(self) -> None:
        self.session = Session(self.exports, self.budget, self.pool, self._roused)
        self.channel: Channel = self.session

    def _roused(self) -> None:
        self.rousings += 1

    def tell(self, data: bytes) -> int:
        """Send as much of `data` as the session reads; how much that was."""
        sent = 0
        while sent < len(data):
            space = self.channel.receive_buffer()
            if not space:
                break
            count = min(len(space), len(data) - sent)
            space[:count] = data[sent : sent + count]
            sent += count
            self.channel.received(count)
        return sent

    def settle(self, at_most: int = 1 << 30) -> None:
        """Take up to `at_most` bytes of replies, as the listener would."""
        while at_most and (chunks := self.channel.output()):
            data = b"".join(chunks)[:at_most]
            at_most -= len(data)
            self.said += data
            self.channel.sent(len(data))
        if self.channel.stalled:
            self.channel.proceed()

    def take(self, count: int) -> bytes:
        self.settle()
        assert len(self.said) >= count, f"{count} bytes wanted, {len(self.said)} came"
        taken = bytes(memoryview(self.said)[:count])
        del self.said[:count]
        return taken

    def greet(self, flags: int = wire.FIXED_NEWSTYLE | wire.NO_ZEROES) -> None:
        host_words.greet(self.take, self.tell, flags)

    def ask(self, number: int, data: bytes = b"") -> list[Reply]:
        """Send an option and collect its replies."""
        self.tell(option(number, data))
        return self.replies(number)

    def replies(self, number: int) -> list[Reply]:
        """Those to an option, to the last."""
        return host_words.replies(self.take, number)

    def go(self, name: str, structured: bool = False) -> None:
        """Greet and enter transmission."""
        self.greet()
        if structured:
            assert self.ask(wire.OPTION_STRUCTURED_REPLY) == [(wire.REPLY_ACK, b"")]
        self.tell(info_or_go(wire.OPTION_GO, name))
        assert self.replies(wire.OPTION_GO)[-1] == (wire.REPLY_ACK, b"")

    def answers(self) -> list[tuple[int, Answer]]:
        """Cookie and answer of each whole reply that came, in the order of arrival."""
        self.settle()
        found: list[tuple[int, Answer]] = []
        while self.said:
            (magic,) = wire.LENGTH.unpack_from(self.said)
            found.append(self._simple() if magic == wire.SIMPLE_MAGIC else self._chunk())
        return found

    def _simple(self) -> tuple[int, Answer]:
        magic, error, cookie = wire.SIMPLE_REPLY.unpack(self.take(wire.SIMPLE_REPLY.size))
        assert magic == wire.SIMPLE_MAGIC
        length = self.reads.get(cookie, 0) if not error else 0
        return cookie, Answer(error, self.take(length))

    def _chunk(self) -> tuple[int, Answer]:
        magic, flags, kind, cookie, length = struct.unpack(">IHHQI", self.take(20))
        assert (magic, flags) == (wire.STRUCTURED_MAGIC, wire.CHUNK_DONE)
        body = self.take(length)
        if kind == wire.CHUNK_OFFSET_DATA:
            return cookie, Answer(0, body[8:])
        assert kind == wire.CHUNK_ERROR
        error, message_length = struct.unpack_from(">IH", body)
        assert message_length == length - 6
        return cookie, Answer(error, message=body[6:].decode())
