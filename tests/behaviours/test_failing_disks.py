"""What is told of a disk that fails, that hangs, or that is only pulled."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.service.media import PlayedDisk
from tests.service.service_process import Service

DEADLINE = 5.0
"""Of a disk that hangs.  The other one is played, too: each of its answers takes a turn of four
processes, which on a busy machine must not look like hanging."""
FAILED, FENCED, LEFT = "EV103", "EV104", "EV102"


@pytest.fixture
def impatient(
    primary: PlayedDisk, secondary: PlayedDisk, make_service: Callable[..., Service]
) -> Service:
    service = make_service("udev", disk_deadline_seconds=DEADLINE)
    service.start(primary.id, secondary.id)
    service.protect("finance", primary.id, secondary.id)
    return service


@contextlib.contextmanager
def stalled(disk: PlayedDisk) -> Iterator[None]:
    disk.medium.stall()
    try:
        yield
    finally:
        disk.medium.resume()


def told(service: Service, disk: PlayedDisk) -> list[str]:
    """What was told of a disk, other than that it came."""
    events = service.ask("events", limit=4096)["events"]
    return [
        event["code"]
        for event in events
        if event["code"] in (FAILED, FENCED, LEFT) and event["fields"]["disk"] == disk.id
    ]


def test_a_secondary_that_refuses_writes_has_failed(
    service: Service, secondary: PlayedDisk
) -> None:
    secondary.medium.refuses_writes = True
    with service.connect("finance") as client:
        client.write(0, b"x" * 4096)
    service.until_state("finance", "tracking")
    service.wait(lambda: bool(told(service, secondary)), "it to be told")
    assert set(told(service, secondary)) == {FAILED}
    assert service.events(FAILED)[0]["text"].endswith("failed: Input/output error")
    secondary.medium.refuses_writes = False


@pytest.mark.parametrize(("which", "state"), [("primary", "offline"), ("secondary", "tracking")])
def test_a_disk_that_hangs_is_fenced(
    impatient: Service, primary: PlayedDisk, secondary: PlayedDisk, which: str, state: str
) -> None:
    service = impatient
    disk = {"primary": primary, "secondary": secondary}[which]
    with stalled(disk):
        with service.connect("finance") as client, contextlib.suppress(OSError):
            client.write(0, b"x" * 4096)
        service.until_state("finance", state)
        service.wait(lambda: bool(told(service, disk)), "it to be told")
        assert told(service, disk) == [FENCED]
    service.until_state("finance", "protected")


def test_a_disk_that_is_pulled_has_not_failed(service: Service, secondary: PlayedDisk) -> None:
    secondary.disk.pull()  # with nothing on its way: its medium refuses nothing before it is gone
    service.until_state("finance", "tracking")
    service.wait(lambda: LEFT in told(service, secondary), "it to be told")
    assert told(service, secondary) == [LEFT]
    secondary.attach()
    service.until_state("finance", "protected")
