"""A client of the control socket that speaks bytes."""

import json
import socket
from pathlib import Path
from typing import Any, Self


class Raw:
    """A client that speaks bytes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Any:
        line = self.lines.readline()
        return json.loads(line) if line else None


def request(number: int | str, verb: str, **arguments: object) -> bytes:
    return json.dumps({"id": number, "verb": verb, "args": arguments}).encode() + b"\n"
