"""Real NBD clients, file systems and disks of both sector sizes on a real volume."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.hosts.nbd import wire
from tests.hosts.nbd.client_tools import run
from tests.service.agreement import assert_exact, assert_in_sync, record
from tests.service.media import Media
from tests.service.service_process import MIB, Service, service_in


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service_in(tmp_path_factory.mktemp("clients")) as service:
        service.disk("alpha", 24 * MIB)
        service.disk("beta", 512 * MIB)
        service.start("alpha", "beta")
        service.protect("finance", "alpha", "beta")
        yield service


@pytest.fixture(scope="module")
def size(service: Service) -> int:
    status = service.status("finance")
    assert isinstance(status["size"], int)
    return status["size"]


@pytest.mark.parametrize(
    "mix",
    [
        ("--rw=randwrite", "--bs=4k"),
        ("--rw=randrw", "--bsrange=512-64k", "--blockalign=512"),
    ],
)
def test_fio_verifies_what_it_wrote(
    service: Service, size: int, tmp_path: Path, mix: tuple[str, ...]
) -> None:
    said = run(
        "fio",
        "--name=verify",
        "--ioengine=nbd",
        f"--uri={service.uri('finance')}",
        *mix,
        "--iodepth=32",
        f"--size={size // 65536 * 65536}",
        "--io_size=6m",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--fsync=64",
        f"--aux-path={tmp_path}",
        "--output-format=json",
    )
    (result,) = json.loads(said[said.index("{\n") : said.rindex("\n}") + 2])["jobs"]
    assert result["error"] == 0
    assert min(result[kind]["total_ios"] for kind in ("write", "read")) > 100
    assert service.status("finance")["state"] == "protected"


def test_qemu_io(service: Service) -> None:
    writes = [f"aio_write -P {n + 1} {n * 256}k 256k" for n in range(32)]
    commands = [
        *writes,
        "aio_flush",
        "write -f -P 0x62 64k 512",
        "write -z 1M 64k",
        "discard 2M 64k",
        "flush",
        "read -P 1 0 64k",
        "read -P 0x62 64k 512",
        "read -P 0 1M 64k",
        "read -P 0 2M 64k",
        "read -P 32 7936k 256k",
    ]
    words = [word for command in commands for word in ("-c", command)]
    said = run("qemu-io", "-f", "raw", "-n", *words, service.uri("finance"))
    assert "failed" not in said


def test_a_view_is_what_was_copied_then(service: Service, tmp_path: Path) -> None:
    with service.connect("finance") as client:
        client.write(0, os.urandom(MIB))
    run("nbdcopy", service.uri("finance"), tmp_path / "copy")
    point = service.status("finance")["write_number"]
    with service.connect("finance") as client:
        for _ in range(20):
            client.write(random.Random(1).randrange(100) * 4096, os.urandom(8192))
    view = service.uri(f"finance@write:{point}")
    raw = ("-f", "raw", "-F", "raw", tmp_path / "copy")
    assert "identical" in run("qemu-img", "compare", *raw, view)
    run("qemu-img", "compare", *raw, service.uri("finance"), status=1)


def test_nbdcopy_over_four_connections(service: Service, size: int, tmp_path: Path) -> None:
    data = random.Random(4).randbytes(size)
    (tmp_path / "in").write_bytes(data)
    four = ("--connections=4", "--flush")
    run("nbdcopy", *four, tmp_path / "in", service.uri("finance"))
    point = service.status("finance")["write_number"]
    with service.connect("finance") as client:
        client.write(0, bytes(MIB))
    for export in ("finance", f"finance@write:{point}"):
        run("nbdcopy", "--connections=4", service.uri(export), tmp_path / "out")
        found = (tmp_path / "out").read_bytes()
        assert found[MIB:] == data[MIB:]
        assert found[:MIB] == (bytes(MIB) if export == "finance" else data[:MIB])


def test_a_flush_of_one_connection_covers_the_others(service: Service) -> None:
    """CAN_MULTI_CONN: what one was told is done, another makes durable, and a kill proves it."""
    with service.connect("finance") as one, service.connect("finance") as other:
        assert one.flags & wire.EXPORT_CAN_MULTI_CONN
        for number in range(16):
            one.write(number * 8192, b"1" * 4096)
            other.write(number * 8192 + 4096, b"2" * 4096)
            assert other.read(number * 8192, 4096) == b"1" * 4096
        other.flush()
        service.kill()
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    assert service.contents("finance")[: 16 * 8192] == (b"1" * 4096 + b"2" * 4096) * 16


def test_a_file_system_comes_back_and_goes_again(
    service: Service, size: int, tmp_path: Path
) -> None:
    """Snapshot, damage, restore, and the restore undone."""
    image, fetched = tmp_path / "image", tmp_path / "fetched"
    tree = Path(__file__).parents[1]
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image, f"{size // 1024}k")
    run("nbdcopy", "--flush", image, service.uri("finance"))
    before = service.contents("finance")
    service.ask("snapshot", volume="finance", name="good")
    with service.connect("finance") as client:
        for at in range(0, size - MIB, 4 * MIB):
            client.write(at, os.urandom(65536))
    damaged = service.contents("finance")
    last = service.status("finance")["write_number"]
    fetched.write_bytes(damaged)
    with pytest.raises(AssertionError):
        run("e2fsck", "-fn", fetched)
    plan = service.ask("restore", volume="finance", to="snapshot:good", plan=True)["plan"]
    assert plan["bytes"] == 65536 * len(range(0, size - MIB, 4 * MIB))
    service.ask("restore", volume="finance", to="snapshot:good", yes=True, wait=True)
    assert service.contents("finance") == before
    run("nbdcopy", service.uri("finance"), fetched)
    run("e2fsck", "-fn", fetched)
    service.ask("restore", volume="finance", to=f"write:{last}", yes=True, wait=True)
    assert service.contents("finance") == damaged
    service.do("restore", "finance", "--to", "snapshot:good", "--yes", "--wait")
    assert service.contents("finance") == before


@pytest.mark.parametrize(("ours", "theirs"), [(512, 4096), (4096, 512), (4096, 4096)])
def test_sectors_in_any_mix(
    media: Media, make_service: Callable[..., Service], ours: int, theirs: int
) -> None:
    primary = media.loop("primary", 8 * MIB, ours)
    secondary = media.loop("secondary", 64 * MIB, theirs)
    service = make_service("udev")
    service.start(primary.id, secondary.id)
    service.protect("finance", primary.id, secondary.id)
    told = json.loads(run("nbdinfo", "--json", service.uri("finance")))["exports"][0]
    assert told["block_size_minimum"] == ours
    recorder = record(service, "finance")
    recorder.sector = ours
    with service.connect("finance") as client:
        recorder.write_some(client, 150)
    middle = recorder.life.first + 75
    assert_exact(service, "finance", recorder.life, middle)
    service.kill()
    service.start(primary.id, secondary.id)
    service.until_state("finance", "protected")
    assert_in_sync(service, "finance", recorder)
    assert_exact(service, "finance", recorder.life, middle)
