"""How every answer ends: in a line `OK`, or what went wrong and a line `ERR code`."""

from appliance.errors import ConsoleInterrupted, EbbtideError
from appliance.operators.answers import ErrorAnswer
from appliance.operators.console.conversation import (
    Conversation,
    Ended,
    Interrupted,
    Json,
    TimedOut,
    tell,
)
from appliance.operators.console.paper import Paper
from appliance.operators.control.client import Refused
from appliance.operators.text import screens


def answering(work: Conversation[None]) -> Conversation[None]:
    """Do `work`, and say how it went.  Raises nothing of what an operator can cause."""
    try:
        yield from work
    except Refused as refused:
        yield from tell_error(refused.answer)
    except EbbtideError as error:
        yield from tell_error(ErrorAnswer.of(error))
    except (Interrupted, Ended):
        yield from tell_error(
            ErrorAnswer.of(ConsoleInterrupted(reason="nothing more is asked for"))
        )
    except TimedOut:
        yield from tell_error(
            ErrorAnswer.of(ConsoleInterrupted(reason="nothing was typed in time"))
        )
    else:
        yield from tell("OK", paged=False)


def tell_error(error: ErrorAnswer) -> Conversation[None]:
    paper = Paper()
    paper.line(f"{error.code}: {error.sentence}")
    paper.line(f"  {error.remedy}")
    yield from tell(*paper.lines, f"ERR {error.code}", paged=False)


def show(verb: str, answer: Json) -> Conversation[None]:
    """The answer of a verb, as `cdpctl` shows it."""
    paper = Paper()
    screens.show(paper, verb, answer)
    yield from tell(*paper.lines)
