"""A panel in the test's hands, before a control server with a fake appliance."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operators.panel.played_panel import PlayedPanel, served_panel
from tests.operators.running_service import RunningService


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[PlayedPanel, RunningService]]:
    with served_panel(tmp_path) as played:
        yield played


@pytest.fixture
def panel(served: tuple[PlayedPanel, RunningService]) -> PlayedPanel:
    return served[0]


@pytest.fixture
def service(served: tuple[PlayedPanel, RunningService]) -> RunningService:
    return served[1]
