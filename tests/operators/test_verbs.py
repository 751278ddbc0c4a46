"""What verbs answer over the control socket, with a fake appliance behind it."""

import os
import pwd
from threading import Event
from typing import Any

import pytest

from appliance.cdp.points import MapSummary, Snapshot
from appliance.operators.actions import PART
from appliance.operators.control.client import ControlClient, Refused
from appliance.operators.requests import PROGRESS_SECONDS
from tests.operators.fake_appliance import NOON
from tests.operators.raw_client import Raw, request
from tests.operators.running_service import RunningService


def refusal(client: ControlClient, verb: str, **arguments: object) -> Refused:
    with pytest.raises(Refused) as raised:
        client.request(verb, arguments)
    return raised.value


def test_disks(client: ControlClient) -> None:
    answer = client.request("disks", {})
    assert answer["schema"] == 1
    assert [(disk["id"], disk["role"], disk["volume"]) for disk in answer["disks"]] == [
        ("a", "", None),
        ("b", "", None),
        ("p", "primary", "finance"),
        ("s", "secondary", "finance"),
    ]
    assert answer["disks"][0]["model"] == "Model ?[31m9"
    assert [(disk["health"], disk["temperature"]) for disk in answer["disks"]] == [
        ("unknown", None),
        ("unknown", None),
        ("good", 34),
        ("failing", None),
    ]
    assert answer["disks"][3]["health_reason"] == "its spare blocks run out"


def test_status_has_the_contract_s_shape(client: ControlClient) -> None:
    answer = client.request("status", {"volume": "finance"})
    (volume,) = answer["volumes"]
    assert volume == {
        "name": "finance",
        "state": "protected",
        "service": "online",
        "protection": "protected",
        "size": 64 << 20,
        "write_number": 1200,
        "primary": {"id": "p", "node": "/dev/sdp", "serial": "SN-p"},
        "secondary": {"id": "s", "node": "/dev/sds", "serial": "SN-s"},
        "dirty_regions": 3,
        "dirty_bytes": 3 << 20,
        "window": {
            "oldest": "2026-11-22T11:40:00.000000000Z",
            "newest": "2026-11-22T12:00:00.000000000Z",
            "oldest_write": 1,
            "newest_write": 1200,
        },
        "history": {"capacity_bytes": 128 << 20, "used_bytes": 32 << 20},
        "gaps": 1,
        "suspect_maps": 1,
        "job": None,
        "last_job": None,
        "alerts": [],
    }
    assert client.request("status", {})["volumes"] == [volume]
    assert refusal(client, "status", volume="other").answer.code == "EB301"


def test_status_without_disks_history_or_peace(
    service: RunningService, client: ControlClient
) -> None:
    service.finance.secondary = None
    service.finance.chain.clear()
    service.finance.told.append(("EV202", "the secondary is away"))
    service.finance.stalled = True
    client.request("sync", {"volume": "finance", "verify": True})
    (volume,) = client.request("status", {})["volumes"]
    assert (volume["secondary"], volume["window"]) == (None, None)
    assert volume["alerts"] == [{"code": "EV202", "text": "the secondary is away"}]
    assert volume["job"]["kind"] == "verify"
    assert {"phase", "bytes_total", "bytes_scanned", "bytes_different", "bytes_copied"} < set(
        volume["job"]
    )
    client.request("job cancel", {"job": volume["job"]["number"]})
    (volume,) = client.request("status", {})["volumes"]
    assert volume["last_job"]["result"] == "cancelled"


def test_timeline(client: ControlClient) -> None:
    answer = client.request("timeline", {"volume": "finance"})
    assert answer["maps"][1] == {
        "id": 2,
        "kind": "host",
        "order": "time",
        "first_write": 301,
        "last_write": 600,
        "opened": "2026-11-22T11:45:00.000000000Z",
        "closed": "2026-11-22T11:50:00.000000000Z",
        "bytes": 2 << 20,
        "suspect": True,
    }
    assert answer["snapshots"] == [
        {
            "name": "before-upgrade",
            "write": 450,
            "time": "2026-11-22T11:48:00.000000000Z",
            "pinned": True,
        }
    ]
    assert answer["gaps"] == [
        {"from_write": 700, "to_write": 720, "reason": "the secondary was away"}
    ]


