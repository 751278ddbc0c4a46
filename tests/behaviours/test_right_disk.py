"""The right disk, at the face of the service: copies, strangers and disks that went their own way.

Nothing is guessed, what is not taken is left as it is, and either way somebody is told.
DESIGN.md, section 4, rule 9; siblings are in `test_refusals`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.operators.control.client import Refused
from tests.service.agreement import assert_exact, assert_in_sync, record
from tests.service.recorder import Recorder
from tests.service.service_process import MIB, Service

REFUSED = "EV105"
WRITTEN_ELSEWHERE = "EV212"
STALE = "EV215"


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """With `finance` on alpha and beta; stopped, after some writes."""
    service = make_service(wait_for_secondary_seconds=0.3)
    service.disk("alpha", 6 * MIB)
    service.disk("beta", 32 * MIB)
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    write(service)
    service.stop()
    return service


def write(service: Service, count: int = 30) -> Recorder:
    recorder = record(service, "finance", seed=service.status("finance")["write_number"])
    with service.connect("finance") as client:
        recorder.write_some(client, count)
    assert not recorder.errors()
    return recorder


def file(service: Service, disk: str) -> Path:
    return service.disks / f"{disk}.img"


def aside(service: Service, disk: str) -> Path:
    return service.room / f"{disk}.aside"


def copy(service: Service, disk: str, name: str) -> None:
    """An old copy, which waits outside."""
    shutil.copy(file(service, disk), aside(service, name))


def pull(service: Service, disk: str) -> None:
    file(service, disk).rename(aside(service, disk))


def put(service: Service, disk: str) -> None:
    aside(service, disk).rename(file(service, disk))


def states(service: Service) -> dict[str, str]:
    return {disk["id"]: disk["state"] for disk in service.ask("disks")["disks"]}


def until_volume(service: Service, state: str) -> None:
    service.wait(lambda: bool(service.ask("status")["volumes"]), "the volume")
    service.until_state("finance", state)


def refused(service: Service) -> set[str]:
    return {event["fields"]["disk"] for event in service.events(REFUSED)}


def assert_all_was_compared(service: Service) -> None:
    status = service.status("finance")
    assert status["last_job"]["kind"] == "resync"
    assert status["last_job"]["bytes_scanned"] == status["size"]


# Copies


def test_of_two_copies_of_the_secondary_neither_is_taken(service: Service) -> None:
    copy(service, "beta", "twin")
    put(service, "twin")
    before = file(service, "twin").read_bytes()
    service.start("alpha", "beta", "twin")
    until_volume(service, "tracking")
    shown = states(service)
    assert shown["beta"] == shown["twin"]
    assert "beta and twin each claim to be the secondary of volume 'finance'" in shown["beta"]
    assert refused(service) == {"beta", "twin"}
    assert [alert["code"] for alert in service.status("finance")["alerts"]] == ["EV202", "EV105"]
    recorder = write(service)
    assert file(service, "twin").read_bytes() == before
    assert file(service, "beta").read_bytes() == before
    pull(service, "twin")  # a person has decided
    service.until_state("finance", "protected")
    assert service.status("finance")["secondary"]["id"] == "beta"
    assert not service.events(STALE)
    assert_in_sync(service, "finance", recorder)


def test_of_two_copies_of_the_primary_neither_serves_hosts(service: Service) -> None:
    copy(service, "alpha", "clone")
    put(service, "clone")
    before = file(service, "clone").read_bytes()
    service.start("alpha", "beta", "clone")
    service.wait(lambda: refused(service) == {"alpha", "clone"}, "both to be refused")
    service.wait(lambda: "waits" in states(service)["beta"], "a look at the secondary")
    (shown,) = service.ask("status")["volumes"]
    assert (shown["name"], shown["state"], shown["primary"]) == ("finance", "offline", None)
    assert shown["secondary"]["id"] == "beta"
    ((code, text),) = [alert.values() for alert in shown["alerts"]]
    assert code == "EV105"
    assert text.startswith("alpha and clone each claim to be the primary of volume 'finance'")
    with pytest.raises(Refused, match="alpha and clone each claim"):
        service.ask("timeline", volume="finance")
    assert states(service)["beta"] == "waits for its primary"
    assert "each claim to be the primary" in states(service)["alpha"]
    assert file(service, "alpha").read_bytes() == file(service, "clone").read_bytes() == before
    pull(service, "clone")
    until_volume(service, "protected")
    assert_in_sync(service, "finance", write(service))


def test_a_copy_of_the_primary_that_comes_later_is_refused(service: Service) -> None:
    copy(service, "alpha", "clone")
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    put(service, "clone")
    service.wait(lambda: refused(service) == {"clone"}, "the clone to be refused")
    assert states(service)["clone"] == "its volume has its primary already, disk alpha"
    assert_in_sync(service, "finance", write(service))


def test_the_disk_that_was_in_use_comes_back_beside_its_twin(service: Service) -> None:
    copy(service, "beta", "twin")
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    put(service, "twin")
    service.wait(lambda: refused(service) == {"twin"}, "the twin to be refused")
    pull(service, "beta")
    service.until_state("finance", "tracking")
    recorder = write(service)
    put(service, "beta")
    service.until_state("finance", "protected")
    assert service.status("finance")["secondary"]["id"] == "beta"
    assert refused(service) == {"twin"}
    assert_in_sync(service, "finance", recorder)


@pytest.mark.parametrize("hot", [False, True], ids=["at the start", "later"])
def test_a_stale_twin_is_told_and_compared_whole(service: Service, hot: bool) -> None:
    """Its generation is an ancestor; but what it lacks was written with the true one present."""
    copy(service, "beta", "twin")
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    recorder = record(service, "finance")
    write(service)
    service.stop()
    pull(service, "beta")
    if hot:
        service.start("alpha")
        until_volume(service, "tracking")
        put(service, "twin")
    else:
        put(service, "twin")
        service.start("alpha", "twin")
    service.until_state("finance", "protected")
    (event,) = service.events(STALE)
    assert event["fields"]["disk"] == "twin"
    assert_all_was_compared(service)
    assert_exact(service, "finance", recorder.life, recorder.life.first)
    (gap,) = service.ask("timeline", volume="finance")["gaps"]
    assert gap["from_write"] == recorder.life.first + 1
    recorder.begin(service.status("finance")["write_number"], service.contents("finance"))
    assert_in_sync(service, "finance", recorder)


@pytest.mark.parametrize("writes", [1, 60])
def test_the_secondary_of_a_copy_of_both_is_told_and_compared_whole(
    service: Service, writes: int
) -> None:
    """The same ids and the same generation, and another past."""
    copy(service, "alpha", "first-alpha")
    copy(service, "beta", "first-beta")
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    write(service, 20)
    service.stop()
    pull(service, "alpha")
    pull(service, "beta")
    shutil.copy(aside(service, "first-alpha"), file(service, "alpha"))
    shutil.copy(aside(service, "first-beta"), file(service, "beta"))
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    recorder = record(service, "finance", seed=8)
    with service.connect("finance") as client:
        recorder.write_some(client, writes)
    contents = service.contents("finance")
    service.stop()
    file(service, "beta").unlink()
    put(service, "beta")
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    assert len(service.events(WRITTEN_ELSEWHERE)) + len(service.events(STALE)) == 1
    assert_all_was_compared(service)
    assert service.contents("finance") == contents
    recorder.begin(service.status("finance")["write_number"], contents)
    assert_in_sync(service, "finance", recorder)


# Strangers


def test_a_swapped_pair(service: Service) -> None:
    """The primary of one volume, the secondary of another: neither is touched for the other."""
    service.disk("gamma", 6 * MIB)
    service.disk("delta", 32 * MIB)
    service.start("alpha", "beta", "gamma", "delta")
    service.protect("archive", "gamma", "delta")
    service.stop()
    pull(service, "beta")
    pull(service, "gamma")
    before = file(service, "delta").read_bytes()
    service.start("alpha", "delta")
    until_volume(service, "tracking")
    (alert,) = service.status("finance")["alerts"]
    assert "its secondary is not here" in alert["text"]
    (disk,) = [disk for disk in service.ask("disks")["disks"] if disk["id"] == "delta"]
    assert (disk["volume"], disk["role"]) == ("archive", "secondary")
    assert disk["state"] == "waits for its primary"
    write(service)
    service.stop()
    assert file(service, "delta").read_bytes() == before


def test_disks_are_known_whatever_they_are_called_and_wherever_they_are(service: Service) -> None:
    alpha, beta = file(service, "alpha"), file(service, "beta")
    alpha.rename(aside(service, "alpha"))
    beta.rename(alpha)
    aside(service, "alpha").rename(beta)
    service.start("alpha", "beta")
    until_volume(service, "protected")
    status = service.status("finance")
    assert (status["primary"]["id"], status["secondary"]["id"]) == ("beta", "alpha")
    assert not refused(service)
    assert_in_sync(service, "finance", write(service))


# A primary that was elsewhere


def test_a_primary_that_was_written_elsewhere_is_told_and_compared_whole(service: Service) -> None:
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    with service.connect("finance") as client:
        client.write(MIB, b"w" * 4096)
    recorder = record(service, "finance")
    service.stop()
    with file(service, "alpha").open("r+b") as primary:
        primary.seek(MIB)
        primary.write(b"elsewhere")
        primary.seek(3 * MIB + 8192)
        primary.write(b"far away")
    contents = file(service, "alpha").read_bytes()[: recorder.size]
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    assert len(service.events(WRITTEN_ELSEWHERE)) == 1
    assert_all_was_compared(service)
    assert service.contents("finance") == contents, "the primary is what counts"
    assert_exact(service, "finance", recorder.life, recorder.life.first)
    recorder.begin(service.status("finance")["write_number"], contents)
    assert_in_sync(service, "finance", recorder)
