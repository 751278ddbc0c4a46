"""Real NBD clients against the server: what they write is there, what they ask is answered."""

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from appliance.cdp.interfaces import DISCARD, FLUSH, WRITE, ZERO
from tests.hosts.nbd.client_tools import run
from tests.hosts.nbd.served import Served

SIZE = 64 << 20


def noise(path: Path, size: int = SIZE) -> bytes:
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    return data


def qemu_io(served: Served, name: str, *commands: str, flags: str = "-n") -> str:
    arguments = [part for command in commands for part in ("-c", command)]
    return run("qemu-io", "-f", "raw", flags, *arguments, served.uri(name))


def test_nbdinfo_shows_an_export(served: Served) -> None:
    told: dict[str, Any] = json.loads(run("nbdinfo", "--json", served.uri("mail")))
    assert told["protocol"] == "newstyle-fixed"
    assert told["structured"] is True
    assert told["TLS"] is False
    (export,) = told["exports"]
    assert export["export-name"] == "mail"
    assert export["description"] == "the mail volume"
    assert export["export-size"] == SIZE
    assert (export["block_size_minimum"], export["block_size_preferred"]) == (4096, 4096)
    assert export["block_size_maximum"] == 32 << 20
    for able in ("flush", "fua", "trim", "zero", "fast_zero", "cache", "df", "multi_conn"):
        assert export[f"can_{able}"] is True, able
    assert export["is_read_only"] is False


def test_nbdinfo_lists_the_exports(served: Served) -> None:
    told = json.loads(run("nbdinfo", "--json", "--list", f"nbd+unix:///?socket={served.socket}"))
    exports = {export["export-name"]: export for export in told["exports"]}
    assert set(exports) == {"finance", "mail", "finance@-10m"}
    assert exports["finance@-10m"]["is_read_only"] is True
    assert exports["finance"]["block_size_minimum"] == 512


def test_nbdinfo_over_tcp(served: Served) -> None:
    told = json.loads(run("nbdinfo", "--json", f"nbd://{served.endpoint}/finance"))
    assert told["exports"][0]["export-size"] == SIZE


def test_an_unknown_export_is_refused_with_its_sentence(served: Served) -> None:
    run("nbdinfo", served.uri("nowhere"), status=1)
    said = run("qemu-img", "info", "-f", "raw", served.uri("nowhere"), status=1)
    assert "there is no volume called nowhere" in said


@pytest.mark.parametrize("connections", ["1", "4"])
def test_nbdcopy_in_and_out(served: Served, tmp_path: Path, connections: str) -> None:
    data = noise(tmp_path / "in")
    uri = served.uri("finance")
    run("nbdcopy", f"--connections={connections}", "--flush", str(tmp_path / "in"), uri)
    assert served.targets["finance"].bytes == data
    assert served.targets["finance"].submitted[FLUSH] >= 1
    run("nbdcopy", f"--connections={connections}", uri, str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data


def test_nbdcopy_of_holes_writes_zeros(served: Served, tmp_path: Path) -> None:
    target = served.targets["finance"]
    target.bytes[:] = b"x" * SIZE
    with (tmp_path / "in").open("wb") as sparse:
        sparse.write(b"y" * 4096)
        sparse.truncate(SIZE)
    run("nbdcopy", str(tmp_path / "in"), served.uri("finance"))
    assert target.bytes == b"y" * 4096 + bytes(SIZE - 4096)


def test_qemu_io_reads_and_writes(served: Served) -> None:
    said = qemu_io(
        served,
        "finance",
        "write -P 0x61 0 64k",
        "write -f -P 0x62 64k 512",
        "write -P 0x63 1M 8M",
        "read -P 0x61 0 64k",
        "read -P 0x62 64k 512",
        "read -P 0x63 1M 8M",
        "write -z -f 0 4k",
        "read -P 0 0 4k",
        "discard 1M 1M",
        "read -P 0 1M 1M",
        "read -P 0x63 2M 7M",
        "flush",
    )
    assert "failed" not in said
    target = served.targets["finance"]
    assert target.fua[WRITE] == 1
    assert target.fua[ZERO] == 1
    assert target.submitted[DISCARD] == 1
    assert target.submitted[FLUSH] >= 1


def test_qemu_io_asynchronously(served: Served) -> None:
    writes = [f"aio_write -P {n + 1} {n}M 1M" for n in range(32)]
    reads = [f"aio_read -P {n + 1} {n}M 1M" for n in range(32)]
    said = qemu_io(served, "mail", *writes, "aio_flush", *reads, "aio_flush")
    assert "failed" not in said
    assert "verification" not in said


def test_a_view_cannot_be_written(served: Served) -> None:
    uri = served.uri("finance@-10m")
    said = run("qemu-io", "-f", "raw", "-c", "write 0 4k", uri, status=1)
    assert "read-only" in said.lower() or "permission" in said.lower()
    assert "failed" not in qemu_io(served, "finance@-10m", "read -P 0 0 1M", flags="-r")


def test_errors_reach_qemu(served: Served) -> None:
    served.targets["finance"].fail_with = 5
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is not installed")
    done = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 4k", served.uri("finance")],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "write failed: Input/output error" in done.stdout + done.stderr


def test_qemu_img_knows_and_compares(served: Served, tmp_path: Path) -> None:
    data = noise(tmp_path / "disk")
    served.targets["finance"].bytes[:] = data
    told = json.loads(run("qemu-img", "info", "--output=json", "-f", "raw", served.uri("finance")))
    assert told["virtual-size"] == SIZE
    compare = ("compare", "-f", "raw", "-F", "raw", str(tmp_path / "disk"), served.uri("finance"))
    assert "identical" in run("qemu-img", *compare)
    served.targets["finance"].bytes[SIZE // 2] ^= 1
    assert "mismatch" in run("qemu-img", *compare, status=1)


def test_qemu_img_converts_in_and_out(served: Served, tmp_path: Path) -> None:
    data = noise(tmp_path / "in")
    uri = served.uri("mail")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", str(tmp_path / "in"), uri)
    assert served.targets["mail"].bytes == data
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data


@pytest.mark.parametrize("block", ["4k", "4k-256k"])
def test_fio_verifies_what_it_wrote(served: Served, tmp_path: Path, block: str) -> None:
    job = [
        "--name=verify",
        "--ioengine=nbd",
        f"--uri={served.uri('mail')}",
        "--rw=randwrite",
        f"--bsrange={block}" if "-" in block else f"--bs={block}",
        "--blockalign=4k",
        "--iodepth=32",
        f"--size={SIZE}",
        "--io_size=24m",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--fsync=64",
        f"--aux-path={tmp_path}",
        "--output-format=json",
    ]
    said = run("fio", *job)
    told = json.loads(said[said.index("{\n") :])
    (result,) = told["jobs"]
    assert result["error"] == 0
    assert result["write"]["total_ios"] > 0
    assert result["read"]["total_ios"] > 0, "it verified"
