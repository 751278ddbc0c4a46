"""Doing a verb with its arguments: at once, or behind a plan and a typed confirmation.

What gives something up is done in four steps, under the operator lock from the
first to the last: the plan, or what the service asks consent for, is shown;
the words are typed that the screen shows, with the end of a disk's serial
number; only then the verb is asked for with consent; and its job is waited for,
if that is wanted.  A restore goes to the very write that its plan named, also
if the point was told as "ten minutes ago".
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from appliance.errors import (
    ConsoleInterrupted,
    EbbtideError,
    NeedsConsent,
    NotConfirmed,
)
from appliance.operators.console.conversation import (
    Conversation,
    Ended,
    Interrupted,
    Json,
    Manner,
    TimedOut,
    ask,
    perform,
    tell,
)
from appliance.operators.console.outcome import show
from appliance.operators.console.paper import Paper, plain
from appliance.operators.control.client import Refused
from appliance.operators.explanations import explain
from appliance.operators.parameters import Value
from appliance.operators.verbs import Verb

CONFIRM_SECONDS: Final = 60.0
CONFIRM_TRIES: Final = 3
SERIAL_END: Final = 4
BACK: Final = "0"


def carry_out(verb: Verb, arguments: Mapping[str, Value], manner: Manner) -> Conversation[None]:
    """Do the verb and show its answer.  `arguments` never say `yes`: the console asks."""
    if verb.name == "explain":
        # Known here, too, so that it works while the service does not.
        answer: Json = msgspec.to_builtins(explain(str(arguments["code"])))
        yield from show(verb.name, answer)
    elif verb.danger == "destroys" and not arguments.get("plan"):
        yield from _locked(_behind_a_plan(verb, arguments, manner))
    else:
        answer = yield from _watched(verb, arguments, manner)
        yield from show(verb.name, answer)


def _watched(verb: Verb, arguments: Mapping[str, Value], manner: Manner) -> Conversation[Json]:
    """The answer; a job that is waited for is shown meanwhile, and goes on after ^C."""
    follow = verb.name == "job wait" or arguments.get("wait") is True
    try:
        return (yield from perform(verb.name, arguments, follow=follow))
    except Refused as refused:
        if refused.answer.answer is not None:
            yield from show(verb.name, refused.answer.answer)
        raise
    except Interrupted as interrupted:
        if follow and manner.last_job:
            number = manner.last_job["number"]
            raise ConsoleInterrupted(
                f"`job cancel {number}` would stop it", reason=f"job {number} goes on"
            ) from interrupted
        reason = f"{verb.name} was asked for, and may be done"
        raise ConsoleInterrupted(reason=reason) from interrupted


def _locked(work: Conversation[None]) -> Conversation[None]:
    """Do `work` while nobody else changes anything.  If this dialogue is closed, the lock ends with
    the connection."""
    yield from perform("lock")
    try:
        yield from work
    except Exception:
        yield from _unlock()
        raise
    yield from _unlock()


def _unlock() -> Conversation[None]:
    """The work is done or not, whatever comes of this; and the lock ends in any case."""
    try:
        yield from perform("unlock")
    except (Refused, EbbtideError, Interrupted):
        return


def _behind_a_plan(
    verb: Verb, arguments: Mapping[str, Value], manner: Manner
) -> Conversation[None]:
    wanted = dict(arguments)
    if any(parameter.name == "plan" for parameter in verb.parameters):
        planned = yield from perform(verb.name, wanted | {"plan": True})
        yield from show(verb.name, planned)
        wanted["to"] = f"write:{planned['plan']['write']}"
    else:
        try:
            answer = yield from perform(verb.name, wanted)
        except Refused as refused:
            if refused.answer.code != NeedsConsent.code:
                raise
            yield from _show_consequence(refused)
        else:
            # Nothing is given up by it.
            yield from show(verb.name, answer)
            return
    yield from _confirm(verb, wanted)
    answer = yield from _watched(verb, wanted | {"yes": True}, manner)
    yield from show(verb.name, answer)


def _show_consequence(refused: Refused) -> Conversation[None]:
    paper = Paper()
    paper.line(refused.answer.sentence)
    yield from tell(*paper.lines)


def _confirm(verb: Verb, arguments: Mapping[str, Value]) -> Conversation[None]:
    """Returns once the words were typed; raises NotConfirmed."""
    disk = yield from _disk_at_stake(arguments)
    words = f"{verb.name.upper()} {serial_end(disk)}"
    paper = Paper()
    paper.line(
        f"disk at stake: {disk['id']} ({disk['node']}, serial {disk['serial'] or 'unknown'})"
    )
    yield from tell(*paper.lines, paged=False)
    for _ in range(CONFIRM_TRIES):
        try:
            typed = yield from ask(
                f"Type {words} to do it, {BACK} to go back: ", fresh=True, seconds=CONFIRM_SECONDS
            )
        except TimedOut as error:
            yield from tell("")
            raise NotConfirmed(reason=f"nothing was typed in {CONFIRM_SECONDS:.0f} s") from error
        except (Interrupted, Ended) as error:
            raise NotConfirmed(reason="it was interrupted") from error
        if typed == words:
            return
        if typed.strip() == BACK:
            raise NotConfirmed(reason="you went back")
        if typed.strip():
            yield from tell("that is something else; nothing is done yet")
    raise NotConfirmed(reason="something else was typed")


def _disk_at_stake(arguments: Mapping[str, Value]) -> Conversation[Json]:
    """The disk whose serial is typed: the volume's primary; of a new volume the secondary, whose
    contents go."""
    if "secondary" in arguments:
        disks = yield from perform("disks")
        for disk in disks["disks"]:
            if disk["id"] == arguments["secondary"]:
                found: Json = disk
                return found
        raise NotConfirmed(reason="the disk has gone")
    status = yield from perform("status", {"volume": arguments["volume"]})
    volume = status["volumes"][0]
    label: Json | None = volume["primary"] or volume["secondary"]
    if label is None:
        return {"id": volume["name"], "node": "no disk is here", "serial": ""}
    return label


def serial_end(disk: Json) -> str:
    """The last four letters and digits of its serial, or of its id."""
    for name in ("serial", "id"):
        typed = [letter for letter in plain(disk[name]) if letter.isalnum()]
        if typed:
            return "".join(typed[-SERIAL_END:])
    return "NONE"
