"""Telling the service manager how far we are: sd_notify(3), of which a datagram is all."""

import os
import socket
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
ALIVE: Final = "WATCHDOG=1"


def notify(state: str) -> None:
    """Send `state` to who started us, if it wants to know.  Never fails: nothing hangs on it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError:
            return


def alive_period() -> float | None:
    """Seconds between two times that the manager wants to hear ALIVE; None if it does not.

    Half of what it waits, as sd_watchdog_enabled(3) advises.
    """
    meant = os.environ.get("WATCHDOG_PID", "")
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or not int(microseconds) or meant not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 2e6
