"""Numbers and layouts of the NBD protocol, as its public specification names them.

Everything on the wire is big-endian.  The `NBD_` prefix of the specification
is left out; the group (option, reply, command …) leads each name instead.
"""

import errno
from struct import Struct
from typing import Final

GREETING_MAGIC: Final = 0x4E42444D41474943
OPTION_MAGIC: Final = 0x49484156454F5054
OPTION_REPLY_MAGIC: Final = 0x0003E889045565A9
REQUEST_MAGIC: Final = 0x25609513
SIMPLE_MAGIC: Final = 0x67446698
STRUCTURED_MAGIC: Final = 0x668E33EF

FIXED_NEWSTYLE: Final = 1
NO_ZEROES: Final = 2

OPTION_EXPORT_NAME: Final = 1
OPTION_ABORT: Final = 2
OPTION_LIST: Final = 3
OPTION_STARTTLS: Final = 5
OPTION_INFO: Final = 6
OPTION_GO: Final = 7
OPTION_STRUCTURED_REPLY: Final = 8
OPTION_LIST_META_CONTEXT: Final = 9
OPTION_SET_META_CONTEXT: Final = 10

REPLY_ACK: Final = 1
REPLY_SERVER: Final = 2
REPLY_INFO: Final = 3
REPLY_ERROR: Final = 1 << 31
REPLY_ERROR_UNSUPPORTED: Final = REPLY_ERROR | 1
REPLY_ERROR_POLICY: Final = REPLY_ERROR | 2
REPLY_ERROR_INVALID: Final = REPLY_ERROR | 3
REPLY_ERROR_TLS_REQUIRED: Final = REPLY_ERROR | 5
REPLY_ERROR_UNKNOWN: Final = REPLY_ERROR | 6
REPLY_ERROR_TOO_BIG: Final = REPLY_ERROR | 9

INFO_EXPORT: Final = 0
INFO_NAME: Final = 1
INFO_DESCRIPTION: Final = 2
INFO_BLOCK_SIZE: Final = 3

EXPORT_HAS_FLAGS: Final = 1 << 0
EXPORT_READ_ONLY: Final = 1 << 1
EXPORT_SEND_FLUSH: Final = 1 << 2
EXPORT_SEND_FUA: Final = 1 << 3
EXPORT_SEND_TRIM: Final = 1 << 5
EXPORT_SEND_WRITE_ZEROES: Final = 1 << 6
EXPORT_SEND_DF: Final = 1 << 7
EXPORT_CAN_MULTI_CONN: Final = 1 << 8
EXPORT_SEND_CACHE: Final = 1 << 10
EXPORT_SEND_FAST_ZERO: Final = 1 << 11

COMMAND_READ: Final = 0
COMMAND_WRITE: Final = 1
COMMAND_DISC: Final = 2
COMMAND_FLUSH: Final = 3
COMMAND_TRIM: Final = 4
COMMAND_CACHE: Final = 5
COMMAND_WRITE_ZEROES: Final = 6

FLAG_FUA: Final = 1 << 0
FLAG_NO_HOLE: Final = 1 << 1
FLAG_DF: Final = 1 << 2
FLAG_FAST_ZERO: Final = 1 << 4

CHUNK_DONE: Final = 1
CHUNK_OFFSET_DATA: Final = 1
CHUNK_ERROR: Final = 1 << 15 | 1

GREETING: Final = Struct(">QQH")
"""Greeting magic, option magic, handshake flags."""
CLIENT_FLAGS: Final = Struct(">I")
OPTION: Final = Struct(">QII")
"""Magic, option, length of the data that follows."""
OPTION_REPLY: Final = Struct(">QIII")
"""Magic, option answered, reply type, length of the data that follows."""
EXPORT_NAME_REPLY: Final = Struct(">QH")
"""Size in bytes, export flags."""
INFO_EXPORT_DATA: Final = Struct(">HQH")
"""INFO_EXPORT, size in bytes, export flags."""
INFO_BLOCK_SIZE_DATA: Final = Struct(">HIII")
"""INFO_BLOCK_SIZE, smallest, preferred and largest block in bytes."""
LENGTH: Final = Struct(">I")
COUNT: Final = Struct(">H")

REQUEST: Final = Struct(">IHHQQI")
"""Magic, flags, command, cookie, offset, length; a WRITE's payload follows."""
SIMPLE_REPLY: Final = Struct(">IIQ")
"""Magic, error, cookie; the data of a successful READ follows."""
DATA_CHUNK: Final = Struct(">IHHQIQ")
"""Magic, chunk flags, type, cookie, length of what follows from the offset on, offset."""
ERROR_CHUNK: Final = Struct(">IHHQIIH")
"""Magic, chunk flags, type, cookie, length of what follows, error, length of the message."""

LARGEST_REQUEST: Final = 32 << 20
"""Bytes of payload in one READ or WRITE."""
LARGEST_OPTION: Final = 64 << 10
"""Bytes of data in one option."""
LONGEST_STRING: Final = 4096
"""Bytes of a name or a sentence."""

ERRORS: Final = {
    errno.EPERM: "not permitted on a read-only export",
    errno.EIO: "the disks could not do it",
    errno.ENOMEM: "out of memory",
    errno.EINVAL: "not a valid request for this export",
    errno.ENOSPC: "beyond the end of the export",
    errno.EOVERFLOW: "longer than one answer may be",
    errno.ENOTSUP: "not faster than writing zeros",
    errno.ESHUTDOWN: "the export is being closed",
}
"""The error numbers that may be sent, and what they tell a person."""


def error_on_the_wire(error: int) -> int:
    """The number to send for an errno of ours: what the protocol does not know is an I/O error."""
    if error == errno.EROFS:
        return errno.EPERM
    if error in {errno.EDQUOT, errno.EFBIG}:
        return errno.ENOSPC
    return error if error in ERRORS else errno.EIO


def printable(text: str) -> str:
    """`text` as it may appear in a reply or a log: one line, no control characters, bounded."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown.encode(errors="replace")[:LONGEST_STRING].decode(errors="ignore")
