"""What the parameters of verbs may be, and the checks of what was given for them.

Nothing that comes in on the control socket goes past them unchecked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from appliance.errors import BadRequest

ParameterType = Literal[
    "name", "text", "whole", "seconds", "choice", "switch", "assignments", "disks", "lines"
]
Value = str | int | float | bool | list[str] | None

TEXT_MAXIMUM: Final = 256
WHOLE_MAXIMUM: Final = (1 << 63) - 1
HOLD_MAXIMUM: Final = 10.0
KEYS: Final = ("select", "right", "down", "up", "left")
BACKLIGHTS: Final = ("off", "red", "green", "yellow", "blue", "violet", "teal", "white")
"""What the front panel has, by the names that its driver gives them."""
NOTES: Final = ("login", "logout", "wrong password", "password changed")
"""What a console tells of."""
NEWS: Final = ("installed", "refused", "known", "works", "went back")
"""What the image's scripts tell of updates."""
GLASS_WIDTH: Final = 16
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
    """`whole` is a whole number from 0, `seconds` a number from 0 to HOLD_MAXIMUM, `choice` one of
    `choices`, `assignments` one or more of `name=value`, `disks` one or two places of disks,
    `lines` the two of the front panel; a `switch` carries no value."""

    name: str
    type: ParameterType
    help: str
    required: bool = True
    flag: bool = False
    choices: tuple[str, ...] = ()

    def check(self, value: object, where: str) -> Value:
        """The value (None, or False, where it was left out); `where` is for people.

        Raises BadRequest.
        """
        if self.type == "switch":
            if value is None or isinstance(value, bool):
                return bool(value)
            raise BadRequest(reason=f"{where} is true or false")
        if value is None:
            if self.required:
                raise BadRequest(reason=f"{where} is missing")
            return None
        match self.type:
            case "whole":
                return _whole(where, value)
            case "seconds":
                return _seconds(where, value)
            case "choice":
                return _choice(where, value, self.choices)
            case "lines":
                return _lines(where, value)
            case "assignments":
                return _assignments(where, value)
            case "disks":
                return _disks(where, value)
            case "name":
                return _name(where, value)
            case "text":
                return _text(where, value)


def _whole(where: str, value: object) -> int:
    if type(value) is int and 0 <= value <= WHOLE_MAXIMUM:
        return value
    raise BadRequest(reason=f"{where} is not a whole number")


def _seconds(where: str, value: object) -> float:
    if isinstance(value, int | float) and type(value) is not bool and 0 <= value <= HOLD_MAXIMUM:
        return float(value)
    raise BadRequest(reason=f"{where} is not a number from 0 to {HOLD_MAXIMUM:.0f}")


def _choice(where: str, value: object, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in choices:
        return value
    raise BadRequest(reason=f"{where} is one of {', '.join(choices)}")


def _name(where: str, value: object) -> str:
    if isinstance(value, str) and NAME.fullmatch(value):
        return value
    raise BadRequest(
        reason=f"{where} is not a name (letters, digits, '.', '_' and '-', at most 63)"
    )


def _disks(where: str, value: object) -> list[str]:
    if isinstance(value, list) and 1 <= len(value) <= 2:
        return [_text(where, item) for item in value]
    raise BadRequest(reason=f"{where} are one disk, or the two of a volume")


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > TEXT_MAXIMUM:
        raise BadRequest(reason=f"{where} is not a text of 1 to {TEXT_MAXIMUM} characters")
    if not value.isprintable():
        raise BadRequest(reason=f"{where} has characters that cannot be printed")
    return value


def _lines(where: str, value: object) -> list[str]:
    if not isinstance(value, list) or len(value) != 2:
        raise BadRequest(reason=f"{where} are not the two of the panel")
    lines = [_text(where, item) for item in value]
    if any(len(line) != GLASS_WIDTH for line in lines):
        raise BadRequest(reason=f"{where} are not {GLASS_WIDTH} characters each")
    return lines


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
