"""Disks are pulled and put in while hosts write: whatever belongs together finds together."""

import errno

import pytest

from appliance.hosts.nbd import wire
from tests.service.agreement import assert_exact, assert_in_sync, record
from tests.service.media import PlayedDisk
from tests.service.nbd_client import NbdClient
from tests.service.recorder import Recorder
from tests.service.service_process import Service


@pytest.fixture
def recorder(service: Service) -> Recorder:
    """It remembers the volume from before the first write."""
    return record(service, "finance")


def write_through(client: NbdClient, recorder: Recorder, disk: PlayedDisk) -> None:
    """Pull a disk while writes are in flight, and go on until all have been answered."""
    for _ in range(16):
        recorder.send_one(client)
    disk.pull()
    recorder.write_some(client, 100)


def test_a_secondary_pulled_under_load_and_put_back(
    primary: PlayedDisk, secondary: PlayedDisk, service: Service, recorder: Recorder
) -> None:
    with service.connect("finance") as client:
        recorder.write_some(client, 100)
        safe = recorder.life.last
        write_through(client, recorder, secondary)
        service.until_state("finance", "tracking")
        recorder.write_some(client, 50)
        tracked = service.status("finance")
        assert tracked["secondary"] is None
        assert tracked["dirty_regions"] > 0
        assert [alert["code"] for alert in tracked["alerts"]] == ["EV202"]
        secondary.attach()
        for _ in range(100):
            recorder.write_some(client, 5)
            if service.status("finance")["state"] == "protected":
                break
        newest = service.until_state("finance", "protected")["write_number"]
        recorder.write_some(client, 20)
    assert not recorder.errors()
    assert service.status("finance")["alerts"] == []
    assert_in_sync(service, "finance", recorder)
    assert_exact(service, "finance", recorder.life, safe)
    (gap,) = service.ask("timeline", volume="finance")["gaps"]
    assert safe < gap["from_write"] <= gap["to_write"] < newest


def test_a_secondary_that_comes_later(
    primary: PlayedDisk, secondary: PlayedDisk, service: Service, recorder: Recorder
) -> None:
    with service.connect("finance") as client:
        recorder.write_some(client, 50)
    first = recorder.life
    service.stop()
    secondary.pull()
    service.start()
    service.until_state("finance", "tracking")
    recorder.begin(service.status("finance")["write_number"], service.contents("finance"))
    with service.connect("finance") as client:
        recorder.write_some(client, 50)
        service.kill()  # what is tracked outlives the service
    tracked = recorder.life
    service.start()
    service.until_state("finance", "tracking")
    contents = service.contents("finance")
    recorder.begin(service.status("finance")["write_number"], contents)
    assert contents == tracked.at(tracked.last).tobytes()
    secondary.attach()
    service.until_state("finance", "protected")
    job = service.status("finance")["last_job"]
    assert (job["kind"], job["result"]) == ("resync", "done")
    assert_in_sync(service, "finance", recorder)
    assert_exact(service, "finance", first, first.last)


def test_a_primary_pulled_under_load_and_put_back(
    primary: PlayedDisk, secondary: PlayedDisk, service: Service, recorder: Recorder
) -> None:
    with service.connect("finance") as client:
        recorder.write_some(client, 100)
        safe = recorder.life.last
        write_through(client, recorder, primary)
        assert recorder.errors() == {"EIO"}
        service.until_state("finance", "offline")
        assert client.ask(wire.COMMAND_FLUSH).error == errno.EIO
        primary.attach()
        service.until_state("finance", "protected")
    assert_in_sync(service, "finance", recorder)
    assert_exact(service, "finance", recorder.life, safe)


def test_disks_that_come_one_after_the_other(
    primary: PlayedDisk, secondary: PlayedDisk, service: Service
) -> None:
    """The secondary alone serves nobody; the volume is there once its primary is."""
    service.stop()
    primary.pull()
    secondary.pull()
    service.start()
    secondary.attach()
    service.wait_for_disks(secondary.id)
    service.until_state("finance", "offline")
    alone = service.status("finance")
    assert alone["alerts"] == [{"code": "EV203", "text": "it waits for its primary"}]
    primary.attach()
    status = service.until_state("finance", "protected")
    assert (status["primary"]["id"], status["secondary"]["id"]) == (primary.id, secondary.id)
