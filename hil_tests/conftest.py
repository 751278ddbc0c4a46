"""Fixtures of the rig: a box in its starting state, and a watch over all that it says."""

import os
from collections.abc import Iterator
from random import Random

import pytest
from labgrid import Target

from hil_tests import breakages, report
from hil_tests.box import Box
from hil_tests.drivers.protocols import FarMachineProtocol
from hil_tests.drivers.recorded import RecordedLine
from hil_tests.drivers.virtual import VirtualBox
from hil_tests.host import Host


def _seed(request: pytest.FixtureRequest) -> int:
    """EBBTIDE_SEED plays a test again as it was."""
    return int(os.environ.get("EBBTIDE_SEED") or Random(request.node.nodeid).randrange(1 << 32))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What is left to chance in this test: the same in each run, unless EBBTIDE_SEED says so."""
    return _seed(request)


@pytest.fixture(scope="session")
def _lines(target: Target) -> Iterator[list[RecordedLine]]:
    """All lines that are recorded, from the first second on."""
    lines = [each for each in target.drivers if isinstance(each, RecordedLine)]
    for line in lines:
        target.activate(line)
    yield lines
    for line in lines:
        target.deactivate(line)


@pytest.fixture
def box(
    request: pytest.FixtureRequest, target: Target, _lines: list[RecordedLine], seed: int
) -> Box:
    """A box as new, its bays empty and its disks blank, with a shell on its system's line."""
    request.node.stash[report.MARKS] = [(line, line.length) for line in _lines]
    request.node.stash[report.SEED] = seed
    for driver in target.drivers:
        if isinstance(driver, VirtualBox):
            target.activate(driver)
            driver.random = Random(seed)
            driver.set_clock("utc")
    box = Box(target)
    box.start()
    told = request.config.stash[report.REPORT]
    told.image = told.image or box.image
    breakage = breakages.chosen()
    if breakage is not None:
        breakage.inflict(box.shell)
    return box


@pytest.fixture
def far(request: pytest.FixtureRequest, box: Box) -> Iterator[FarMachineProtocol]:
    """A machine beside the box, as new; ask for the feature in the test's mark."""
    machine: FarMachineProtocol = box.driver(FarMachineProtocol)
    request.node.stash[report.MARKS] += [(line, line.length) for line in machine.lines]
    try:
        machine.start()
        yield machine
    finally:
        machine.stop()


@pytest.fixture
def host(box: Box) -> Iterator[Host]:
    """A host on the network, which the box lets in."""
    host = box.host
    yield host
    host.leave()
