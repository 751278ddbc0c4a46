"""A disk that does not answer: what has nothing to do with it goes on, and late answers do no harm.

The deadline is a few seconds here, since it is that of the sound disks, too, which a busy machine
keeps waiting; a stall lasts twice as long, and what is waited for is bounded by it.
`EBBTIDE_DEADLINE=30` (the default of the service) makes the stall a minute long.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.hosts.nbd.host_words import ExportRefusedError
from tests.service.agreement import assert_exact, assert_in_sync, record
from tests.service.heartbeat import heartbeat
from tests.service.media import Media, PlayedDisk
from tests.service.service_process import MIB, Service

DEADLINE = float(os.environ.get("EBBTIDE_DEADLINE", "3"))
STALL = 2 * DEADLINE
pytestmark = pytest.mark.timeout(60 + 4 * STALL)
SOON = 2.0
"""What takes longer has waited for the disk that stalls; a busy machine takes some of it."""


@contextlib.contextmanager
def stalled(disk: PlayedDisk) -> Iterator[None]:
    disk.medium.stall()
    try:
        yield
    finally:
        disk.medium.resume()


@pytest.fixture
def service(media: Media, make_service: Callable[..., Service]) -> Service:
    """With a volume `mail` on disks of its own, which nothing happens to."""
    alpha, beta = media.loop("calm-primary", 8 * MIB), media.loop("calm-secondary", 64 * MIB)
    service = make_service("udev", disk_deadline_seconds=DEADLINE)
    service.start(alpha.id, beta.id)
    service.protect("mail", alpha.id, beta.id)
    return service


def test_a_secondary_that_stalls(media: Media, service: Service) -> None:
    primary, secondary = media.loop("primary", 8 * MIB), media.played("secondary", 64 * MIB)
    service.wait_for_disks(primary.id, secondary.id)
    service.protect("finance", primary.id, secondary.id)
    recorder = record(service, "finance")
    with (
        service.connect("finance") as client,
        service.connect("finance") as reader,
        service.connect("mail") as neighbour,
    ):
        recorder.write_some(client, 150)
        safe = recorder.life.last
        with (
            heartbeat(lambda: neighbour.write(0, b"m" * 4096)) as other_volume,
            heartbeat(lambda: reader.read(0, 65536)) as reads,
        ):
            with stalled(secondary):
                began = time.monotonic()
                recorder.send_one(client)
                assert not client.collect(DEADLINE / 3), "acknowledged means on both disks"
                recorder.write_some(client, 40, depth=8)
                assert time.monotonic() - began < DEADLINE + 3
                assert service.status("finance")["state"] == "tracking"
                missed = recorder.life.last
                while time.monotonic() - began < STALL:
                    recorder.write_some(client, 100)
                fenced = next(d for d in service.ask("disks")["disks"] if d["id"] == secondary.id)
                assert fenced["state"] != "in service"
            recorder.write_some(client, 50)
            service.until_state("finance", "protected")
            recorder.write_some(client, 50)
        other_volume.check(100, SOON)
        reads.check(100, SOON)
    assert not recorder.errors(), "no write may fail"
    assert_in_sync(service, "finance", recorder)
    for number in (recorder.life.first, safe // 2, safe):
        assert_exact(service, "finance", recorder.life, number)
    with pytest.raises(ExportRefusedError, match="in a gap"):
        service.connect(f"finance@write:{missed}")
    assert service.status("mail")["alerts"] == []


def test_a_primary_that_stalls(media: Media, service: Service) -> None:
    primary, secondary = media.played("primary", 8 * MIB), media.loop("secondary", 64 * MIB)
    service.wait_for_disks(primary.id, secondary.id)
    service.protect("finance", primary.id, secondary.id)
    recorder = record(service, "finance")
    half = recorder.size // 2
    with (
        service.connect("finance") as client,
        service.connect("finance") as reader,
        service.connect("mail") as neighbour,
    ):
        recorder.write_some(client, 150)
        expected = recorder.life.at(recorder.life.last).tobytes()
        with heartbeat(lambda: neighbour.write(0, b"m" * 4096)) as other_volume:
            with stalled(primary):
                for _ in range(20):  # in flight at the moment, all in the lower half
                    recorder.send_one(client, 0, half)
                stall_began = began = time.monotonic()
                assert reader.read(half, 1 << 20) == expected[half : half + (1 << 20)]
                assert time.monotonic() - began < DEADLINE + 2
                recorder.settle(client)
                assert recorder.errors() == {"EIO"}
                assert service.status("finance")["state"] == "offline"
                began = time.monotonic()
                assert reader.read(half, 1 << 20) == expected[half : half + (1 << 20)]
                assert time.monotonic() - began < SOON, "once it is fenced, nothing waits for it"
                while time.monotonic() - stall_began < STALL:
                    assert reader.read(half, 4096) == expected[half : half + 4096]
                with pytest.raises(OSError, match="server said so") as refused:
                    reader.write(half, b"x" * 4096)
                assert refused.value.errno == errno.EIO
            service.until_state("finance", "protected")
        other_volume.check(100, SOON)
    assert_in_sync(service, "finance", recorder)
    with service.connect("finance") as client:
        recorder.begin(service.status("finance")["write_number"], client.whole())
        recorder.write_some(client, 50)
    assert not recorder.errors()
    assert_in_sync(service, "finance", recorder)


def test_a_stop_while_the_secondary_stalls(media: Media, service: Service) -> None:
    """SIGTERM ends the service in order after the deadline; the next start resyncs."""
    primary, secondary = media.loop("primary", 8 * MIB), media.played("secondary", 64 * MIB)
    service.wait_for_disks(primary.id, secondary.id)
    service.protect("finance", primary.id, secondary.id)
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        recorder.write_some(client, 50)
        with stalled(secondary):
            recorder.write_some(client, 50)
            service.tell_to_stop()
            # The process itself cannot end before the kernel has its memory back.
            service.wait(lambda: not service.socket.exists(), "the control socket to close")
    service.wait_until_stopped()
    service.start()
    service.until_state("finance", "protected")
    assert_in_sync(service, "finance", recorder)
