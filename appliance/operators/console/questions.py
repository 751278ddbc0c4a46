"""Asking for what a verb needs, one parameter at a time, with numbers to choose by.

A number from the list or the thing itself may be typed; 0 goes back.  An empty
line asks again, and so does one that cannot be right, `TRIES` times.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from appliance.errors import BadRequest, NotConfirmed
from appliance.operators.console.conversation import Conversation, Json, ask, perform, tell
from appliance.operators.console.paper import Paper
from appliance.operators.parameters import Parameter, Value
from appliance.operators.text import words

BACK: Final = "0"
TRIES: Final = 8
SNAPSHOTS_FROM: Final = 11
"""The number of the first snapshot on the list of points; the others are steps back in time."""
SNAPSHOTS_SHOWN: Final = 12
STEPS: Final = (
    ("-1m", "one minute ago"),
    ("-10m", "ten minutes ago"),
    ("-1h", "one hour ago"),
    ("-1d", "one day ago"),
    ("-7d", "one week ago"),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a number stands for."""

    number: int
    value: str
    text: str


def ask_for(parameter: Parameter, given: Mapping[str, Value], is_new: bool) -> Conversation[Value]:
    """The parameter's value, checked; `given` are those asked before.  What `is_new` is no choice
    among what is there.  Raises NotConfirmed for 0, and Refused and ServiceUnreachable if a list
    cannot be had."""
    choices: list[Choice] = []
    if not is_new and parameter.name in _LISTS:
        choices = yield from _LISTS[parameter.name](given)
    paper = Paper()
    for choice in choices:
        paper.line(f"  {choice.number:>2}  {choice.text}")
    yield from tell(*paper.lines)
    for _ in range(TRIES):
        line = yield from ask(f"{_prompt(parameter, choices)} ({BACK} = back): ")
        if line.strip() == BACK:
            break
        typed = next(
            (one.value for one in choices if str(one.number) == line.strip()), line.strip()
        )
        if not typed:
            continue
        try:
            return parameter.check(_converted(parameter, typed), parameter.name)
        except BadRequest as error:
            yield from tell(str(error.fields["reason"]))
    raise NotConfirmed(reason="you went back")


def _prompt(parameter: Parameter, choices: list[Choice]) -> str:
    if parameter.name in ("to", "point"):
        return "Which point? A number, or a time, snapshot:NAME, write:NUMBER"
    return f"{parameter.help[:1].upper()}{parameter.help[1:]}" + (", by number" if choices else "")


def _converted(parameter: Parameter, typed: str) -> object:
    """What was typed, in the type of the parameter; its check refuses the rest."""
    match parameter.type:
        case "whole" if typed.isdecimal():
            return int(typed)
        case "assignments":
            return typed.split()
        case _:
            return typed


def _volumes(_: Mapping[str, Value]) -> Conversation[list[Choice]]:
    answer = yield from perform("status")
    return [
        Choice(number, volume["name"], f"{volume['name']}: {volume['state']}")
        for number, volume in enumerate(answer["volumes"], 1)
    ]


def _disks(given: Mapping[str, Value]) -> Conversation[list[Choice]]:
    answer = yield from perform("disks")
    return [
        Choice(
            number,
            disk["id"],
            f"{disk['id']}: {words.size(disk['size'])}, {disk['model']},"
            f" serial {disk['serial'] or 'unknown'}, {disk['role'] or disk['state']}",
        )
        for number, disk in enumerate(answer["disks"], 1)
        if disk["id"] not in given.values()
    ]


def _points(given: Mapping[str, Value]) -> Conversation[list[Choice]]:
    answer = yield from perform("timeline", {"volume": given["volume"]})
    paper = Paper()
    if answer["window"] is None:
        paper.line("nothing can be restored yet")
    else:
        window = answer["window"]
        paper.line(
            f"can go back to {words.moment(window['oldest'])};"
            f" the last write was at {words.moment(window['newest'])}"
        )
    yield from tell(*paper.lines)
    newest = sorted(answer["snapshots"], key=lambda snapshot: int(snapshot["write"]), reverse=True)
    return [Choice(number, step, text) for number, (step, text) in enumerate(STEPS, 1)] + [
        Choice(number, f"snapshot:{snapshot['name']}", _snapshot(snapshot))
        for number, snapshot in enumerate(newest[:SNAPSHOTS_SHOWN], SNAPSHOTS_FROM)
    ]


def _snapshots(given: Mapping[str, Value]) -> Conversation[list[Choice]]:
    answer = yield from perform("timeline", {"volume": given["volume"]})
    return [
        Choice(number, snapshot["name"], _snapshot(snapshot))
        for number, snapshot in enumerate(answer["snapshots"], 1)
    ]


def _snapshot(snapshot: Json) -> str:
    pinned = ", pinned" if snapshot["pinned"] else ""
    return f"snapshot {snapshot['name']} of {words.moment(snapshot['time'])}{pinned}"


def _jobs(_: Mapping[str, Value]) -> Conversation[list[Choice]]:
    answer = yield from perform("job list")
    return [
        Choice(
            job["number"],
            str(job["number"]),
            f"{job['kind']} of {job['volume']}, {job['result'] or job['phase']}",
        )
        for job in answer["jobs"]
    ]


def _views(_: Mapping[str, Value]) -> Conversation[list[Choice]]:
    answer = yield from perform("view list")
    return [
        Choice(number, view["name"], view["name"]) for number, view in enumerate(answer["views"], 1)
    ]


_LISTS: Final[dict[str, Callable[[Mapping[str, Value]], Conversation[list[Choice]]]]] = {
    "volume": _volumes,
    "primary": _disks,
    "secondary": _disks,
    "to": _points,
    "point": _points,
    "name": _snapshots,
    "job": _jobs,
    "view": _views,
}
"""By the names of parameters, which mean the same with every verb."""
