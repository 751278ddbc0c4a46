"""A volume on disks whose media are in the test's hands."""

from collections.abc import Callable

import pytest

from tests.service.media import Media, PlayedDisk
from tests.service.service_process import MIB, Service


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
