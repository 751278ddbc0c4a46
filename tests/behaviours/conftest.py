"""A service with blank disks, or a volume on disks whose media are in the test's hands."""

from collections.abc import Callable, Iterator

import pytest
from pytest_mock import MockerFixture

from appliance.cdp import restore
from appliance.cdp.interfaces import BLOCK
from tests.behaviours.half_restored import Interrupted
from tests.service.blank_pair import Pair, blank_pair
from tests.service.media import Media, PlayedDisk
from tests.service.service_process import MIB, Service, service_in


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests of a module that do not stop it."""
    with service_in(tmp_path_factory.mktemp("running")) as service:
        service.start()
        yield service


@pytest.fixture
def pair(running: Service) -> Iterator[Pair]:
    """Blank disks of it."""
    with blank_pair(running) as pair:
        yield pair


@pytest.fixture
def in_small_steps(mocker: MockerFixture) -> None:
    """A restore goes two blocks at a time."""
    mocker.patch.object(restore, "STEP", 2 * BLOCK)


@pytest.fixture
def half(in_small_steps: None) -> Interrupted:
    return Interrupted()


@pytest.fixture
def primary(media: Media) -> PlayedDisk:
    return media.played("primary", 8 * MIB)


@pytest.fixture
def secondary(media: Media) -> PlayedDisk:
    return media.played("secondary", 64 * MIB)


@pytest.fixture
def service(
    primary: PlayedDisk, secondary: PlayedDisk, make_service: Callable[..., Service]
) -> Service:
    """With the volume `finance` on both; one that starts waits a second for its secondary."""
    service = make_service("udev", wait_for_secondary_seconds=1)
    service.start(primary.id, secondary.id)
    service.protect("finance", primary.id, secondary.id)
    return service
