"""The one table of verbs.

`cdpctl`'s commands and their help, the checks of the control socket, and the
console's menu are all made from it: what is not here cannot be asked for.
A parameter that is a `flag` is given by name (`--to`), others by position.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from appliance.errors import BadRequest
from appliance.operators.parameters import BACKLIGHTS, KEYS, NEWS, NOTES, Parameter, Value

Danger = Literal["none", "destroys"]


@dataclass(frozen=True, slots=True)
class Verb:
    """`name` is one word, or two with a space.  `changes`: the event log keeps who asked.
    `destroys`: done only with consent.  `offline`: done by `cdpctl` itself, on disks that no
    service uses, and never over the socket.  `hidden`: of the box's own faces, and on no menu."""

    name: str
    sentence: str
    parameters: tuple[Parameter, ...] = ()
    changes: bool = True
    danger: Danger = "none"
    offline: bool = False
    hidden: bool = False

    def is_change(self, arguments: Mapping[str, Value]) -> bool:
        """Would it change something, asked with these checked arguments?"""
        return self.changes and not arguments.get("plan")

    def check(self, arguments: Mapping[str, object]) -> dict[str, Value]:
        """The arguments with every parameter present (None, or False, where it was left out).

        Raises BadRequest, naming the parameter.
        """
        unknown = arguments.keys() - {parameter.name for parameter in self.parameters}
        if unknown:
            raise BadRequest(reason=f"{self.name} has no parameter '{min(unknown)}'")
        return {
            parameter.name: parameter.check(
                arguments.get(parameter.name), f"{self.name}: {parameter.name}"
            )
            for parameter in self.parameters
        }


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
            "panel",
            "Show what the front panel shows, and press its keys from afar.",
            (
                Parameter(
                    "press",
                    "choice",
                    f"press a key: {', '.join(KEYS)}",
                    required=False,
                    flag=True,
                    choices=KEYS,
                ),
                Parameter(
                    "hold", "seconds", "hold it for so many seconds", required=False, flag=True
                ),
            ),
            changes=False,
        ),
        Verb(
            "panel exchange",
            "The panel's own: say what the glass shows, and wait for keys.",
            (
                Parameter("lines", "lines", "the glass"),
                Parameter("backlight", "choice", "its colour", choices=BACKLIGHTS),
                Parameter("handled", "whole", "the newest key that is done with"),
            ),
            changes=False,
            hidden=True,
        ),
        Verb(
            "note",
            "A console's own: say who came and went.",
            (
                Parameter("what", "choice", "what happened", choices=NOTES),
                Parameter("failures", "whole", "so many in a row", required=False),
            ),
            changes=False,
            hidden=True,
        ),
        Verb(
            "news",
            "The firmware's own: say what became of an update.",
            (
                Parameter("what", "choice", "what happened", choices=NEWS),
                Parameter("version", "text", "the version that it is about", required=False),
                Parameter("slot", "text", "the slot that it is about", required=False),
                Parameter("reason", "text", "why", required=False),
            ),
            changes=False,
            hidden=True,
        ),
        Verb(
            "lock",
            "Let nobody else change anything, as long as this connection lasts and is used.",
            changes=False,
            hidden=True,
        ),
        Verb(
            "unlock",
            "End the operator lock, which keeps others from changing things.",
            (Parameter("force", "switch", "though it is somebody else's", flag=True),),
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
