"""The client's side of the control socket, blocking: for `cdpctl` and the box's own faces."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from appliance.errors import NotAnOperator, ServiceUnreachable
from appliance.operators.answers import SCHEMA, ErrorAnswer
from appliance.operators.control import messages

HELLO_SECONDS: Final = 10.0
"""How long the service may take to greet; its answers may take as long as they need."""
LINE_MAXIMUM: Final = 64 << 20
READ_BYTES: Final = 256 << 10

Json = dict[str, Any]


class Refused(Exception):
    """The service answered a request with an error."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(answer.sentence)
        self.answer = answer


class ControlClient:
    """A connection to the service at `path`, made from a face of the box, such as "console ttyS0".

    With `seconds`, everything on it must be done so long from now; what is not raises
    ServiceUnreachable.  Without, the service may take its time, but for its greeting.
    A context manager; raises ServiceUnreachable.
    """

    def __init__(self, path: Path, face: str = "", seconds: float | None = None) -> None:
        self._path = path
        self._buffer = bytearray()
        self._searched = 0
        self._requests = 0
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.release = ""
        """Of the service, as it says."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._greet()
            if face:
                self._send(messages.encode(messages.Greeting(face)))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent; the operator lock ends, if it was held."""
        self._socket.close()

    def send(self, verb: str, arguments: Mapping[str, object]) -> None:
        """Ask without waiting for the answer, which `receive` gives; raises ServiceUnreachable.

        One thread may send while another one receives.
        """
        self._requests += 1
        message = {"id": self._requests, "verb": verb, "args": dict(arguments)}
        self._send(msgspec.json.encode(message) + b"\n")

    def receive(self) -> Json:
        """The next answer to something sent that is answered in one piece; raises as `request`."""
        while True:
            answer = self._read_message()
            if "error" in answer:
                raise Refused(msgspec.convert(answer["error"], ErrorAnswer))
            if "ok" in answer:
                found: Json = answer["ok"]
                return found

    def request(
        self,
        verb: str,
        arguments: Mapping[str, object],
        report: Callable[[Json], None] = lambda progress: None,
    ) -> Json:
        """The answer to a verb.  `report` takes a job's progress while one is waited for.

        Raises Refused, or ServiceUnreachable if the connection breaks.
        """
        self.send(verb, arguments)
        parts: list[Json] = []
        while True:
            answer = self._read_message()
            if "error" in answer:
                raise Refused(msgspec.convert(answer["error"], ErrorAnswer))
            if answer.get("id") != self._requests:
                continue
            if "progress" in answer:
                report(answer["progress"])
            elif "part" in answer:
                parts.append(answer["part"])
            elif "ok" in answer:
                return _join([*parts, answer["ok"]])

    def abandon(self) -> None:
        """End the connection from another thread: a request under way raises ServiceUnreachable."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _greet(self) -> None:
        self._allow(HELLO_SECONDS)
        try:
            self._socket.connect(os.fspath(self._path))
        except (OSError, ValueError) as error:
            raise self._unreachable(error) from error
        hello = self._read_message()
        if "error" in hello:
            raise Refused(msgspec.convert(hello["error"], ErrorAnswer))
        if hello.get("schema") != SCHEMA:
            raise ServiceUnreachable(
                socket=self._path,
                reason=f"it speaks schema {hello.get('schema')}, and this cdpctl {SCHEMA}",
            )
        self.release = str(hello.get("ebbtide"))
        self._allow(None)

    def _allow(self, seconds: float | None) -> None:
        """How long the next call of the socket may take."""
        if self._deadline is not None:
            left = max(self._deadline - time.monotonic(), 0.001)
            seconds = left if seconds is None else min(left, seconds)
        self._socket.settimeout(seconds)

    def _send(self, line: bytes) -> None:
        try:
            self._allow(None)
            self._socket.sendall(line)
        except OSError as error:
            raise self._unreachable(error) from error

    def _read_message(self) -> Json:
        line = self._read_line()
        try:
            message = msgspec.json.decode(line)
        except (ValueError, RecursionError) as error:
            raise ServiceUnreachable(socket=self._path, reason="it speaks no JSON") from error
        if not isinstance(message, dict):
            raise ServiceUnreachable(socket=self._path, reason="it speaks another JSON")
        return message

    def _read_line(self) -> bytes:
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > LINE_MAXIMUM:
                raise ServiceUnreachable(socket=self._path, reason="its answer has no end")
            if self._deadline is not None:
                self._allow(None)
            try:
                data = self._socket.recv(READ_BYTES)
            except OSError as error:
                raise self._unreachable(error) from error
            if not data:
                raise ServiceUnreachable(socket=self._path, reason="it closed the connection")
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _unreachable(self, error: OSError | ValueError) -> ServiceUnreachable:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        kind = NotAnOperator if isinstance(error, PermissionError) else ServiceUnreachable
        return kind(socket=self._path, reason=reason.lower())


def _join(parts: list[Json]) -> Json:
    """One answer of several parts: lists one after the other, the rest as in the last."""
    joined = parts[-1]
    for name, value in joined.items():
        if isinstance(value, list):
            joined[name] = [entry for part in parts for entry in part[name]]
    return joined
