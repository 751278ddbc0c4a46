"""Requests out of a host's bytes, replies out of their completions.

The path of a WRITE through `_take_usual` and `_completed` runs tens of
thousands of times a second: requests are unpacked and their payload is handed
on where it was received, the account is settled once a batch, and a reply is
sixteen bytes added to the outbox's tail.  Whatever is rare goes through
`_take_unusual`.

Requests complete, and are answered, in any order.
"""

import errno
from collections.abc import Callable
from typing import Final

from appliance.cdp.interfaces import DISCARD, FLUSH, READ, WRITE, ZERO, HostRequest
from appliance.cdp.memory import Buffer, BufferPool
from appliance.hosts.nbd import wire
from appliance.hosts.nbd.budget import Account
from appliance.hosts.nbd.buffers import Inbox, Outbox
from appliance.hosts.nbd.exports import Export

IN_PLACE: Final = 64 << 10
"""Payloads up to this length wait for their last byte in the inbox."""
MAX_IN_FLIGHT: Final = 1024

_SIMPLE: Final = wire.SIMPLE_REPLY.pack
_SIMPLE_MAGIC: Final = wire.SIMPLE_MAGIC

KINDS: Final = {
    wire.COMMAND_READ: READ,
    wire.COMMAND_WRITE: WRITE,
    wire.COMMAND_FLUSH: FLUSH,
    wire.COMMAND_TRIM: DISCARD,
    wire.COMMAND_WRITE_ZEROES: ZERO,
}
ALLOWED_FLAGS: Final = {
    wire.COMMAND_READ: wire.FLAG_FUA | wire.FLAG_DF,
    wire.COMMAND_WRITE: wire.FLAG_FUA,
    wire.COMMAND_FLUSH: wire.FLAG_FUA,
    wire.COMMAND_TRIM: wire.FLAG_FUA,
    wire.COMMAND_CACHE: wire.FLAG_FUA,
    wire.COMMAND_WRITE_ZEROES: wire.FLAG_FUA | wire.FLAG_NO_HOLE | wire.FLAG_FAST_ZERO,
}


