"""`cdpd` itself: its command line, its start and its end."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.agreement import assert_in_sync, record
from tests.service.service_process import BIN, MIB, Service


def cdpd(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [BIN / "cdpd", *words], capture_output=True, text=True, timeout=20, check=False
    )


def test_settings_are_checked_without_a_service(
    make_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = make_service()
    good = cdpd("--config", service.config, "--check-config")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    assert not service.socket.exists()
    service.config.write_text("[disks]\ncolour = 'red'\n")
    for words in ((), ("--check-config",)):
        bad = cdpd("--config", service.config, *words)
        assert bad.returncode == 1
        assert "EB601" in bad.stderr
        assert "disks.colour" in bad.stderr
        assert "Traceback" not in bad.stderr
    missing = cdpd("--config", tmp_path / "nothing.toml")
    assert (missing.returncode, "EB601" in missing.stderr) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_order_leaves_nothing_to_settle(
    make_service: Callable[..., Service], number: int
) -> None:
    service = make_service()
    service.disk("alpha", 6 * MIB)
    service.disk("beta", 64 * MIB)
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        recorder.write_some(client, 60)
        for _ in range(8):
            recorder.send_one(client)
        assert service.process is not None
        service.process.send_signal(number)
        recorder.hear_out(client)
    service.wait_until_stopped()
    assert not service.socket.exists()
    assert not service.nbd.exists()
    service.start("alpha", "beta")
    status = service.until_state("finance", "protected")
    assert status["write_number"] <= recorder.life.last, "no number was skipped"
    assert status["dirty_regions"] == 0
    assert_in_sync(service, "finance", recorder)
    assert service.ask("timeline", volume="finance")["gaps"] == []


def test_a_stale_socket_is_no_obstacle(make_service: Callable[..., Service]) -> None:
    service = make_service()
    service.start()
    service.kill()
    assert service.socket.exists()
    service.start()
    service.stop()
