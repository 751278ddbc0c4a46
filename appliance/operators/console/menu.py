"""The menu: every verb by a number that never changes.

A number stands for one thing for ever; a new thing gets a new number.  What
gives something up stands in a group of its own, two or more away from anything
harmless, and asks before it does it; its stronger form has two digits, which
nobody hits by mistake.  0 is back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from appliance.operators.console.carrying_out import carry_out
from appliance.operators.console.conversation import Conversation, Manner
from appliance.operators.console.questions import ask_for
from appliance.operators.console.typed import HERE
from appliance.operators.parameters import Value


@dataclass(frozen=True, slots=True)
class Item:
    """`fixed` are arguments that it says by itself; the parameter `new` is a name not used yet, and
    `asked` one that the verb could do without."""

    number: int
    title: str
    verb: str
    fixed: Mapping[str, Value] = field(default_factory=dict)
    new: str = ""
    asked: str = ""
    guarded: bool = False
    """Kept away from the harmless, like what destroys."""


@dataclass(frozen=True, slots=True)
class Group:
    number: int
    title: str
    items: tuple[Item, ...]

    def lines(self) -> list[str]:
        return [self.title, "", *_numbered(self.items), "", "  0  Back"]


GROUPS: Final = (
    Group(
        1,
        "Look at volumes, disks and events",
        (
            Item(1, "How the volumes are", "status"),
            Item(2, "Which moments of a volume can be restored", "timeline"),
            Item(3, "The disks", "disks"),
            Item(4, "What happened lately", "events"),
            Item(5, "What a code means", "explain"),
            Item(6, "What a restore would change", "restore", {"plan": True}),
            Item(7, "What the front panel shows", "panel"),
        ),
    ),
    Group(
        2,
        "Snapshots and views",
        (
            Item(1, "Give the present moment a name", "snapshot", new="name"),
            Item(
                2, "Give the present moment a name, and pin it", "snapshot", {"pin": True}, "name"
            ),
            Item(3, "Let a pinned snapshot go with the others", "snapshot", {"unpin": True}),
            Item(4, "List the open views", "view list"),
            Item(5, "Open a moment as a read-only disk", "view create"),
            Item(6, "Close a view", "view drop"),
            Item(8, "Forget a snapshot's name", "snapshot", {"delete": True}, guarded=True),
        ),
    ),
    Group(
        3,
        "Make the two disks of a volume agree",
        (
            Item(1, "Copy what is known to differ", "sync", {"wait": True}),
            Item(2, "Compare everything, copy nothing", "sync", {"verify": True, "wait": True}),
            Item(3, "Compare everything, copy what differs", "sync", {"full": True, "wait": True}),
        ),
    ),
    Group(
        4,
        "Jobs",
        (
            Item(1, "List the jobs", "job list"),
            Item(2, "Watch a job", "job wait"),
            Item(3, "Hold a job", "job pause"),
            Item(4, "Let a held job go on", "job pause", {"resume": True}),
            Item(8, "Stop a job", "job cancel", guarded=True),
        ),
    ),
    Group(
        5,
        "Policies and the operator lock",
        (
            Item(1, "Change a policy of a volume", "set"),
            Item(8, "Take the operator lock away", "unlock", {"force": True}, guarded=True),
        ),
    ),
    Group(
        8,
        "Restore, protect, release: asks before it does anything",
        (
            Item(2, "Put a volume back to an earlier moment", "restore", {"wait": True}),
            Item(4, "Protect a disk as a new volume", "protect", {"wait": True}, "volume"),
            Item(6, "Give a restore up half-way", "give-up"),
            Item(8, "Stop protecting a volume, and lose its past", "release"),
            Item(
                12,
                "Put a volume back to a moment, though it is suspect",
                "restore",
                {"wait": True, "force": True},
            ),
            Item(
                14,
                "Protect a disk, and destroy what the other carries",
                "protect",
                {"wait": True},
                "volume",
                asked="wipe",
            ),
        ),
    ),
)


def main_lines() -> list[str]:
    """The menu at the top."""
    return [
        "Type a number, or a command (`help` lists them):",
        "",
        *_numbered(GROUPS[:-1]),
        "",
        *_numbered(GROUPS[-1:]),
        "",
        "  0  Log out",
    ]


def do(item: Item, manner: Manner) -> Conversation[None]:
    """Ask for what the item needs, and do it."""
    verb = HERE[item.verb]
    arguments: dict[str, Value] = {}
    for parameter in verb.parameters:
        if parameter.name in item.fixed:
            arguments[parameter.name] = item.fixed[parameter.name]
        elif parameter.type == "switch":
            continue
        elif parameter.required or parameter.name == item.asked:
            arguments[parameter.name] = yield from ask_for(
                parameter, arguments, parameter.name == item.new
            )
    yield from carry_out(verb, arguments, manner)


def _numbered(entries: "tuple[Group | Item, ...]") -> list[str]:
    return [f"{entry.number:>3}  {entry.title}" for entry in entries]
