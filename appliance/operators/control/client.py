"""The client's side of the control socket, blocking: for `cdpctl` and the box's own faces."""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from appliance.errors import NotAnOperator, ServiceUnreachable
from appliance.operators.answers import SCHEMA, ErrorAnswer

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
    """A connection to the service at `path`.  A context manager; raises ServiceUnreachable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer = bytearray()
        self._searched = 0
        self._requests = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._greet()
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
        self._socket.close()

    def request(
        self,
        verb: str,
        arguments: Mapping[str, object],
        report: Callable[[Json], None] = lambda progress: None,
    ) -> Json:
        """The answer to a verb.  `report` takes a job's progress while one is waited for.

        Raises Refused, or ServiceUnreachable if the connection breaks.
        """
        self._requests += 1
        message = {"id": self._requests, "verb": verb, "args": dict(arguments)}
        try:
            self._socket.sendall(msgspec.json.encode(message) + b"\n")
        except OSError as error:
            raise self._unreachable(error) from error
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

    def _greet(self) -> None:
        self._socket.settimeout(HELLO_SECONDS)
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
        self._socket.settimeout(None)

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
