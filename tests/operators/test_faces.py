"""Faces on the control socket: who, and from where; and the lock when a connection dies."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from appliance.errors import ServiceUnreachable
from appliance.operators.control.client import ControlClient, Refused
from tests.operators.running_service import RunningService, running_service

USER = pwd.getpwuid(os.getuid()).pw_name
HOLDER = """
import sys
from pathlib import Path
from appliance.errors import ServiceUnreachable
from appliance.operators.control.client import ControlClient
client = ControlClient(Path(sys.argv[1]), face="panel")
client.request("lock", {})
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path) as running:
        yield running


def operator(service: RunningService) -> Any:
    with ControlClient(service.socket) as client:
        return client.request("status", {})["operator"]


def snapshot(client: ControlClient, name: str) -> Any:
    return client.request("snapshot", {"volume": "finance", "name": name})


@pytest.mark.parametrize(
    ("face", "actor"),
    [("", USER), ("console ttyS0", f"{USER} at console ttyS0"), ("a\nb\x1b", f"{USER} at a?b?")],
)
def test_events_tell_who_and_from_where(service: RunningService, face: str, actor: str) -> None:
    with ControlClient(service.socket, face) as client:
        snapshot(client, "noon")
        asked, taken = client.request("events", {})["events"]
    assert (asked["actor"], taken["actor"]) == (actor, actor)
    assert asked["text"] == f"{actor} asked for: snapshot finance noon"


def test_a_face_is_told_first_or_never(service: RunningService) -> None:
    with ControlClient(service.socket) as client:
        client.request("disks", {})
        client._send(b'{"face": "console ttyS0"}\n')
        with pytest.raises(Refused, match="face"):
            client.request("disks", {})


def test_who_did_what_is_known_after_a_restart(tmp_path: Path) -> None:
    with running_service(tmp_path) as service, ControlClient(service.socket, "panel") as client:
        snapshot(client, "noon")
    with running_service(tmp_path) as service, ControlClient(service.socket) as client:
        asked, _ = client.request("events", {})["events"]
    assert asked["actor"] == f"{USER} at panel"


def test_the_lock_is_seen_and_refuses_others(service: RunningService) -> None:
    with (
        ControlClient(service.socket, "console ttyS0") as ann,
        ControlClient(service.socket) as bob,
    ):
        held = ann.request("lock", {})["operator"]
        assert held["actor"] == f"{USER} at console ttyS0"
        assert operator(service) == held
        with pytest.raises(Refused) as refused:
            snapshot(bob, "noon")
        assert (refused.value.answer.code, refused.value.answer.exit_code) == ("EB604", 3)
        assert f"{USER} at console ttyS0 has been" in refused.value.answer.sentence
        ann.request("unlock", {})
        assert operator(service) is None
        assert snapshot(bob, "noon")["done"] == "taken"


def test_the_lock_does_not_outlive_its_process(service: RunningService) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(service.socket)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert operator(service)["actor"] == f"{USER} at panel"
        holder.send_signal(signal.SIGKILL)
    with ControlClient(service.socket) as client:
        client.request("lock", {})  # the kernel told the service before this connection came


def test_keys_reach_the_panel(service: RunningService) -> None:
    glass = {"lines": ["finance: ok     ", "                "], "backlight": "green"}
    after = glass | {"lines": ["▶finance        ", "                "]}
    with (
        ControlClient(service.socket, "panel") as panel,
        ControlClient(service.socket) as hands,
    ):

        def serve() -> None:
            handled, shown = 0, glass
            for _ in range(2):
                (key,) = panel.request("panel exchange", shown | {"handled": handled})["keys"]
                handled, shown = key["number"], after
            with pytest.raises(ServiceUnreachable):
                panel.request("panel exchange", shown | {"handled": handled})

        thread = Thread(target=serve)
        thread.start()
        for key in ("select", "up"):
            while True:
                try:
                    answer = hands.request("panel", {"press": key, "hold": 0.5})
                    break
                except Refused as refused:
                    if refused.answer.code != "EB605":  # it has not asked yet
                        raise
            assert answer == {"schema": 1, **after}
        service.on_loop(service.server.close)
        thread.join(timeout=10)
        assert not thread.is_alive()