def test_a_long_timeline_comes_in_parts_and_stands_still(service: RunningService) -> None:
    finance = service.finance
    finance.chain = [
        MapSummary(number, "host", "time", number, number, NOON, NOON, 1, False)
        for number in range(20_000)
    ]
    finance.names = {str(n): Snapshot(str(n), n, NOON) for n in range(700)}
    with Raw(service.socket) as raw:
        raw.read()
        raw.send(request(1, "timeline", volume="finance"))
        first = raw.read()
        assert len(first["part"]["maps"]) == PART
        service.on_loop(finance.chain.clear)
        lengths = [PART]
        while "ok" not in (part := raw.read()):
            lengths.append(len(part["part"]["maps"]))
        assert lengths == [PART] * (20_000 // PART - 1)
        assert part["ok"]["maps"][-1]["id"] == 19_999
    finance.chain = [
        MapSummary(number, "host", "time", number, number, NOON, NOON, 1, False)
        for number in range(1201)
    ]
    with ControlClient(service.socket) as client:
        answer = client.request("timeline", {"volume": "finance"})
        assert [delta_map["id"] for delta_map in answer["maps"]] == list(range(1201))
        assert len(answer["snapshots"]) == 700
        assert len(answer["gaps"]) == 1
        assert answer["volume"] == "finance"


def test_a_restore_that_has_begun_is_given_up_and_not_cancelled(
    client: ControlClient, service: RunningService
) -> None:
    service.finance.stalled = True
    arguments = {"volume": "finance"}
    assert refusal(client, "give-up", **arguments, yes=True).answer.code == "EB303"
    client.request("restore", {**arguments, "to": "write:7", "yes": True})
    job = service.finance.job
    assert job is not None
    job.must_end = True
    refused = refusal(client, "job cancel", job=job.number).answer
    assert (refused.code, refused.exit_code) == ("EB506", 3)
    assert refusal(client, "give-up", **arguments).answer.code == "EB503"
    assert client.request("give-up", {**arguments, "yes": True})["volume"] == "finance"
    assert job.result == "cancelled"


def test_protect_and_release(client: ControlClient) -> None:
    answer = client.request("protect", {"volume": "mail", "primary": "a", "secondary": "b"})
    assert answer["job"]["kind"] == "baseline"
    assert refusal(client, "release", volume="mail").answer.exit_code == 3
    client.request("release", {"volume": "mail", "yes": True})
    assert refusal(client, "status", volume="mail").answer.code == "EB301"


def test_protect_refuses(client: ControlClient) -> None:
    disks = {"primary": "b", "secondary": "a"}
    refused = refusal(client, "protect", volume="mail", **disks)
    assert (refused.answer.code, refused.answer.exit_code) == ("EB503", 3)
    client.request("protect", {"volume": "mail", "yes": True, **disks})
    assert refusal(client, "protect", volume="x", primary="a", secondary="a").answer.code == "EB602"
    assert refusal(client, "protect", volume="x", primary="a", secondary="q").answer.code == "EB101"
    told = refusal(client, "protect", volume="x", primary="a", secondary="b", wipe="b").answer
    assert (told.code, "b carries" in told.sentence) == ("EB503", True)


def test_snapshots(client: ControlClient) -> None:
    name = {"volume": "finance", "name": "noon"}
    answer = client.request("snapshot", name)
    assert answer["done"] == "taken"
    assert answer["snapshot"]["write"] == 1200
    assert refusal(client, "snapshot", **name).answer.code == "EB406"
    assert client.request("snapshot", name | {"pin": True})["snapshot"]["pinned"]
    assert not client.request("snapshot", name | {"unpin": True})["snapshot"]["pinned"]
    assert client.request("snapshot", name | {"delete": True})["done"] == "deleted"
    assert refusal(client, "snapshot", **name, delete=True).answer.code == "EB407"
    assert refusal(client, "snapshot", **name, delete=True, pin=True).answer.code == "EB602"
    assert client.request("snapshot", name | {"pin": True})["done"] == "taken"


def test_restore_shows_its_plan_before_anything(
    service: RunningService, client: ControlClient
) -> None:
    wanted = {"volume": "finance", "to": "-10m"}
    plan = {
        "point": "-10m",
        "write": 1000,
        "time": "2026-11-22T11:50:00.000000000Z",
        "blocks": 512,
        "bytes": 2 << 20,
        "disconnects_hosts": True,
    }
    assert client.request("restore", wanted | {"plan": True})["plan"] == plan
    refused = refusal(client, "restore", **wanted).answer
    assert (refused.code, refused.exit_code) == ("EB503", 3)
    assert refused.answer["plan"] == plan
    assert service.finance.job is None
    assert service.finance.last_job is None
    assert refusal(client, "restore", volume="finance", to="yore").answer.code == "EB401"


def test_waiting_shows_progress(client: ControlClient) -> None:
    seen: list[dict[str, Any]] = []
    answer = client.request(
        "restore", {"volume": "finance", "to": "write:7", "yes": True, "wait": True}, seen.append
    )
    assert answer["job"]["result"] == "done"
    assert answer["job"]["bytes_copied"] == 4 << 20
    assert seen[0]["phase"] == "copying"
    assert seen[0]["eta_seconds"] is None


def test_nothing_comes_after_the_answer(service: RunningService) -> None:
    with Raw(service.socket) as raw:
        raw.read()
        raw.send(request(1, "sync", volume="finance", wait=True))
        while "ok" not in raw.read():
            pass
        later = Event()
        service.on_loop(lambda: service.loop.after(PROGRESS_SECONDS * 1.5, later.set))
        assert later.wait(10)
        raw.send(request(2, "disks"))
        assert raw.read()["id"] == 2


def test_a_second_job_is_refused(service: RunningService, client: ControlClient) -> None:
    service.finance.stalled = True
    client.request("sync", {"volume": "finance", "full": True})
    assert refusal(client, "sync", volume="finance").answer.code == "EB501"
    client.request("job cancel", {"job": 1})


def test_waiting_for_what_fails_or_is_cancelled(
    service: RunningService, client: ControlClient
) -> None:
    service.finance.failure = OSError("no")
    refused = refusal(client, "sync", volume="finance", wait=True)
    assert refused.answer.code == "EB504"
    service.finance.failure = None
    service.finance.stalled = True
    job = client.request("sync", {"volume": "finance"})["job"]
    running = service.finance.job
    assert running is not None
    service.on_loop(lambda: service.loop.after(0.05, running.cancel))
    assert refusal(client, "job wait", job=job["number"]).answer.code == "EB505"
    assert refusal(client, "job wait", job=77).answer.code == "EB502"


def test_pausing(service: RunningService, client: ControlClient) -> None:
    service.finance.stalled = True
    job = client.request("sync", {"volume": "finance"})["job"]["number"]
    assert client.request("job pause", {"job": job})["job"]["phase"] == "paused"
    service.finance.stalled = False
    answer = client.request("job pause", {"job": job, "resume": True})
    assert answer["job"]["phase"] == "copying"
    assert client.request("job wait", {"job": job})["job"]["result"] == "done"
    assert refusal(client, "job pause", job=job).answer.code == "EB502"


def test_views(client: ControlClient) -> None:
    answer = client.request("view create", {"volume": "finance", "point": "write:9"})
    assert answer["view"] == {
        "name": "finance@write:9",
        "volume": "finance",
        "point": "write:9",
        "write": 9,
        "time": None,
    }
    assert client.request("view list", {})["views"] == [answer["view"]]
    client.request("view drop", {"view": "finance@write:9"})
    assert refusal(client, "view drop", view="finance@write:9").answer.code == "EB900"


def test_policies(service: RunningService, client: ControlClient) -> None:
    answer = client.request("set", {"volume": "finance", "settings": ["ack=primary"]})
    assert answer["settings"] == {"ack": "primary"}
    assert service.finance.ack == "primary"
    for bad in (["ack=none"], ["colour=red"], ["ack"], [], "ack=both"):
        assert refusal(client, "set", volume="finance", settings=bad).answer.code == "EB602"


def test_who_asked_for_a_change_is_written_down(client: ControlClient) -> None:
    client.request("status", {})
    client.request("restore", {"volume": "finance", "to": "-10m", "plan": True})
    client.request("snapshot", {"volume": "finance", "name": "noon", "pin": True})
    event, taken = client.request("events", {"volume": "finance"})["events"]
    assert (event["code"], taken["code"]) == ("EV903", "EV401")
    assert taken["text"] == "finance: snapshot noon was taken at write 1200"
    assert event["actor"] == pwd.getpwuid(os.getuid()).pw_name
    assert event["text"].endswith("asked for: snapshot finance noon --pin")
    assert client.request("events", {"after": event["number"]})["events"] == [taken]
    assert client.request("events", {"limit": 0})["events"] == []


def test_a_bug_is_reported_without_its_trace(
    service: RunningService, client: ControlClient, caplog: pytest.LogCaptureFixture
) -> None:
    del service.finance.chain
    refused = refusal(client, "timeline", volume="finance")
    assert refused.answer.code == "EB900"
    assert refused.answer.sentence == "something went wrong: AttributeError"
    assert "AttributeError" in caplog.text
