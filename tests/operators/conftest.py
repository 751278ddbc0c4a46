"""A service with a fake appliance behind its control socket, and a client of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.operators.control.client import ControlClient
from tests.operators.running_service import RunningService, running_service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path) as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[ControlClient]:
    with ControlClient(service.socket) as connected:
        yield connected
