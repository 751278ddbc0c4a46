"""A served NBD server for the tests that need sockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.nbd.served import Served, serve


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(tmp_path) as server:
        yield server
