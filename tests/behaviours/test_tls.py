"""Hosts over TCP with TLS: real clients, a real service, and what its operators are told."""

import json
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts.nbd.authority import Authority, HostKeys
from tests.hosts.nbd.client_tools import run
from tests.service.service_process import BIN, MIB, Service, service_in

SIZE = 6 * MIB


@dataclass(frozen=True)
class Site:
    """A service that serves `finance` and `mail` over TLS at `port`, and who may come."""

    service: Service
    port: int
    size: int
    both: HostKeys
    mail_only: HostKeys
    unlisted: HostKeys
    stranger: HostKeys
    nobody: HostKeys

    def uri(self, keys: HostKeys, export: str = "finance") -> str:
        return f"nbds://127.0.0.1:{self.port}/{export}?tls-certificates={keys.directory}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def settings(authority: Authority, port: int) -> str:
    tls = authority.appliance()
    return f"""
[hosts]
nbd_tcp = "127.0.0.1:{port}"
tls = {{ certificate = "{tls.certificate}", key = "{tls.key}", client_ca = "{tls.client_ca}" }}
allow = [
    {{ name = "db1.example", network = "127.0.0.0/8" }},
    {{ name = "db2.example", volumes = ["mail"] }},
]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    room = tmp_path_factory.mktemp("tls")
    ours, theirs = Authority(room / "ours"), Authority(room / "theirs")
    with service_in(room) as service:
        port = free_port()
        with service.config.open("a") as config:
            config.write(settings(ours, port))
        for name in ("alpha", "gamma"):
            service.disk(name, SIZE)
        for name in ("beta", "delta"):
            service.disk(name, 128 * MIB)
        service.start("alpha", "beta", "gamma", "delta")
        service.protect("finance", "alpha", "beta")
        service.protect("mail", "gamma", "delta")
        yield Site(
            service,
            port,
            int(service.status("finance")["size"]),
            ours.host("db1.example"),
            ours.host("db2.example"),
            ours.host("db3.example"),
            theirs.host("db1.example", trusts=ours),
            ours.host(),
        )


def qemu(site: Site, keys: HostKeys, export: str = "finance") -> tuple[str, ...]:
    return (
        "--object",
        f"tls-creds-x509,id=tls,endpoint=client,dir={keys.directory}",
        "--image-opts",
        f"driver=nbd,host=127.0.0.1,port={site.port},export={export},tls-creds=tls",
    )


def refusals(site: Site) -> list[str]:
    return [event["text"] for event in site.service.events("EV930")]


def test_nbdinfo_says_that_it_is_encrypted(site: Site) -> None:
    told = json.loads(run("nbdinfo", "--json", site.uri(site.both)))
    assert told["TLS"] is True
    assert told["exports"][0]["export-size"] == site.size


@pytest.mark.parametrize("connections", [1, 4])
def test_nbdcopy_in_and_out(site: Site, tmp_path: Path, connections: int) -> None:
    data = random.Random(connections).randbytes(site.size)
    (tmp_path / "in").write_bytes(data)
    words = ("--flush", f"--connections={connections}")
    run("nbdcopy", *words, tmp_path / "in", site.uri(site.both))
    assert site.service.contents("finance") == data
    run("nbdcopy", *words, site.uri(site.both), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data


def test_qemu_writes_reads_and_zeroes(site: Site) -> None:
    commands = [
        *("write -P 0x61 0 64k", "write -f -P 0x62 64k 512", "write -P 0x63 1M 4M"),
        *("read -P 0x61 0 64k", "read -P 0x62 64k 512", "read -P 0x63 1M 4M"),
        *("write -z 0 4k", "read -P 0 0 4k", "flush"),
    ]
    words = [word for command in commands for word in ("-c", command)]
    said = run("qemu-io", *words, *qemu(site, site.both))
    assert "failed" not in said
    assert site.service.contents("finance")[1 * MIB : 5 * MIB] == b"\x63" * (4 * MIB)


def test_the_past_is_read_over_tls_too(site: Site, tmp_path: Path) -> None:
    before = site.service.contents("finance")
    site.service.ask("snapshot", volume="finance", name="before")
    run("qemu-io", "-c", "write -P 0x77 0 1M", *qemu(site, site.both))
    view = "finance%40snapshot%3Abefore"
    run("nbdcopy", site.uri(site.both, view), tmp_path / "before")
    assert (tmp_path / "before").read_bytes() == before


def test_a_host_sees_and_gets_only_its_volumes(site: Site) -> None:
    told = json.loads(run("nbdinfo", "--json", "--list", site.uri(site.mail_only, "")))
    assert [export["export-name"] for export in told["exports"]] == ["mail"]
    run("nbdinfo", site.uri(site.mail_only, "mail"))
    said = run("qemu-io", "-c", "quit", *qemu(site, site.mail_only), status=1)
    assert "this host is not allowed to use finance" in said
    assert any("not allowed to use finance" in text for text in refusals(site))


@pytest.mark.parametrize("who", ["unlisted", "stranger", "nobody"])
def test_others_get_nothing(site: Site, who: str) -> None:
    keys = getattr(site, who)
    for export in ("finance", "mail", "", "finance%40-1s"):
        run("nbdinfo", site.uri(keys, export), status=1)


def test_without_tls_there_is_nothing(site: Site) -> None:
    said = run("qemu-img", "info", f"nbd://127.0.0.1:{site.port}/finance", status=1)
    assert "TLS" in said
    run("nbdinfo", f"nbd://127.0.0.1:{site.port}/finance", status=1)


def test_refusals_are_told_to_operators(site: Site) -> None:
    run("nbdinfo", site.uri(site.nobody), status=1)
    assert any("host 127.0.0.1 was refused: " in text for text in refusals(site))
    assert "PRIVATE" not in site.service.story()


def test_a_restore_sends_tls_hosts_away_and_lets_them_in_again(site: Site) -> None:
    service = site.service
    before = service.contents("finance")
    service.ask("snapshot", volume="finance", name="good")
    run("qemu-io", "-c", "write -P 0x99 0 2M", *qemu(site, site.both))
    words = ("-c", "write -P 0x9a 2M 64k", "-c", "sleep 20000", *qemu(site, site.both))
    if shutil.which("qemu-io") is None:
        pytest.skip("needs qemu-io")
    host = subprocess.Popen(["qemu-io", *words], stdout=subprocess.DEVNULL)
    try:
        service.wait(
            lambda: service.contents("finance")[2 * MIB :][:1] == b"\x9a", "the host to write"
        )
        service.do("restore", "finance", "--to", "snapshot:good", "--yes", "--wait")
    finally:
        host.kill()
        host.wait()
    assert service.contents("finance") == before
    run("nbdinfo", site.uri(site.both))


def test_settings_with_bad_keys_are_refused_before_anything_starts(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    config = tmp_path / "ebbtide.toml"
    config.write_text(settings(authority, free_port()))
    check = [str(BIN / "cdpd"), "--config", str(config), "--check-config"]
    good = subprocess.run(check, capture_output=True, text=True, timeout=20, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    (tmp_path / "authority" / "box.key").chmod(0o644)
    bad = subprocess.run(check, capture_output=True, text=True, timeout=20, check=False)
    assert bad.returncode == 1
    assert "EB601" in bad.stderr
    assert "box.key has mode 0644" in bad.stderr
    assert "Traceback" not in bad.stderr


@pytest.mark.skipif(not getattr(ssl, "HAS_PSK", False), reason="needs Python 3.13 for TLS-PSK")
def test_hosts_with_shared_keys(tmp_path: Path) -> None:
    """GnuTLS at the other end, whose keys are in a file of the same form."""
    ours, others = tmp_path / "box.psk", tmp_path / "others.psk"
    for file, key in ((ours, "6b" * 32), (others, "6c" * 32)):
        file.touch(mode=0o600)
        file.write_text(f"db1:{key}\ndb2:{key}\n")
    with service_in(tmp_path) as service:
        port = free_port()
        with service.config.open("a") as config:
            config.write(f'[hosts]\nnbd_tcp = "127.0.0.1:{port}"\ntls = {{ psk = "{ours}" }}\n')
            config.write('allow = [{ name = "db1" }]\n')
        service.disk("alpha", SIZE)
        service.disk("beta", 128 * MIB)
        service.start("alpha", "beta")
        service.protect("finance", "alpha", "beta")

        def size(user: str, keys: Path, status: int = 0) -> str:
            uri = f"nbds://{user}@127.0.0.1:{port}/finance?tls-psk-file={keys}"
            return run("nbdinfo", "--size", uri, status=status)

        assert int(size("db1", ours)) == service.status("finance")["size"]
        for user, keys in (("db1", others), ("db2", ours)):
            size(user, keys, status=1)
