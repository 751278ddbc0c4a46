"""A secondary that was away comes back: only what was written meanwhile is read, and nothing is
lost.

On disks that are files, so without root; `test_hot_plug` does the same to block devices.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.agreement import assert_exact, assert_in_sync, record
from tests.service.nbd_client import NbdClient
from tests.service.recorder import Recorder
from tests.service.service_process import MIB, Json, Service

REGION = 64 << 10
SIZE = 6 * MIB
USED = 4 * MIB
"""Hosts write below."""
HOLD_OFF = 6.0
"""Seconds; longer than it takes this machine, busy as it may be, to see a disk come and go."""
CDPD = f"from appliance.service import bays, main; bays.HOLD_OFF_SECONDS = {HOLD_OFF}; main.main()"


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    service = make_service(wait_for_secondary_seconds=0.3)
    service.command = [sys.executable, "-c", CDPD]
    service.disk("alpha", SIZE)
    service.disk("beta", 64 * MIB)
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    return service


def files(service: Service) -> tuple[Path, Path]:
    return service.disks / "beta.img", service.room / "beta.aside"


def pull(service: Service) -> None:
    here, aside = files(service)
    here.rename(aside)


def put(service: Service) -> None:
    here, aside = files(service)
    aside.rename(here)


def write_some(recorder: Recorder, client: NbdClient, count: int, high: int = USED) -> None:
    for _ in range(count):
        while client.in_flight >= 16:
            recorder.note(client.collect())
        recorder.send_one(client, 0, high)
    recorder.settle(client)


def write_until(
    recorder: Recorder, client: NbdClient, condition: Callable[[], bool], high: int = USED
) -> None:
    """Write until it holds, for half a minute at most."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came true"
        write_some(recorder, client, 4, high)


def state(service: Service) -> str:
    return str(service.status("finance")["state"])


def codes(service: Service, *wanted: str) -> list[Json]:
    return [event for code in wanted for event in service.events(code)]


def assert_nothing_is_wrong(service: Service) -> None:
    """Both disks, read whole by `check`."""
    service.stop()
    beta, _ = files(service)
    found = service.do("check", str(service.disks / "alpha.img"), str(beta))
    assert (found["errors"], found["warnings"]) == (0, 0), found["findings"]


@pytest.mark.parametrize("load", [False, True], ids=["at rest", "under load"])
def test_a_resync_reads_only_what_was_written_meanwhile(service: Service, load: bool) -> None:
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        write_some(recorder, client, 100)
        safe = recorder.life.last
        service.until("finance", lambda status: not status["dirty_regions"])  # all is retired
        pull(service)
        write_until(recorder, client, lambda: state(service) == "tracking", REGION)
        for region in (0, 7, 20, 33):
            before = recorder.life.last
            while recorder.life.last == before:  # a FLUSH now and then
                recorder.send_one(client, region * REGION, (region + 1) * REGION)
        recorder.settle(client)
        away = service.status("finance")
        assert away["dirty_bytes"] == 4 * REGION
        put(service)
        if load:  # on one of the dirty regions: what is written meanwhile adds none
            write_until(recorder, client, lambda: state(service) == "protected", REGION)
        back = service.until_state("finance", "protected")
        write_some(recorder, client, 20)
    assert not recorder.errors()
    job = back["last_job"]
    assert (job["kind"], job["result"]) == ("resync", "done")
    assert job["bytes_scanned"] == away["dirty_bytes"]
    (gap,) = service.ask("timeline", volume="finance")["gaps"]
    assert safe < gap["from_write"] <= gap["to_write"] < back["write_number"]
    assert gap["reason"] == "the secondary was away"
    for number in range(recorder.life.first, safe + 1, 9):
        assert_exact(service, "finance", recorder.life, number)
    code, error, _ = service.refused(
        "restore", volume="finance", to=f"write:{gap['to_write']}", yes=True
    )
    assert (code, error) == (3, "EB403")
    assert_in_sync(service, "finance", recorder)
    assert_nothing_is_wrong(service)


def test_a_secondary_with_a_bad_contact_is_held_off(service: Service) -> None:
    """Out and in five times within seconds, under load."""
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        write_some(recorder, client, 50)
        for time_out in range(1, 6):
            pull(service)
            gone = time_out
            write_until(recorder, client, lambda: len(codes(service, "EV102")) == gone)  # noqa: B023
            write_until(recorder, client, lambda: state(service) == "tracking")
            put(service)
            write_until(recorder, client, lambda: len(codes(service, "EV101")) == gone + 2)  # noqa: B023
            if time_out == 1:  # one may be pulled by mistake
                write_until(recorder, client, lambda: state(service) == "protected")
        (disk,) = [disk for disk in service.ask("disks")["disks"] if disk["id"] == "beta"]
        assert disk["state"] == "it comes and goes, and is held off"
        write_until(recorder, client, lambda: state(service) == "protected")
        write_some(recorder, client, 20)
    assert not recorder.errors()
    assert len(codes(service, "EV209")) == 2, "it was taken back once at once, and once for good"
    assert len(codes(service, "EV302")) == 3, "the baseline, and a resync for each of them"
    assert not codes(service, "EV203", "EV212", "EV215")
    assert_in_sync(service, "finance", recorder)
    assert_nothing_is_wrong(service)
