"""The menu's numbers, which people and rigs remember."""

import re
from pathlib import Path

import pytest

from appliance.operators.console.menu import GROUPS, Group, main_lines
from appliance.operators.console.paper import Paper, wrapped
from appliance.operators.console.typed import HERE, help_lines
from appliance.operators.text.screens import SCREENS
from appliance.operators.text.tables import folded_table
from appliance.operators.verbs import VERBS

NUMBERS = {
    "11": "status",
    "12": "timeline",
    "13": "disks",
    "14": "events",
    "15": "explain",
    "16": "restore",
    "17": "panel",
    "21": "snapshot",
    "22": "snapshot",
    "23": "snapshot",
    "24": "view list",
    "25": "view create",
    "26": "view drop",
    "28": "snapshot",
    "31": "sync",
    "32": "sync",
    "33": "sync",
    "41": "job list",
    "42": "job wait",
    "43": "job pause",
    "44": "job pause",
    "48": "job cancel",
    "51": "set",
    "58": "unlock",
    "82": "restore",
    "84": "protect",
    "86": "give-up",
    "88": "release",
    "812": "restore",
    "814": "protect",
}
"""Group and item: never given to anything else."""


def test_numbers_are_stable() -> None:
    found = {f"{group.number}{item.number}": item.verb for group in GROUPS for item in group.items}
    assert found == NUMBERS


def test_every_verb_is_on_the_menu() -> None:
    assert {item.verb for group in GROUPS for item in group.items} == set(HERE)
    assert set(HERE) == {
        name for name, verb in VERBS.items() if not verb.offline and not verb.hidden
    }
    assert set(HERE) <= set(SCREENS)


def test_switches_are_those_of_the_verbs() -> None:
    for group in GROUPS:
        for item in group.items:
            known = {parameter.name for parameter in HERE[item.verb].parameters}
            assert set(item.fixed) <= known
            assert {item.new, item.asked} <= known | {""}
            assert "yes" not in known


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: str(group.number))
def test_dangerous_items_have_no_harmless_neighbours(group: Group) -> None:
    dangerous = {
        item.number: item.guarded
        or (HERE[item.verb].danger == "destroys" and not item.fixed.get("plan"))
        for item in group.items
    }
    assert 0 not in dangerous
    assert all(0 < number % 10 < 9 for number, danger in dangerous.items() if danger), (
        "9 stands beside 0"
    )
    for number, danger in dangerous.items():
        for neighbour in (number - 1, number + 1):
            assert dangerous.get(neighbour, danger) == danger


def test_everything_that_can_be_said_can_be_chosen() -> None:
    """Or is asked for, or is a filter of what is shown."""
    chosen = {(item.verb, name) for group in GROUPS for item in group.items for name in item.fixed}
    chosen |= {(item.verb, item.asked) for group in GROUPS for item in group.items}
    left = {
        (verb.name, parameter.name)
        for verb in HERE.values()
        for parameter in verb.parameters
        if not parameter.required and (verb.name, parameter.name) not in chosen
    }
    assert left == {
        ("status", "volume"),
        *(("events", name) for name in ("volume", "after", "limit")),
        *(("panel", name) for name in ("press", "hold")),
    }


def test_the_dangerous_group_stands_apart() -> None:
    numbers = [group.number for group in GROUPS]
    assert min(abs(numbers[-1] - number) for number in numbers[:-1]) >= 2
    assert numbers[-1] < 9


def test_menus_fit_a_page() -> None:
    for lines in (main_lines(), *(group.lines() for group in GROUPS)):
        assert len(lines) <= 20
        assert all(len(line) <= 79 and line.isascii() for line in lines)
        assert re.match(r"^  0  ", lines[-1])


def test_help_of_every_verb_fits() -> None:
    for name in HERE:
        lines = help_lines(name.split())
        assert lines[0].startswith(f"Usage: {name}")
        assert all(len(line) <= 79 and line.isascii() for line in lines)


def test_wide_tables_are_folded() -> None:
    columns, rows = ["id", ">size", "state"], [["a" * 10, "1", "free"], ["b", "22", "in use"]]
    assert folded_table(columns, rows, 79) == [
        "ID          SIZE  STATE",
        "aaaaaaaaaa     1  free",
        "b             22  in use",
    ]
    assert folded_table(columns, rows, 17) == [
        "ID          SIZE",
        "    STATE",
        "aaaaaaaaaa     1",
        "    free",
        "b             22",
        "    in use",
    ]
    assert folded_table(columns, [], 5) == ["ID", "    SIZE", "    STATE"]


def test_paper_is_plain() -> None:
    paper = Paper()
    paper.line("`cdpctl status` lists …; cdpctl fly \x1b[31m – é")
    assert paper.lines == ["`status` lists ...; cdpctl fly ?[31m - ?"]
    lines = wrapped("  " + "word " * 40)
    assert all(len(line) <= 79 for line in lines)
    assert lines[0].startswith("  word")
    assert lines[1].startswith("    word")
    assert [len(line) for line in wrapped("x" * 200)] == [79, 79, 46]


def test_no_room_of_the_console_touches_disks() -> None:
    room = Path(__file__).parents[3] / "appliance/operators/console"
    for file in room.glob("*.py"):
        assert "appliance.cdp" not in file.read_text(), file
