"""The control socket: real sockets and the real loop, with a fake appliance behind them."""

import contextlib
import json
import socket
import stat
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest
from pytest_mock import MockerFixture

from appliance import __version__
from appliance.errors import ServiceUnreachable
from appliance.loop import Loop
from appliance.operators.control.client import ControlClient, Refused
from appliance.operators.control.messages import REQUEST_MAXIMUM
from appliance.operators.control.server import USER_CONNECTIONS_MAXIMUM, ControlServer
from appliance.operators.control.session import LINES_A_TURN, TASKS_MAXIMUM
from appliance.operators.interfaces import AbsentVolume
from appliance.operators.panel_link import POLL_SECONDS
from tests.operators.fake_appliance import FakeAppliance
from tests.operators.raw_client import Raw, request
from tests.operators.running_service import RunningService, running_service

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
