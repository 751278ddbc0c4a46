"""`cdp-exporter` itself, before a service that is there, away, or hangs."""

import asyncio
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from appliance import __version__
from appliance.cdp.jobs import Job
from appliance.errors import ServiceUnreachable
from appliance.events import READ_LOST
from appliance.operators.control.client import HELLO_SECONDS
from appliance.operators.exporter import main
from appliance.operators.exporter.main import Exporter
from appliance.operators.exporter.reading import Watcher
from tests.operators.running_service import running_service
from tests.service.service_process import BIN


@contextmanager
def exporter(directory: Path, listen: str = "127.0.0.1:0") -> Iterator[str]:
    """The process beside a service in `directory`; the address of its metrics."""
    config = directory / "ebbtide.toml"
    config.write_text(f'[service]\nruntime_dir = "{directory}"\n[exporter]\nlisten = "{listen}"\n')
    process = subprocess.Popen(
        [BIN / "cdp-exporter", "--config", config], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://\S+", said)
        assert found, said
        yield found[0]
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=10)
        assert process.returncode == 0
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.communicate()


def scrape(address: str) -> dict[str, float]:
    """What is exposed, by name and labels."""
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    found: dict[str, float] = {}
    for family in families(text):
        for sample in family.samples:
            labels = [f",{name}={value}" for name, value in sorted(sample.labels.items())]
            found["".join([sample.name, *labels])] = sample.value
    return found


def later(address: str, series: str, value: float) -> dict[str, float]:
    """The first look that shows this; looks are shared for a second."""
    end, pause = time.monotonic() + 15, Event()
    while (shown := scrape(address)).get(series) != value:
        assert time.monotonic() < end, shown
        pause.wait(0.05)
    return shown


def test_a_service_is_watched(tmp_path: Path) -> None:
    with running_service(tmp_path) as service, exporter(tmp_path) as address:
        shown = scrape(address)
        assert shown["ebbtide_up"] == 1
        assert shown[f"ebbtide_build_info,release={__version__}"] == 1
        assert shown["ebbtide_volume_state,state=protected,volume=finance"] == 1
        assert shown["ebbtide_volume_window_seconds,volume=finance"] == 1200
        assert shown["ebbtide_volume_gaps,volume=finance"] == 1
        assert shown["ebbtide_volume_suspect_maps,volume=finance"] == 1
        assert shown["ebbtide_disk_size_bytes,disk=a"] == 64 << 20
        assert not [name for name in shown if "_job_" in name]

        def happen() -> Job:
            service.finance.stalled = True
            service.finance.told.append(("EV411", "points are suspect"))
            service.appliance.emit(READ_LOST, volume="finance", length=1, offset=2)
            return service.finance.start("resync")

        job = service.on_loop(happen)
        shown = later(address, "ebbtide_job_size_bytes,kind=resync,volume=finance", 4 << 20)
        assert shown["ebbtide_volume_alert,code=EV411,volume=finance"] == 1
        assert shown["ebbtide_events_total,code=EV107,severity=error"] == 1
        assert shown["ebbtide_events_total,code=EV106,severity=warning"] == 0
        service.on_loop(job.cancel)


def test_a_service_that_is_away_is_said_at_once_and_found_again(tmp_path: Path) -> None:
    with exporter(tmp_path) as address:
        assert scrape(address) == {"ebbtide_up": 0}
        with running_service(tmp_path):
            later(address, "ebbtide_up", 1)
        assert later(address, "ebbtide_up", 0) == {"ebbtide_up": 0}


def test_an_address_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "ebbtide.toml"
        config.write_text(f'[exporter]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n')
        done = subprocess.run(
            [BIN / "cdp-exporter", "--config", config],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert done.returncode == 1
    assert "EB640" in done.stderr
    assert "Traceback" not in done.stderr


HELLO = b'{"ebbtide":"1","schema":1}\n'


@contextmanager
def played(path: Path, *says: bytes, drip: bool = False) -> Iterator[Watcher]:
    """A watcher before a service that greets so and then never comes to an end; with `drip`, it
    goes on byte by byte."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(0.01)
                for said in says:
                    peer.sendall(said)
                try:
                    while True:
                        try:
                            if not peer.recv(1 << 16):
                                return
                        except TimeoutError:
                            if drip:
                                peer.sendall(b" ")
                except OSError:
                    return

        thread = Thread(target=serve)
        thread.start()
        yield Watcher(path, seconds=0.4)
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("says", "drip"), [((), False), ((HELLO,), False), ((HELLO,), True), ((), True)]
)
def test_a_service_that_hangs_holds_no_scrape(
    tmp_path: Path, says: tuple[bytes, ...], drip: bool
) -> None:
    with played(tmp_path / "control.sock", *says, drip=drip) as watcher:
        began = time.monotonic()
        with pytest.raises(ServiceUnreachable, match="timed out"):
            watcher.look()
        assert 0.3 < time.monotonic() - began < HELLO_SECONDS, "its own time, and no other"


@pytest.mark.parametrize("said", [b"[]\n", b'{"id":1,"ok":{"volumes":[{}]}}\n', b"\xff\n", b'"'])
def test_a_service_that_talks_nonsense_is_away(tmp_path: Path, said: bytes) -> None:
    with (
        played(tmp_path / "control.sock", HELLO, said) as watcher,
        ThreadPoolExecutor(1) as threads,
    ):
        body, _ = asyncio.run(Exporter(watcher, threads).answer(""))
    assert body.splitlines()[-1] == b"ebbtide_up 0.0"


def test_many_scrapes_share_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "SHARED_SECONDS", 1000)  # a hundred answers take their time
    looks = []

    class Counting(Watcher):
        def look(self):  # type: ignore[no-untyped-def]
            looks.append(time.monotonic())
            return super().look()

    async def scenario(threads: ThreadPoolExecutor) -> None:
        watched = Exporter(Counting(tmp_path / "control.sock"), threads)
        impatient = asyncio.create_task(watched.answer(""))
        await asyncio.sleep(0)
        impatient.cancel()
        answers = await asyncio.gather(*(watched.answer("") for _ in range(100)))
        answers.append(await watched.answer(""))
        assert all(b"ebbtide_up 1.0" in body for body, _ in answers)

    with running_service(tmp_path), ThreadPoolExecutor(1) as threads:
        asyncio.run(scenario(threads))
    assert len(looks) == 1


def test_a_loss_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(threads: ThreadPoolExecutor) -> None:
        watched = Exporter(Watcher(tmp_path / "control.sock"), threads)
        for _ in range(3):
            await watched._look_again()

    with ThreadPoolExecutor(1) as threads:
        asyncio.run(scenario(threads))
    assert len(caplog.messages) == 1
    assert "cdpd does not answer" in caplog.messages[0]
