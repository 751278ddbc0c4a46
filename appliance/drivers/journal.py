"""The systemd journal: log messages with fields, by its native protocol.

A datagram to its socket is a message: a line `NAME=value` for each field, or,
where the value has line ends, the name, a line end, the value's length as
64 bits little-endian, the value and a line end (systemd, "Native Journal
Protocol").  Names are capitals, digits and `_`, and begin with a capital.
"""

import logging
import os
import re
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from appliance.event_log import Event
from appliance.events import message_id

SOCKET: Final = Path("/run/systemd/journal/socket")
VALUE_MAXIMUM: Final = 8192
"""Characters; ten such fields go into one datagram, whose size the kernel bounds."""
PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
DEBUG: Final = 7
_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_LENGTH = struct.Struct("<Q")


class JournalHandler(logging.Handler):
    """Sends what is logged to the journal at `path`, and never waits for it: what the journal has
    no room for is lost, and told when there is room again.

    A record's `event`, if it has one, gives fields: its code, its id, its own fields.
    """

    def __init__(self, identifier: str, path: Path = SOCKET) -> None:
        super().__init__()
        self._identifier = identifier
        self._path = path
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": _priority(record.levelno),
            "LOGGER": record.name,
        }
        if isinstance(event, Event):
            fields |= event_fields(event)
        if self._lost:
            lost = f"{self._lost} messages did not reach the journal"
            if not self._send({"MESSAGE": lost, "PRIORITY": _priority(logging.WARNING)}):
                self._lost += 1
                return
            self._lost = 0
        if not self._send(fields):
            self._lost += 1

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _send(self, fields: Mapping[str, str]) -> bool:
        try:
            # Named each time: a journal that was started anew listens on a new socket.
            self._socket.sendto(
                encode({**fields, "SYSLOG_IDENTIFIER": self._identifier}), bytes(self._path)
            )
        except OSError:
            return False
        return True


def start_logging(identifier: str) -> None:
    """Log to standard error, in lines; where that is the journal, to the journal, with fields."""
    handler: logging.Handler
    if _is_journal(sys.stderr.fileno()):
        handler = JournalHandler(identifier)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def event_fields(event: Event) -> dict[str, str]:
    """What the journal is told of an event beside its text."""
    fields = {
        "MESSAGE_ID": message_id(event.code).hex,
        "EBBTIDE_CODE": event.code,
        "EBBTIDE_NUMBER": str(event.number),
    }
    told = {"volume": event.volume, "actor": event.actor, **event.fields}
    for name, value in told.items():
        field = f"EBBTIDE_{name.upper()}"
        if value is not None and field not in fields and _NAME.fullmatch(field):
            fields[field] = str(value)
    return fields


def encode(fields: Mapping[str, str]) -> bytes:
    """The datagram of a message."""
    message = bytearray()
    for name, text in fields.items():
        value = text[:VALUE_MAXIMUM].encode(errors="replace")
        if b"\n" in value:
            message += b"%b\n%b%b\n" % (name.encode(), _LENGTH.pack(len(value)), value)
        else:
            message += b"%b=%b\n" % (name.encode(), value)
    return bytes(message)


def _priority(level: int) -> str:
    """syslog's: 3 error, 4 warning, 6 information, 7 debugging."""
    return str(next((number for least, number in PRIORITIES if level >= least), DEBUG))


def _is_journal(descriptor: int) -> bool:
    """systemd names the file that it gave a service as its output: device and inode."""
    status = os.fstat(descriptor)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
