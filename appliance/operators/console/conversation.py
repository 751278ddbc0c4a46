"""What a dialogue can want of the line, and what it gets.

A dialogue is a generator: it yields a want and is sent the reply.  So a
dialogue reads from top to bottom like what a person sees, knows no clock, no
line and no service, and is ended at any place by closing it.  Into it are
raised `Interrupted` (^C), `Ended` (^D on an empty line), `TimedOut`, and for
`Perform` the errors of a request.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from appliance.operators.parameters import Value

T = TypeVar("T")
Json = dict[str, Any]


class Interrupted(Exception):
    """^C: the person wants out of this."""


class Ended(Exception):
    """^D on an empty line."""


class TimedOut(Exception):
    """A question was not answered in its time."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A line, please.  With `secret` it is not echoed.  With `fresh`, what was typed before the
    prompt was on the line does not count as an answer.  `seconds` limits the time."""

    prompt: str
    secret: bool = False
    fresh: bool = False
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Tell:
    """Show lines; stop at full pages, if `paged` and the manner is so."""

    lines: Sequence[str]
    paged: bool = True


@dataclass(frozen=True, slots=True)
class Perform:
    """Have the service do a verb; with `follow`, show how far its job is meanwhile."""

    verb: str
    arguments: Mapping[str, Value]
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """Be deaf for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Note:
    """The event log shall say that somebody came, went or tried to; nobody waits for it."""

    what: str
    failures: int = 0


@dataclass(slots=True)
class Manner:
    """How the line is treated now; dialogues change it."""

    logged_in: bool = False
    """Silence logs out."""
    paged: bool = True
    last_job: Json = field(default_factory=dict)
    """The job that was followed last, as far as it was reported."""


Want = Ask | Tell | Perform | Rest | Note
Conversation = Generator[Want, Any, T]


def ask(
    prompt: str, *, secret: bool = False, fresh: bool = False, seconds: float | None = None
) -> Conversation[str]:
    line = yield Ask(prompt, secret, fresh, seconds)
    assert isinstance(line, str)
    return line


def tell(*lines: str, paged: bool = True) -> Conversation[None]:
    yield Tell(lines, paged)


def note(what: str, failures: int = 0) -> Conversation[None]:
    """`what` is one of `parameters.NOTES`."""
    yield Note(what, failures)


def perform(
    verb: str, arguments: Mapping[str, Value] | None = None, *, follow: bool = False
) -> Conversation[Json]:
    """Raises Refused and ServiceUnreachable of the control client, too."""
    answer = yield Perform(verb, arguments or {}, follow)
    assert isinstance(answer, dict)
    return answer
