"""QEMU's monitor: commands answered, events waited for.  Times in seconds."""

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

Event = Mapping[str, Any]


class EventMissing(Exception):
    """An event did not come in time."""


class Monitor:
    """One machine's, over a connected socket; from one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._qmp = QEMUMonitorProtocol(connection)
        self._qmp.settimeout(60)
        self._qmp.connect()
        self._seen: list[Event] = []

    def __call__(self, command: str, /, **arguments: object) -> Any:
        """Raises qemu.qmp.QMPError."""
        return self._qmp.cmd(command, **arguments)

    def human(self, line: str) -> str:
        """A command of the human monitor; what it printed."""
        return str(self("human-monitor-command", **{"command-line": line}))

    def wait_for(
        self, name: str, is_it: Callable[[Event], bool] = lambda _: True, timeout: float = 30
    ) -> Event:
        """The next event of that name, its data accepted by `is_it`; raises EventMissing."""
        ends = time.monotonic() + timeout
        while True:
            for event in self._seen:
                if event["event"] == name and is_it(event.get("data", {})):
                    self._seen.remove(event)
                    return event
            left = ends - time.monotonic()
            try:
                pulled = self._qmp.pull_event(wait=max(left, 0.001))
            except TimeoutError:
                raise EventMissing(f"{name} in {timeout} s; seen: {self._seen}") from None
            if pulled is not None:
                self._seen.append(pulled)

    def forget(self, name: str) -> None:
        """Events of that name that came till now."""
        self._seen += self._qmp.get_events()
        self._seen = [event for event in self._seen if event["event"] != name]

    def close(self) -> None:
        """Never fails: the machine may be gone."""
        try:
            self._qmp.close()
        except (TimeoutError, QMPError, OSError, EOFError):
            return
