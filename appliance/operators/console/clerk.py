"""Runs the machine's errands to the service, one at a time, on a thread of its own.

Each errand has a connection of its own, except from `lock` to `unlock`: the
lock belongs to a connection.  So a service that was restarted is met again by
the next errand, and a lock never outlives its dialogue.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final

from appliance.errors import EbbtideError
from appliance.operators.console.conversation import Json, Note
from appliance.operators.console.machine import Errand
from appliance.operators.control.client import ControlClient, Refused

JOIN_SECONDS: Final = 15.0
"""Longer than the client waits for a service that does not greet."""
_log = logging.getLogger("ebbtide.console")


class Clerk:
    """`answered(number, reply)` and `progressed(number, job)` are called on the clerk's thread."""

    def __init__(
        self,
        socket: Path,
        face: str,
        answered: Callable[[int, Json | Exception], None],
        progressed: Callable[[int, Json], None],
    ) -> None:
        self._socket = socket
        self._face = face
        self._answered = answered
        self._progressed = progressed
        self._errands: SimpleQueue[tuple[int, Errand | None] | Note | None] = SimpleQueue()
        self._guard = Lock()
        self._era = 0
        """Grows with `abandon`; what was asked for before is not wanted any more."""
        self._client: ControlClient | None = None
        self._connection = ExitStack()
        self._thread = Thread(target=self._work, name="clerk", daemon=True)
        self._thread.start()

    def ask(self, errand: Errand) -> None:
        self._errands.put((self._era, errand))

    def note(self, note: Note) -> None:
        """Have it written down if the service can be reached, whatever is abandoned later."""
        self._errands.put(note)

    def abandon(self) -> None:
        """Let go of what is under way or waits, and of the operator lock."""
        with self._guard:
            self._era += 1
            if self._client is not None:
                self._client.abandon()
        self._errands.put((self._era, None))

    def close(self) -> None:
        """Idempotent."""
        self.abandon()
        self._errands.put(None)
        self._thread.join(JOIN_SECONDS)

    def _work(self) -> None:
        while (item := self._errands.get()) is not None:
            if isinstance(item, Note):
                self._write_down(item)
                continue
            era, errand = item
            if errand is None:
                self._disconnect()
            elif era == self._era:
                reply = self._do(errand, era)
                if era == self._era:
                    self._answered(errand.number, reply)
        self._disconnect()

    def _do(self, errand: Errand, era: int) -> Json | Exception:
        keep = self._client is not None and errand.verb != "unlock"
        try:
            client = self._client or self._connect(era)
            answer = client.request(
                errand.verb,
                errand.arguments,
                lambda job: self._progressed(errand.number, job),
            )
            keep = keep or errand.verb == "lock"
            return answer
        except Refused as refused:
            return refused
        except EbbtideError as error:
            keep = False
            return error
        except Exception as error:  # a bug must not leave the person waiting for ever
            keep = False
            _log.exception("an errand failed")
            return EbbtideError(reason=type(error).__name__)
        finally:
            if not keep:
                self._disconnect()

    def _write_down(self, note: Note) -> None:
        try:
            with ControlClient(self._socket, self._face) as client:
                client.request("note", {"what": note.what, "failures": note.failures})
        except (Refused, EbbtideError) as error:
            _log.warning("the event log does not have it: %s", error)

    def _connect(self, era: int) -> ControlClient:
        client = self._connection.enter_context(ControlClient(self._socket, self._face))
        with self._guard:
            self._client = client
            if era != self._era:
                client.abandon()
        return client

    def _disconnect(self) -> None:
        with self._guard:
            self._client = None
        self._connection.close()
