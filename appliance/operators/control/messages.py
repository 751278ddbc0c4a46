"""What goes over the control socket: one JSON object a line, both ways.

The server speaks first, with `Hello`.  A face of the box says which one it is
in its first line, `Greeting`.  A client then sends `RequestMessage`s,
as many as it likes without waiting; each is answered by any number of
`ProgressMessage`s and `PartMessage`s with its id, and then by one
`AnswerMessage` or `ErrorMessage`.  The lists of parts and answer belong one
after the other; everything else in them is the same.  What cannot be read as
a request is answered by an `ErrorMessage` with the id null.
"""

from typing import Annotated, Any, Final

import msgspec

from appliance.operators.answers import SCHEMA, ErrorAnswer, JobDescription

REQUEST_MAXIMUM: Final = 64 << 10
"""Bytes in a request's line, without the line end."""

Id = int | Annotated[str, msgspec.Meta(max_length=64)]


class Hello(msgspec.Struct, frozen=True):
    """`ebbtide` is the release, `schema` that of the answers."""

    ebbtide: str
    schema: int = SCHEMA


class Greeting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the person is, such as "console ttyS0"; events tell it beside the user's name."""

    face: str


class RequestMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Id
    verb: str
    args: dict[str, str | int | float | bool | list[str] | None] = {}


class AnswerMessage(msgspec.Struct, frozen=True):
    id: Id
    ok: Any


class PartMessage(msgspec.Struct, frozen=True):
    id: Id
    part: Any


class ProgressMessage(msgspec.Struct, frozen=True):
    id: Id
    progress: JobDescription


class ErrorMessage(msgspec.Struct, frozen=True):
    id: Id | None
    error: ErrorAnswer


Message = (
    Hello | Greeting | RequestMessage | AnswerMessage | PartMessage | ProgressMessage | ErrorMessage
)
_decoder = msgspec.json.Decoder(RequestMessage)
_greeting_decoder = msgspec.json.Decoder(Greeting)


def encode(message: Message) -> bytes:
    """The message as a line."""
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> RequestMessage:
    """The request in a line; raises ValueError with what is wrong."""
    try:
        return _decoder.decode(line)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def decode_greeting(line: bytes) -> Greeting | None:
    """The greeting in a line, if it is one."""
    try:
        return _greeting_decoder.decode(line)
    except (ValueError, RecursionError):
        return None