class Transmission:
    """The phase after negotiation.

    `in_flight` counts requests that the target has not completed.  `stalled`:
    parsing stopped short of what was received, for want of room; `take` tries
    again.  `ended`: the host said that it is done, or broke the protocol
    (`fault` says how).  `drained` is called when the last request in flight
    completes after `abandon`.
    """

    def __init__(
        self,
        export: Export,
        structured: bool,
        inbox: Inbox,
        outbox: Outbox,
        account: Account,
        pool: BufferPool,
        drained: Callable[[], None],
    ) -> None:
        self.in_flight = 0
        self.stalled = False
        self.ended = False
        self.fault = ""
        self._target = export.target
        self._fast_zero = export.fast_zero
        self._structured = structured
        self._inbox = inbox
        self._outbox = outbox
        self._account = account
        self._pool = pool
        self._drained = drained
        self._abandoned = False
        self.large: HostRequest | None = None
        """A WRITE whose payload is being received into memory of its own."""
        self._large_buffer: Buffer | None = None
        self._large_end = 0
        self._done = self._completed

    def large_space(self) -> memoryview:
        """Where the rest of the `large` payload is to be received."""
        assert self.large is not None
        assert self._large_buffer is not None
        return self._large_buffer.view[self._large_end : self.large.length]

    def large_received(self, count: int) -> None:
        """`count` bytes were put into `large_space`."""
        self._large_end += count
        request = self.large
        if request is not None and self._large_end == request.length:
            self.large = None
            self.in_flight += 1
            self._target.submit(request)
            self._drop_large_buffer()

    def take(self) -> None:
        """Parse and submit as far as input and room go."""
        self.stalled = False
        inbox = self._inbox
        more = inbox.skipped()
        while more:
            if self._outbox.backlogged:
                self.stalled = True
                self._account.leave()
                return
            self._take_usual()
            more = inbox.end - inbox.start >= wire.REQUEST.size and self._take_unusual()
        if not self.stalled:
            self._account.leave()

    def stop_reading(self) -> None:
        """Nothing more is taken; an unfinished payload is dropped."""
        self.stalled = False
        request, self.large = self.large, None
        if request is not None:
            self._drop_large_buffer()
            self._account.give_back(request.length)

    def abandon(self) -> None:
        """The host is gone: what completes from now on is not answered."""
        self._abandoned = True

    def _take_usual(self) -> None:
        """Submit READs and whole WRITEs, up to the first request that is neither."""
        inbox, account = self._inbox, self._account
        submit, done, view = self._target.submit, self._done, inbox.view
        unpack, magic_wanted, header = wire.REQUEST.unpack_from, wire.REQUEST_MAGIC, 28
        start, end = inbox.start, inbox.end
        last = end - header
        before = room = account.room()
        slots = MAX_IN_FLIGHT - self.in_flight
        try:
            while start <= last and slots:
                magic, flags, command, cookie, offset, length = unpack(view, start)
                if flags > 1 or not 0 < length <= room or magic != magic_wanted:
                    return
                stop = start + header
                if command == WRITE:
                    data, stop = stop, stop + length
                    if stop > end:
                        return
                    payload = view[data:stop]
                elif command == READ and length <= wire.LARGEST_REQUEST:
                    payload = None
                else:
                    return
                start = stop
                room -= length
                slots -= 1
                submit(HostRequest(command, offset, length, done, flags == 1, payload, cookie))
        finally:
            inbox.start = start
            account.take(before - room)
            self.in_flight = MAX_IN_FLIGHT - slots

    def _take_unusual(self) -> bool:
        """Take the request at the front of the inbox; False when no more can be taken now."""
        inbox = self._inbox
        magic, flags, command, cookie, offset, length = wire.REQUEST.unpack_from(
            inbox.view, inbox.start
        )
        if magic != wire.REQUEST_MAGIC:
            self.ended, self.fault = True, "a request without its magic"
            return False
        if command == wire.COMMAND_DISC:
            self.ended = True
            return False
        if self.in_flight >= MAX_IN_FLIGHT:
            self.stalled = True
            self._account.leave()
            return False
        data = inbox.start + wire.REQUEST.size
        error = self._objection(flags, command, offset, length)
        if error:
            inbox.start = data
            payload_length = length if command == wire.COMMAND_WRITE else 0
            inbox.skip(payload_length, lambda: self._refuse(cookie, error))
            return inbox.skipped()
        if command == wire.COMMAND_CACHE:
            inbox.start = data
            self._outbox.say(_SIMPLE(_SIMPLE_MAGIC, 0, cookie))
            return True
        payload = None
        if command in {wire.COMMAND_READ, wire.COMMAND_WRITE}:
            if length > self._account.room():
                self.stalled = True
                self._account.wait_for(length)
                return False
            if command == wire.COMMAND_WRITE:
                if data + length > inbox.end:
                    if length > IN_PLACE:
                        self._start_large(flags, cookie, offset, length)
                    return False
                payload = inbox.view[data : data + length]
                data += length
            self._account.take(length)
        inbox.start = data
        self.in_flight += 1
        fua = bool(flags & wire.FLAG_FUA)
        self._target.submit(
            HostRequest(KINDS[command], offset, length, self._done, fua, payload, cookie, self)
        )
        return True

    def _objection(self, flags: int, command: int, offset: int, length: int) -> int:
        """The errno with which a request is refused before the target sees it, or 0.

        Alignment, and the range of what the target does, are the target's to judge.
        """
        known = ALLOWED_FLAGS.get(command)
        if known is None or flags & ~known or (flags & wire.FLAG_DF and not self._structured):
            return errno.EINVAL
        if command == wire.COMMAND_FLUSH:
            return errno.EINVAL if offset or length else 0
        if not length:
            return errno.EINVAL
        if command in {wire.COMMAND_READ, wire.COMMAND_WRITE} and length > wire.LARGEST_REQUEST:
            return errno.EOVERFLOW if flags & wire.FLAG_DF else errno.EINVAL
        if command == wire.COMMAND_CACHE and offset + length > self._target.size:
            return errno.EINVAL
        if flags & wire.FLAG_FAST_ZERO and not (self._fast_zero or self._target.read_only):
            return errno.ENOTSUP
        return 0

    def _start_large(self, flags: int, cookie: int, offset: int, length: int) -> None:
        """Receive the rest of a WRITE's payload into memory of its own."""
        inbox = self._inbox
        buffer = self._pool.get(length)
        here = inbox.end - inbox.start - wire.REQUEST.size
        buffer.view[:here] = inbox.view[inbox.end - here : inbox.end]
        inbox.start = inbox.end
        fua = bool(flags & wire.FLAG_FUA)
        payload = buffer.view[:length]
        self.large = HostRequest(WRITE, offset, length, self._done, fua, payload, cookie)
        self._large_buffer, self._large_end = buffer, here
        self._account.take(length)

    def _drop_large_buffer(self) -> None:
        buffer, self._large_buffer = self._large_buffer, None
        if buffer is not None:
            buffer.release()

    def _completed(self, request: HostRequest) -> None:
        """The `done` of every request."""
        self.in_flight -= 1
        if self._abandoned:
            self._completed_late(request)
            return
        outbox = self._outbox
        if request.kind == READ:
            self._answer_read(request)
        else:
            if request.kind == WRITE:
                self._account.give_back(request.length)
            if request.error:
                self._refuse(request.cookie, wire.error_on_the_wire(request.error))
            else:
                outbox.tail += _SIMPLE(_SIMPLE_MAGIC, 0, request.cookie)
        if not outbox.awake:
            outbox.rouse()

    def _answer_read(self, request: HostRequest) -> None:
        length = request.length
        if request.error:
            request.release()
            self._account.give_back(length)
            self._refuse(request.cookie, wire.error_on_the_wire(request.error))
            return
        if self._structured:
            self._outbox.tail += wire.DATA_CHUNK.pack(
                wire.STRUCTURED_MAGIC,
                wire.CHUNK_DONE,
                wire.CHUNK_OFFSET_DATA,
                request.cookie,
                length + 8,
                request.offset,
            )
        else:
            self._outbox.tail += _SIMPLE(_SIMPLE_MAGIC, 0, request.cookie)
        self._outbox.add_answer(request)

    def _completed_late(self, request: HostRequest) -> None:
        """The host is gone: only the memory remains to be let go."""
        request.release()
        if request.kind in {READ, WRITE}:
            self._account.give_back(request.length)
        if not self.in_flight:
            self._drained()

    def _refuse(self, cookie: int, error: int) -> None:
        if not self._structured:
            self._outbox.say(_SIMPLE(_SIMPLE_MAGIC, error, cookie))
            return
        message = wire.ERRORS[error].encode()
        header = wire.ERROR_CHUNK.pack(
            wire.STRUCTURED_MAGIC,
            wire.CHUNK_DONE,
            wire.CHUNK_ERROR,
            cookie,
            6 + len(message),
            error,
            len(message),
        )
        self._outbox.say(header + message)
