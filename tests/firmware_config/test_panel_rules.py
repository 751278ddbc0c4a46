"""The I2C buses that boards name are those that udev gives to the panel's process."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from appliance.boards import read_board

FILES = Path(__file__).parents[2] / "firmware_config"
BOARDS = sorted(path.stem for path in (FILES / "boards").iterdir())
RULE = re.compile(r'SUBSYSTEM=="i2c-dev", ATTR\{name\}=="([^"]+)", GROUP="cdp-panel", MODE="0660"')


def adapters() -> list[str]:
    """How the rules name adapters: patterns, one a line."""
    lines = (FILES / "udev" / "63-ebbtide-panel.rules").read_text().splitlines()
    rules = [RULE.fullmatch(line) for line in lines if line and not line.startswith("#")]
    assert all(rules)
    return [rule[1] for rule in rules if rule]


@pytest.mark.parametrize("board", BOARDS)
def test_the_bus_of_a_board_belongs_to_the_panel(board: str) -> None:
    bus = read_board(str(FILES / "boards" / f"{board}.toml")).bus
    assert any(fnmatchcase(bus, adapter) for adapter in adapters()), bus


def test_no_other_bus_does() -> None:
    buses = {read_board(str(FILES / "boards" / f"{board}.toml")).bus for board in BOARDS}
    for adapter in adapters():
        assert any(fnmatchcase(bus, adapter) for bus in buses), adapter
        assert adapter.strip("*?[]"), "it would be every bus"
