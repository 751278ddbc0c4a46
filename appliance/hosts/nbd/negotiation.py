"""Option haggling: what a host asks about exports before it uses one.

One option is answered at a time, and opening an export may take turns of the
loop; the session feeds the next option when `opening` is over.  An INFO keeps
the export it asked about open, since a GO for the same name usually follows.

Where TLS is required nothing is answered before it but STARTTLS and ABORT, so
that what is said in the clear, by the host or by somebody between, leaves no
trace in what comes after.
"""

import logging
from collections.abc import Callable
from enum import Enum
from struct import Struct
from typing import Final, Literal

from appliance.errors import EbbtideError, HostNotAllowed
from appliance.hosts.nbd import wire
from appliance.hosts.nbd.exports import Export, Exports, Lease
from appliance.hosts.nbd.guests import Guest

PREFERRED_BLOCK: Final = 4096

Outcome = Literal["haggling", "securing", "transmission", "farewell", "broken"]


class Security(Enum):
    """What of TLS this connection has."""

    NONE = "none"
    REQUIRED = "required"
    DONE = "done"


logger = logging.getLogger(__name__)


def export_flags(export: Export, structured: bool) -> int:
    """The transmission flags that are true of this export."""
    flags = wire.EXPORT_HAS_FLAGS | wire.EXPORT_SEND_FLUSH | wire.EXPORT_SEND_FUA
    flags |= wire.EXPORT_SEND_CACHE
    if export.target.read_only:
        flags |= wire.EXPORT_READ_ONLY
    else:
        flags |= wire.EXPORT_SEND_TRIM | wire.EXPORT_SEND_WRITE_ZEROES | wire.EXPORT_SEND_FAST_ZERO
    if structured:
        flags |= wire.EXPORT_SEND_DF
    if export.can_multi_conn:
        flags |= wire.EXPORT_CAN_MULTI_CONN
    return flags


def _sentence(error: Exception) -> str:
    """Why an export cannot be had, for the host."""
    if isinstance(error, EbbtideError):
        return str(error)
    logger.error("opening an export failed", exc_info=error)
    return "the export could not be opened"


class Malformed(Exception):
    """The data of an option does not read as what it must be."""


