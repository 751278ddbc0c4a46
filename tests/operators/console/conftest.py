"""A played console, before and after the login."""

from pathlib import Path

import pytest

from appliance.operators.access.lockout import Lockout
from tests.operators.console.played import PlayedConsole


@pytest.fixture
def console(tmp_path: Path) -> PlayedConsole:
    played = PlayedConsole(Lockout(tmp_path / "failures"))
    assert played.read().endswith("Password: ")
    return played


@pytest.fixture
def inside(console: PlayedConsole) -> PlayedConsole:
    assert console.log_in().endswith("OK\r\n> ")
    console.service.asked.clear()
    return console
