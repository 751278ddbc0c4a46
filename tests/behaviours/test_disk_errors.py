"""Sectors that cannot be read or written: what the other disk knows is given, all else is EIO."""

import errno

import pytest

from tests.service.agreement import assert_exact, assert_in_sync, record
from tests.service.media import PlayedDisk
from tests.service.service_process import MIB, Service

SPOT = 2 * MIB
"""Where sectors go bad."""


def spoil(disk: PlayedDisk, offset: int, length: int) -> None:
    disk.medium.bad.update(range(offset // 512, (offset + length) // 512))


def test_bad_sectors_of_the_primary_are_read_from_the_secondary_and_healed(
    primary: PlayedDisk, service: Service
) -> None:
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        recorder.write_some(client, 100)
        expected = recorder.life.at(recorder.life.last).tobytes()
        spoil(primary, SPOT, 8192)
        got = client.read(SPOT - 65536, 131072)
        assert got == expected[SPOT - 65536 : SPOT + 65536]
        assert not primary.medium.bad, "writing them again healed them"
        assert client.read(SPOT, 8192) == expected[SPOT : SPOT + 8192]
    assert service.status("finance")["state"] == "protected"
    assert service.contents("finance") == expected
    assert sum(event["fields"]["length"] for event in service.events("EV106")) == 8192
    service.ask("sync", volume="finance", verify=True, wait=True)


def test_bad_sectors_that_nobody_else_has_are_an_error(
    primary: PlayedDisk, secondary: PlayedDisk, service: Service
) -> None:
    with service.connect("finance") as client:
        secondary.pull()
        client.write(SPOT, b"t" * 65536)
        service.until_state("finance", "tracking")
        spoil(primary, SPOT, 512)
        with pytest.raises(OSError, match="server said so") as refused:
            client.read(SPOT, 4096)
        assert refused.value.errno == errno.EIO
        assert client.read(SPOT + 4096, 4096) == b"t" * 4096, "the next block is none the worse"
        client.write(SPOT, b"u" * 512)
        assert client.read(SPOT, 4096) == b"u" * 512 + b"t" * 3584, "writing heals"
    assert service.status("finance")["service"] == "online"


def test_a_secondary_that_refuses_writes_is_done_without(
    secondary: PlayedDisk, service: Service
) -> None:
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        recorder.write_some(client, 50)
        safe = recorder.life.last
        secondary.medium.refuses_writes = True
        recorder.write_some(client, 50)
        assert service.until_state("finance", "tracking")["alerts"]
        secondary.medium.refuses_writes = False
        service.until_state("finance", "protected")
        recorder.write_some(client, 50)
    assert not recorder.errors()
    assert_in_sync(service, "finance", recorder)
    assert_exact(service, "finance", recorder.life, safe)


def test_a_primary_that_refuses_writes_tells_the_host(
    primary: PlayedDisk, service: Service
) -> None:
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        recorder.write_some(client, 100)
        primary.medium.refuses_writes = True
        recorder.write_some(client, 20)
        assert recorder.errors() == {"EIO"}
        refused = [write for write in recorder.life.writes if write.outcome]
        primary.medium.refuses_writes = False
        service.until_state("finance", "protected")
        before = len(refused)
        recorder.write_some(client, 50)
        refused = [write for write in recorder.life.writes if write.outcome]
        assert len(refused) == before, "it takes writes again"
    assert_in_sync(service, "finance", recorder)


def test_bad_sectors_in_the_history_spoil_only_the_points_that_need_them(
    secondary: PlayedDisk, service: Service
) -> None:
    with service.connect("finance") as client:
        client.write(0, b"a" * 4096)
        wrote = len(secondary.medium.written)
        client.write(SPOT, b"b" * 65536)
        record_place, length = max(secondary.medium.written[wrote:], key=lambda place: place[1])
        client.write(MIB, b"c" * 4096)
        spoil(secondary, record_place, length)
        number = service.status("finance")["write_number"]
        with service.connect(f"finance@write:{number}") as view:
            assert view.read(MIB, 4096) == b"c" * 4096
            with pytest.raises(OSError, match="server said so"):
                view.read(SPOT, 4096)
        assert client.read(SPOT, 65536) == b"b" * 65536
        client.write(SPOT, b"d" * 65536)
        with service.connect(f"finance@write:{number + 1}") as view:
            assert view.read(SPOT, 65536) == b"d" * 65536
    assert service.status("finance")["state"] == "protected"