class OptionData:
    """The data of one option, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def number(self, layout: Struct) -> int:
        if len(self._rest) < layout.size:
            raise Malformed("the option is cut short")
        (number,) = layout.unpack_from(self._rest)
        self._rest = self._rest[layout.size :]
        return int(number)

    def text(self) -> str:
        """A length and that many bytes of UTF-8."""
        length = self.number(wire.LENGTH)
        raw, self._rest = self._rest[:length], self._rest[length:]
        if len(raw) < length:
            raise Malformed("the option is cut short")
        return export_name(raw)

    def end(self) -> None:
        if self._rest:
            raise Malformed("the option has bytes to spare")


def export_name(raw: bytes) -> str:
    """A name as hosts send it."""
    if len(raw) > wire.LONGEST_STRING:
        raise Malformed("the name is too long")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Malformed("the name is not UTF-8") from None


class Negotiation:
    """Answers options with `send`; `outcome` says what comes after the last one.

    `changed` is called when an answer that took turns has been given.
    `disconnect` is what a lease calls to send the host away.
    """

    def __init__(
        self,
        exports: Exports,
        send: Callable[[bytes], None],
        changed: Callable[[], None],
        disconnect: Callable[[], None],
        guest: Guest,
        security: Security,
    ) -> None:
        self.outcome: Outcome = "haggling"
        self.structured = False
        self.no_zeroes = False
        self.opening = False
        self.lease: Lease | None = None
        self.fault = ""
        """Why it is broken."""
        self._guest = guest
        self._security = security
        self._lease_name = ""
        self._abandoned = False
        self._exports = exports
        self._send = send
        self._changed = changed
        self._disconnect = disconnect
        self._answers: dict[int, Callable[[int, bytes], None]] = {
            wire.OPTION_EXPORT_NAME: self._export_name,
            wire.OPTION_ABORT: self._abort,
            wire.OPTION_LIST: self._list,
            wire.OPTION_STARTTLS: self._start_tls,
            wire.OPTION_INFO: self._info_or_go,
            wire.OPTION_GO: self._info_or_go,
            wire.OPTION_STRUCTURED_REPLY: self._structured_reply,
            wire.OPTION_LIST_META_CONTEXT: self._meta_context,
            wire.OPTION_SET_META_CONTEXT: self._meta_context,
        }

    def take(self, option: int, data: bytes) -> None:
        """Answer one option; only while `haggling` and not `opening`."""
        if self._security is Security.REQUIRED and option not in {
            wire.OPTION_STARTTLS,
            wire.OPTION_ABORT,
        }:
            self._demand_tls(option)
            return
        answer = self._answers.get(option)
        if answer is None:
            self._reply(option, wire.REPLY_ERROR_UNSUPPORTED, b"this option is not known here")
            return
        try:
            answer(option, data)
        except Malformed as reason:
            if option == wire.OPTION_EXPORT_NAME:
                self._break(str(reason))  # this option has no way to say no
            else:
                self._reply(option, wire.REPLY_ERROR_INVALID, str(reason).encode())

    def refuse_size(self, option: int) -> None:
        """Answer an option whose data was too long to be looked at."""
        if self._security is Security.REQUIRED:
            self._demand_tls(option)
            return
        self._reply(option, wire.REPLY_ERROR_TOO_BIG, b"the option's data is too long")

    def secured(self, guest: Guest) -> None:
        """TLS is there, and says who the host is: the haggling begins."""
        self._guest = guest
        self._security = Security.DONE
        self.outcome = "haggling"

    def abandon(self) -> None:
        """The connection is over: give up the export held, or the one being opened."""
        self._abandoned = True
        self._drop_lease()

    def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        header = wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, option, kind, len(data))
        self._send(header + data)

    def _demand_tls(self, option: int) -> None:
        if option == wire.OPTION_EXPORT_NAME:
            self._break("it wants an export without TLS")
        else:
            self._reply(option, wire.REPLY_ERROR_TLS_REQUIRED, b"TLS comes first (STARTTLS)")

    def _break(self, fault: str) -> None:
        self.outcome, self.fault = "broken", fault

    def _refuse(self, option: int, error: Exception) -> None:
        """Say why an export cannot be had."""
        kind = wire.REPLY_ERROR_UNKNOWN
        if isinstance(error, HostNotAllowed):
            self._guest.refused(str(error))
            kind = wire.REPLY_ERROR_POLICY
        self._reply(option, kind, wire.printable(_sentence(error)).encode())

    def _abort(self, option: int, _data: bytes) -> None:
        self._reply(option, wire.REPLY_ACK)
        self.outcome = "farewell"

    def _start_tls(self, option: int, data: bytes) -> None:
        OptionData(data).end()
        if self._security is Security.REQUIRED:
            self._reply(option, wire.REPLY_ACK)
            self.outcome = "securing"
        elif self._security is Security.DONE:
            raise Malformed("TLS is there already")
        else:
            self._reply(option, wire.REPLY_ERROR_POLICY, b"TLS is not set up on this appliance")

    def _structured_reply(self, option: int, data: bytes) -> None:
        OptionData(data).end()
        self.structured = True
        self._reply(option, wire.REPLY_ACK)

    def _list(self, option: int, data: bytes) -> None:
        OptionData(data).end()
        for name, description in self._exports.names(self._guest):
            raw = name.encode()
            shown = wire.printable(description).encode()
            self._reply(option, wire.REPLY_SERVER, wire.LENGTH.pack(len(raw)) + raw + shown)
        self._reply(option, wire.REPLY_ACK)

    def _meta_context(self, option: int, data: bytes) -> None:
        """There are no metadata contexts: every query selects none of them."""
        rest = OptionData(data)
        if not self.structured:
            raise Malformed("structured replies come first")
        rest.text()
        for _ in range(rest.number(wire.LENGTH)):
            rest.text()
        rest.end()
        self._reply(option, wire.REPLY_ACK)

    def _export_name(self, _option: int, data: bytes) -> None:
        self._open(export_name(data), self._enter_old_style, self._break_off)

    def _info_or_go(self, option: int, data: bytes) -> None:
        rest = OptionData(data)
        name = rest.text()
        wanted = {rest.number(wire.COUNT) for _ in range(rest.number(wire.COUNT))}
        rest.end()
        self._open(
            name,
            lambda lease: self._describe(option, lease.export, wanted),
            lambda error: self._refuse(option, error),
        )

    def _enter_old_style(self, lease: Lease) -> None:
        export = lease.export
        flags = export_flags(export, self.structured)
        padding = b"" if self.no_zeroes else bytes(124)
        self._send(wire.EXPORT_NAME_REPLY.pack(export.target.size, flags) + padding)
        self.outcome = "transmission"

    def _break_off(self, error: Exception) -> None:
        if isinstance(error, HostNotAllowed):
            self._guest.refused(str(error))
        self._break(_sentence(error))

    def _describe(self, option: int, export: Export, wanted: set[int]) -> None:
        target = export.target
        flags = export_flags(export, self.structured)
        self._reply_info(option, wire.INFO_EXPORT_DATA.pack(wire.INFO_EXPORT, target.size, flags))
        for information, text in (
            (wire.INFO_NAME, export.name),
            (wire.INFO_DESCRIPTION, wire.printable(export.description)),
        ):
            if information in wanted:
                self._reply_info(option, wire.COUNT.pack(information) + text.encode())
        # Hosts that do not ask are told all the same: unaligned requests will be refused.
        self._reply_info(
            option,
            wire.INFO_BLOCK_SIZE_DATA.pack(
                wire.INFO_BLOCK_SIZE,
                target.sector,
                max(PREFERRED_BLOCK, target.sector),
                wire.LARGEST_REQUEST,
            ),
        )
        self._reply(option, wire.REPLY_ACK)
        if option == wire.OPTION_GO:
            self.outcome = "transmission"

    def _reply_info(self, option: int, data: bytes) -> None:
        self._reply(option, wire.REPLY_INFO, data)

    def _open(
        self, name: str, then: Callable[[Lease], None], refuse: Callable[[Exception], None]
    ) -> None:
        """Get hold of the export, now or later, and go on with `then` or `refuse`."""
        if self.lease is not None and self._lease_name == name:
            try:
                self._exports.check(self.lease.export.name)
            except EbbtideError as error:
                self._drop_lease()
                refuse(error)
            else:
                then(self.lease)
            return
        self._drop_lease()
        self.opening = True
        found = self._exports.find(name, self._disconnect, self._guest)

        def opened() -> None:
            self.opening = False
            try:
                lease = found.result()
            except Exception as error:
                if not self._abandoned:
                    refuse(error)
                    self._changed()
                return
            if self._abandoned:
                lease.release()
                return
            self.lease, self._lease_name = lease, name
            then(lease)
            self._changed()

        found.when_finished(opened)

    def _drop_lease(self) -> None:
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.release()
