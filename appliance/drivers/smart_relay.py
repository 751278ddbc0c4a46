"""`python -m appliance.drivers.smart_relay SOCKET NODE`: what root's smartctl says of a disk.

The service has no right to pass SMART's commands to a disk (CAP_SYS_RAWIO,
CAP_SYS_ADMIN), and with it would be nearly as mighty as root.  Where the unit
`cdp-smart.socket` listens, a smartctl of its own is asked instead: a line with
the node goes there, and its JSON comes back.  To who starts this it looks like
smartctl itself, exit status included.
"""

import socket
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

SOCKET: Final = Path("/run/ebbtide-smart.sock")
_PIECE: Final = 64 << 10
_NOT_ASKED: Final = 1
"""smartctl's own status for a command line that did not parse."""


def main(path: str, node: str) -> int:
    """Write the answer to standard output; the exit status."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as helper:
        try:
            helper.connect(path)
            helper.sendall(node.encode() + b"\n")
            report = b"".join(iter(lambda: helper.recv(_PIECE), b""))
        except OSError as error:
            report = _complaint(f"smartctl cannot be asked through {path}: {error.strerror}")
    if not report:
        report = _complaint("smartctl is not installed, or the disk is not the appliance's")
    sys.stdout.buffer.write(report)
    return _status(report)


def _complaint(text: str) -> bytes:
    return msgspec.json.encode({"smartctl": {"messages": [{"string": text}]}})


def _status(report: bytes) -> int:
    try:
        told: Any = msgspec.json.decode(report)
        return int(told["smartctl"]["exit_status"]) & 0xFF
    except (ValueError, TypeError, LookupError):
        return _NOT_ASKED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
