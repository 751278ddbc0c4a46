"""The one table of verbs.

`cdpctl`'s commands and their help, the checks of the control socket, and later
the console's menu are all made from it: what is not here cannot be asked for.
A parameter that is a `flag` is given by name (`--to`), others by position.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from appliance.errors import BadRequest

ParameterType = Literal["name", "text", "whole", "switch", "assignments", "disks"]
Value = str | int | bool | list[str] | None
Danger = Literal["none", "destroys"]

TEXT_MAXIMUM: Final = 256
WHOLE_MAXIMUM: Final = (1 << 63) - 1
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""Names of volumes and snapshots: they stand in export names, commands and on a small screen."""
ASSIGNMENT: Final = re.compile(r"[a-z]+=[^\s=]+")
SETTINGS: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    "ack": (re.compile(r"both|primary"), "one of both, primary"),
    "throttle": (
        re.compile(r"\d{1,6}-(\d{1,6}|max)"),
        "FLOOR-CEILING in MiB/s, such as 16-200 or 16-max",
    ),
}
"""What `set` sets, with the values it may have, and these in words."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """`whole` is a whole number from 0, `assignments` one or more of `name=value`, `disks` one or
    two places of disks; a `switch` carries no value."""

    name: str
    type: ParameterType
    help: str
    required: bool = True
    flag: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """`name` is one word, or two with a space.  `changes`: the event log keeps who asked.
    `destroys`: done only with consent.  `offline`: done by `cdpctl` itself, on disks that no
    service uses, and never over the socket."""

    name: str
    sentence: str
    parameters: tuple[Parameter, ...] = ()
    changes: bool = True
    danger: Danger = "none"
    offline: bool = False

    def check(self, arguments: Mapping[str, object]) -> dict[str, Value]:
        """The arguments with every parameter present (None, or False, where it was left out).

        Raises BadRequest, naming the parameter.
        """
        unknown = arguments.keys() - {parameter.name for parameter in self.parameters}
        if unknown:
            raise BadRequest(reason=f"{self.name} has no parameter '{min(unknown)}'")
        return {
            parameter.name: self._value(parameter, arguments.get(parameter.name))
            for parameter in self.parameters
        }

    def _value(self, parameter: Parameter, value: object) -> Value:
        where = f"{self.name}: {parameter.name}"
        match parameter.type:
            case "switch":
                if value is None or isinstance(value, bool):
                    return bool(value)
                raise BadRequest(reason=f"{where} is true or false")
            case _ if value is None:
                if parameter.required:
                    raise BadRequest(reason=f"{where} is missing")
                return None
            case "whole":
                if type(value) is int and 0 <= value <= WHOLE_MAXIMUM:
                    return value
                raise BadRequest(reason=f"{where} is not a whole number")
            case "assignments":
                return _assignments(where, value)
            case "disks":
                if isinstance(value, list) and 1 <= len(value) <= 2:
                    return [_text(where, item) for item in value]
                raise BadRequest(reason=f"{where} are one disk, or the two of a volume")
            case "name":
                if isinstance(value, str) and NAME.fullmatch(value):
                    return value
                raise BadRequest(
                    reason=f"{where} is not a name (letters, digits, '.', '_' and '-', at most 63)"
                )
            case "text":
                return _text(where, value)


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > TEXT_MAXIMUM:
        raise BadRequest(reason=f"{where} is not a text of 1 to {TEXT_MAXIMUM} characters")
    if not value.isprintable():
        raise BadRequest(reason=f"{where} has characters that cannot be printed")
    return value


def _assignments(where: str, value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        raise BadRequest(reason=f"{where} is not a list of name=value")
    for item in value:
        if not isinstance(item, str) or not ASSIGNMENT.fullmatch(item):
            raise BadRequest(reason=f"{where} is not a list of name=value")
        name, _, wanted = item.partition("=")
        if name not in SETTINGS:
            raise BadRequest(reason=f"{where}: there is no '{name}'; there is {_all(SETTINGS)}")
        pattern, words = SETTINGS[name]
        if not pattern.fullmatch(wanted):
            raise BadRequest(reason=f"{where}: {name} is {words}")
    return value


def _all(names: Mapping[str, object]) -> str:
    return ", ".join(names)


_VOLUME = Parameter("volume", "name", "the volume")
_YES = Parameter("yes", "switch", "do it, though something is given up", flag=True)
_WAIT = Parameter("wait", "switch", "wait until it is done, and show how far it is", flag=True)
_POINT_FORMS = "a time (2026-11-22T10:00:00Z, -10m), snapshot:NAME or write:NUMBER"
_JOB = Parameter("job", "whole", "the job's number")

VERBS: Final[dict[str, Verb]] = {
    verb.name: verb
    for verb in (
        Verb("disks", "List the attached disks.", changes=False),
        Verb(
            "protect",
            "Make a disk a volume, and keep its past on another.",
            (
                Parameter("volume", "name", "name of the new volume"),
                Parameter("primary", "text", "id of the disk that hosts use", flag=True),
                Parameter("secondary", "text", "id of the disk that keeps the past", flag=True),
                Parameter(
                    "wipe",
                    "text",
                    "the secondary's id again: destroy what that disk carries",
                    required=False,
                    flag=True,
                ),
                _YES,
                _WAIT,
            ),
            danger="destroys",
        ),
        Verb(
            "release",
            "Stop protecting a volume: its past is given up, its primary stays readable.",
            (_VOLUME, _YES),
            danger="destroys",
        ),
        Verb(
            "status",
            "Show how volumes are.",
            (Parameter("volume", "name", "only this volume", required=False),),
            changes=False,
        ),
        Verb(
            "timeline",
            "Show which moments of a volume can be restored.",
            (_VOLUME,),
            changes=False,
        ),
        Verb(
            "snapshot",
            "Give the present moment of a volume a name.",
            (
                _VOLUME,
                Parameter("name", "name", "name of the snapshot"),
                Parameter("pin", "switch", "let it go last: once nothing older is kept", flag=True),
                Parameter("unpin", "switch", "let a pinned one go with the others", flag=True),
                Parameter("delete", "switch", "forget the name", flag=True),
            ),
        ),
        Verb(
            "sync",
            "Make the secondary agree with the primary, regions known to differ first.",
            (
                _VOLUME,
                Parameter("full", "switch", "scan everything", flag=True),
                Parameter("verify", "switch", "scan and report, copy nothing", flag=True),
                _WAIT,
            ),
        ),
        Verb(
            "restore",
            "Put a volume back to an earlier moment.",
            (
                _VOLUME,
                Parameter("to", "text", _POINT_FORMS, flag=True),
                Parameter("plan", "switch", "only show what would be done", flag=True),
                Parameter("force", "switch", "though the point is suspect", flag=True),
                _YES,
                _WAIT,
            ),
            danger="destroys",
        ),
        Verb(
            "give-up",
            "Give a restore up half-way, and let hosts in to the volume as it is.",
            (_VOLUME, _YES),
            danger="destroys",
        ),
        Verb(
            "view create",
            "Open a moment of a volume as a read-only disk of its own.",
            (_VOLUME, Parameter("point", "text", _POINT_FORMS)),
        ),
        Verb("view list", "List the open views.", changes=False),
        Verb("view drop", "Close a view.", (Parameter("view", "text", "the view"),)),
        Verb(
            "set",
            "Change a policy of a volume.",
            (
                _VOLUME,
                Parameter(
                    "settings", "assignments", "ack=both, ack=primary, throttle=FLOOR-CEILING"
                ),
            ),
        ),
        Verb(
            "job list",
            "List the jobs that run, and the last one of each volume.",
            changes=False,
        ),
        Verb("job wait", "Wait for a job, and show how far it is.", (_JOB,), changes=False),
        Verb("job cancel", "Stop a job; what it did stays done.", (_JOB,)),
        Verb(
            "job pause",
            "Hold a job.",
            (_JOB, Parameter("resume", "switch", "let it go on", flag=True)),
        ),
        Verb(
            "events",
            "Show what happened lately.",
            (
                Parameter("volume", "name", "only of this volume", required=False, flag=True),
                Parameter("after", "whole", "only after this number", required=False, flag=True),
                Parameter("limit", "whole", "at most so many", required=False, flag=True),
            ),
            changes=False,
        ),
        Verb(
            "explain",
            "Say what a code of an error or event means, and what to do.",
            (Parameter("code", "text", "such as EB102, EV202 or EC403"),),
            changes=False,
        ),
        Verb(
            "check",
            "Read everything on disks that are not in service, and name what is wrong.",
            (Parameter("disks", "disks", "one disk of a volume, or both: device or file"),),
            changes=False,
            offline=True,
        ),
        Verb(
            "dump",
            "Show what is on a disk that is not in service, field by field.",
            (Parameter("disk", "text", "the disk: device or file"),),
            changes=False,
            offline=True,
        ),
    )
}


def command_line(verb: Verb, arguments: Mapping[str, Value]) -> str:
    """The request as a person would have typed it."""
    words = [verb.name]
    for parameter in verb.parameters:
        value = arguments.get(parameter.name)
        if value is None or value is False:
            continue
        if parameter.flag:
            words.append(f"--{parameter.name}")
        if isinstance(value, list):
            words += value
        elif value is not True:
            words.append(str(value))
    return " ".join(words)
