"""What the service manager is told."""

import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.readiness import READY, notify
from tests.service.service_process import BIN, Service


def test_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify(READY)


@pytest.mark.parametrize("address", ["/nowhere/at/all", "@ebbtide-nobody-listens", "x" * 300])
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify(READY)


def test_a_start_and_an_end_are_told(
    make_service: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        service.launch()
        assert manager.recv(100) == b"READY=1"
        # Ready means that whoever comes now is answered.
        words = [str(BIN / "cdpctl"), "--socket", str(service.socket), "--json", "status"]
        subprocess.run(words, check=True, capture_output=True, timeout=20)
        assert service.process is not None
        service.process.send_signal(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
        service.wait_until_stopped()
