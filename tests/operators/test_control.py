"""The control socket: real sockets and the real loop, with a fake appliance behind them."""

import contextlib
import json
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any, Self

import pytest
from pytest_mock import MockerFixture

from appliance import __version__
from appliance.cdp.points import MapSummary, Snapshot
from appliance.errors import ServiceUnreachable
from appliance.loop import Loop
from appliance.operators.actions import PART
from appliance.operators.control.client import ControlClient, Refused
from appliance.operators.control.messages import REQUEST_MAXIMUM
from appliance.operators.control.server import USER_CONNECTIONS_MAXIMUM, ControlServer
from appliance.operators.control.session import LINES_A_TURN, TASKS_MAXIMUM
from appliance.operators.interfaces import AbsentVolume
from appliance.operators.panel_link import POLL_SECONDS
from appliance.operators.requests import PROGRESS_SECONDS
from tests.operators.fake_appliance import NOON, FakeAppliance
from tests.operators.running_service import RunningService, running_service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path) as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[ControlClient]:
    with ControlClient(service.socket) as connected:
        yield connected


class Raw:
    """A client that speaks bytes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Any:
        line = self.lines.readline()
        return json.loads(line) if line else None


def request(number: int | str, verb: str, **arguments: object) -> bytes:
    return json.dumps({"id": number, "verb": verb, "args": arguments}).encode() + b"\n"


def refusal(client: ControlClient, verb: str, **arguments: object) -> Refused:
    with pytest.raises(Refused) as raised:
        client.request(verb, arguments)
    return raised.value


# The bytes


def test_the_server_greets(service: RunningService) -> None:
    with Raw(service.socket) as raw:
        assert raw.read() == {"ebbtide": __version__, "schema": 1}


def test_the_socket_is_not_for_everybody(service: RunningService) -> None:
    assert stat.S_IMODE(service.socket.stat().st_mode) == 0o660


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"{}",
        b"[]",
        b'{"id": 1}',
        b'{"id": 1.5, "verb": "status"}',
        b'{"id": null, "verb": "status"}',
        b'{"id": 1, "verb": "status", "shell": "rm"}',
        b'{"id": 1, "verb": 7}',
        b'{"id": 1, "verb": "status", "args": []}',
        b'{"id": 1, "verb": "status", "args": {"volume": {"a": 1}}}',
        b'{"id": "' + b"x" * 65 + b'", "verb": "status"}',
        b'{"id": ' + b"[" * 50_000,
        b"\xff\xfe\x00",
        b'{"id": 1, "verb": "sta\xfftus"}',
        b'{"id": 1, "verb": "status"} trailing',
    ],
)
def test_a_bad_line_is_answered_and_the_next_one_served(
    service: RunningService, line: bytes
) -> None:
    with Raw(service.socket) as raw:
        raw.read()
        raw.send(line + b"\n" + request(2, "disks"))
        answer = raw.read()
        assert answer["id"] is None
        assert answer["error"]["code"] == "EB602"
        assert "Traceback" not in answer["error"]["sentence"]
        assert raw.read()["id"] == 2


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_an_overlong_line_ends_the_connection(service: RunningService, end: bytes) -> None:
    with Raw(service.socket) as raw:
        raw.read()
        raw.send(b" " * (REQUEST_MAXIMUM + 1) + end)
        assert raw.read()["error"]["code"] == "EB602"
        assert raw.read() is None


def test_the_longest_line_is_served(service: RunningService) -> None:
    line = request(1, "disks").rstrip()
    with Raw(service.socket) as raw:
        raw.read()
        raw.send(line + b" " * (REQUEST_MAXIMUM - len(line)) + b"\n")
        assert "ok" in raw.read()


def test_a_line_may_come_byte_by_byte_and_lines_together(service: RunningService) -> None:
    with Raw(service.socket) as raw:
        raw.read()
        for byte in request("a", "disks"):
            raw.send(bytes([byte]))
        assert raw.read()["id"] == "a"
        raw.send(b"".join(request(number, "explain", code="EB101") for number in range(1000)))
        assert sorted(raw.read()["id"] for _ in range(1000)) == list(range(1000))


def test_a_client_that_says_no_more_gets_its_answers(service: RunningService) -> None:
    with Raw(service.socket) as raw:
        raw.send(request(1, "sync", volume="finance", wait=True) + request(2, "disks") + b"half")
        raw.socket.shutdown(socket.SHUT_WR)
        answers = [json.loads(line) for line in raw.lines]
    assert {answer.get("id") for answer in answers if "ok" in answer} == {1, 2}
    assert "it ends in the middle" in next(a for a in answers if "error" in a)["error"]["sentence"]


def test_a_client_that_does_not_read_stops_nobody(service: RunningService) -> None:
    with Raw(service.socket) as raw:
        raw.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                raw.socket.send(request(1, "status") * 100)
        with ControlClient(service.socket) as other:
            assert other.request("status", {})["volumes"]
        raw.socket.settimeout(10)
        for _ in range(100):
            assert raw.read()


def test_a_client_that_vanishes_ends_its_waiting_only(service: RunningService) -> None:
    service.finance.stalled = True
    with Raw(service.socket) as raw:
        raw.read()
        raw.send(request(1, "sync", volume="finance", wait=True))
        assert raw.read()["progress"]["kind"] == "resync"
    with ControlClient(service.socket) as client:
        (job,) = client.request("job list", {})["jobs"]
        assert job["result"] is None
        client.request("job cancel", {"job": job["number"]})


def test_connections_are_bounded(tmp_path: Path) -> None:
    with (
        running_service(tmp_path, connections_maximum=2) as service,
        Raw(service.socket) as one,
        Raw(service.socket) as two,
        Raw(service.socket) as three,
    ):
        assert "schema" in one.read()
        assert "schema" in two.read()
        assert three.read()["error"]["code"] == "EB902"
        assert three.read() is None
        with pytest.raises(Refused, match="2 control connections"):
            ControlClient(service.socket)
        one.socket.shutdown(socket.SHUT_WR)
        assert one.read() is None
        with ControlClient(service.socket) as client:
            assert client.request("disks", {})


def test_one_user_does_not_shut_out_others(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(USER_CONNECTIONS_MAXIMUM):
            assert "schema" in opened.enter_context(Raw(service.socket)).read()
        assert opened.enter_context(Raw(service.socket)).read()["error"]["code"] == "EB902"
        monkeypatch.setattr(ControlServer, "_user", lambda server, client: "somebody else")
        with ControlClient(service.socket) as other:
            assert other.request("disks", {})


# Who listens, and whether anybody does


def test_the_socket_goes_with_the_service(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    server = ControlServer(loop, path, FakeAppliance(loop, tmp_path))
    assert path.is_socket()
    server.close()
    server.close()
    assert not path.exists()


def test_no_service(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnreachable, match="no such file"):
        ControlClient(tmp_path / "none.sock")
    with pytest.raises(ServiceUnreachable, match="path too long"):
        ControlClient(tmp_path / ("x" * 200))


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b'{"ebbtide": "9", "schema": 2}\n', "schema 2"),
        (b"HTTP/1.1 400\n", "speaks no JSON"),
        (b"[]\n", "another JSON"),
        (b"", "closed the connection"),
    ],
)
def test_a_service_that_is_something_else(tmp_path: Path, greeting: bytes, said: str) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def greet() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(greeting)

        thread = Thread(target=greet)
        thread.start()
        try:
            with pytest.raises(ServiceUnreachable, match=said):
                ControlClient(path)
        finally:
            thread.join(timeout=10)


# The verbs


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


def test_a_flood_is_answered_in_many_turns_of_the_loop(loop: Loop, tmp_path: Path) -> None:
    """Hosts are served in each of them."""
    appliance = FakeAppliance(loop, tmp_path)
    server = ControlServer(loop, tmp_path / "control.sock", appliance)
    begun: list[int] = []

    def absent_volumes() -> list[AbsentVolume]:
        begun.append(1)
        return []

    appliance.absent_volumes = absent_volumes  # type: ignore[method-assign]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control.sock"))
        client.sendall(request(1, "status") * 100)
        client.setblocking(False)
        turns = 0
        while len(begun) < 100:
            before = len(begun)
            loop.turn(0)
            turns += 1
            with contextlib.suppress(BlockingIOError):
                client.recv(1 << 20)
            assert len(begun) - before <= 2 * LINES_A_TURN
    assert turns >= 100 / (2 * LINES_A_TURN)
    server.close()


def test_who_hangs_up_leaves_at_once(service: RunningService, mocker: MockerFixture) -> None:
    """Though what they asked for last is still under way, and silent."""
    mocker.patch("appliance.operators.requests.PROGRESS_SECONDS", 1000)
    service.finance.stalled = True
    with Raw(service.socket) as raw:
        raw.read()
        raw.send(request(1, "lock"))
        assert "ok" in raw.read()
        raw.send(request(2, "sync", volume="finance", wait=True))
        assert "progress" in raw.read()
    with ControlClient(service.socket) as other:
        other.request("lock", {})
    job = service.finance.job
    assert job is not None
    service.on_loop(job.cancel)


@pytest.mark.parametrize("ends_requests", [True, False])
def test_who_vanishes_while_nothing_is_read_from_them_is_gone_at_once(
    service: RunningService, ends_requests: bool
) -> None:
    """Because they have ended their requests, or as many as possible are worked on: the panel of
    one who is gone is none."""
    with ControlClient(service.socket) as client:
        with Raw(service.socket) as raw:
            glass = {"lines": ["x" * 16] * 2, "backlight": "green", "handled": 0}
            raw.send(request(1, "panel exchange", **glass))
            if ends_requests:
                raw.socket.shutdown(socket.SHUT_WR)
            else:
                raw.send(request(2, "panel", press="up") * (TASKS_MAXIMUM + 1))
            for _ in range(TASKS_MAXIMUM):  # it has been read by then
                client.request("disks", {})
            assert client.request("panel", {})["lines"] == glass["lines"]
        end = monotonic() + POLL_SECONDS / 2
        while has_panel(client):
            assert monotonic() < end


def has_panel(client: ControlClient) -> bool:
    try:
        client.request("panel", {})
    except Refused:
        return False
    return True


def test_who_only_ends_their_requests_is_answered(service: RunningService) -> None:
    with Raw(service.socket) as raw:
        raw.read()
        raw.send(request(1, "sync", volume="finance", wait=True))
        raw.socket.shutdown(socket.SHUT_WR)
        answers = list(iter(raw.read, None))
        assert answers[-1]["ok"]["job"]["result"] == "done"
