"""The settings file, from its text to the typed structure."""

import contextlib
import ipaddress
import ssl
import string
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import AllowRule, Settings, TcpEndpoint, parse_settings, read_settings
from appliance.errors import BadSettings

DEFAULT = Path(__file__).parents[1] / "firmware_config" / "default.toml"


def test_the_delivered_file_says_the_defaults() -> None:
    assert read_settings(DEFAULT) == parse_settings("") == Settings()


def test_what_is_commented_out_is_right_too() -> None:
    lines = [line.removeprefix("# ") for line in DEFAULT.read_text().splitlines()]
    hosts = [line for line in lines if line.startswith(("tls = ", "allow = "))]
    settings = parse_settings("\n".join(["[hosts]", *hosts]))
    assert settings.hosts.tls is not None
    assert settings.allow_list is not None
    assert len(settings.allow_list) == 2


def test_every_key_of_the_structure_stands_in_the_delivered_file() -> None:
    text = DEFAULT.read_text()
    for section in Settings.__struct_fields__:
        assert f"[{section}]" in text
        for key in getattr(Settings(), section).__struct_fields__:
            assert f"{key} = " in text, f"{section}.{key}"


def test_a_laptop_s_file() -> None:
    settings = parse_settings(
        """
        [service]
        runtime_dir = "/tmp/e/run"
        state_dir = "/tmp/e/state"
        [disks]
        source = "directory"
        directory = "/tmp/e/disks"
        [hosts]
        nbd_tcp = "localhost:10809"
        [protection]
        ack = "primary"
        disk_deadline_seconds = 2
        """
    )
    assert settings.service.control_socket == Path("/tmp/e/run/control.sock")
    assert settings.nbd_socket == Path("/tmp/e/run/nbd.sock")
    assert settings.disks.directory == Path("/tmp/e/disks")
    assert settings.nbd_endpoint == TcpEndpoint("127.0.0.1", 10809)
    assert settings.protection.ack == "primary"
    assert settings.protection.disk_deadline_seconds == 2.0


def test_ipv6_loopback() -> None:
    endpoint = parse_settings('hosts.nbd_tcp = "[::1]:0"').nbd_endpoint
    assert endpoint == TcpEndpoint("::1", 0)
    assert str(endpoint) == "[::1]:0"


TLS = """
[hosts]
nbd_tcp = "192.0.2.1:10809"
allow = [
    "10.0.0.0/8",
    "2001:db8::7",
    { name = "DB1.example" },
    { name = "db2.example", network = "192.0.2.0/24", volumes = ["finance", "mail"] },
]
[hosts.tls]
certificate = "/etc/ebbtide/tls/box.pem"
key = "/etc/ebbtide/tls/box.key"
client_ca = "/etc/ebbtide/tls/hosts.pem"
"""


def test_tls_and_an_allow_list() -> None:
    settings = parse_settings(TLS)
    assert settings.nbd_endpoint == TcpEndpoint("192.0.2.1", 10809)
    assert settings.hosts.tls is not None
    assert settings.hosts.tls.key == Path("/etc/ebbtide/tls/box.key")
    assert settings.allow_list == (
        AllowRule(network=ip_network("10.0.0.0/8")),
        AllowRule(network=ip_network("2001:db8::7/128")),
        AllowRule(name="db1.example"),
        AllowRule(ip_network("192.0.2.0/24"), "db2.example", frozenset({"finance", "mail"})),
    )
    assert parse_settings("").allow_list is None
    assert parse_settings("hosts.allow = []").allow_list == ()


def test_pre_shared_keys_need_a_python_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[hosts]\nnbd_tcp = '192.0.2.1:1'\n[hosts.tls]\npsk = '/etc/ebbtide/nbd.psk'"
    monkeypatch.setattr(ssl, "HAS_PSK", False, raising=False)
    with pytest.raises(BadSettings, match=r"hosts\.tls\.psk: this Python has no pre-shared keys"):
        parse_settings(text)
    monkeypatch.setattr(ssl, "HAS_PSK", True, raising=False)
    assert parse_settings(text).hosts.tls is not None


def test_figures_leave_the_box_only_by_an_address_that_was_named() -> None:
    assert ipaddress.ip_address(Settings().exporter_endpoint.address).is_loopback
    named = parse_settings("exporter.listen = '[::]:9776'").exporter_endpoint
    assert named == TcpEndpoint("::", 9776)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[servce]", "servce: there is no such setting"),
        ("[service]\nruntime = '/x'", "service.runtime: there is no such setting"),
        ("service = 3", "service: expected `object`, got `int`"),
        ("[service]\nruntime_dir = 'run'", "service.runtime_dir: 'run' is not an absolute path"),
        ("[service]\nstate_dir = 7", "service.state_dir: expected `str`, got `int`"),
        ("[service]\nruntime_dir = '/" + 100 * "x" + "'", "service.runtime_dir: "),
        ("[hosts]\nnbd_unix = '/" + 120 * "x" + "'", "hosts.nbd_unix: "),
        ("[disks]\nsource = 'usb'", "disks.source: invalid enum value 'usb'"),
        ("[disks]\nsource = 'directory'", "disks.directory: needed"),
        ("[disks]\ndirectory = '/x'", "disks.directory: only with"),
        ("[hosts]\ntls = true", "hosts.tls: expected `object | null`, got `bool`"),
        ("[hosts.tls]", "hosts.tls: needs certificate, key and client_ca, or psk alone"),
        ("[hosts.tls]\ncertificate = '/x'\nkey = '/y'", "hosts.tls: needs certificate, key and"),
        ("[hosts.tls]\ncertificate = 'x'", "hosts.tls.certificate: 'x' is not an absolute path"),
        ("[hosts.tls]\npassword = 'x'", "hosts.tls.password: there is no such setting"),
        ("[hosts.tls]\npsk = '/x'\nkey = '/y'", "hosts.tls: psk stands alone"),
        ("[hosts]\nallow = 'everybody'", "hosts.allow: "),
        ("[hosts]\nallow = ['10.0.0.0/33']", "hosts.allow: '10.0.0.0/33' does not appear to be"),
        ("[hosts]\nallow = ['10.0.0.1/8']", "hosts.allow: 10.0.0.1/8 has host bits set"),
        ("[hosts]\nallow = ['box']", "hosts.allow: 'box' does not appear to be"),
        ("[hosts]\nallow = [{}]", "hosts.allow: an entry needs a network or a name"),
        ("[hosts]\nallow = [{volumes = ['a']}]", "hosts.allow: an entry needs a network or a"),
        ("[hosts]\nallow = [{host = 'a'}]", "hosts.allow"),
        ("[hosts]\nallow = [{name = 'a'}]", "hosts.allow: only TLS tells a host's name"),
        ("[hosts]\nnbd_tcp = '0.0.0.0:10809'", "hosts.nbd_tcp: 0.0.0.0 is not a loopback"),
        ("[hosts]\nnbd_tcp = '[::]:10809'", "hosts.nbd_tcp: :: is not a loopback"),
        ("[hosts]\nnbd_tcp = '127.0.0.1'", "hosts.nbd_tcp: '127.0.0.1' is not ADDRESS:PORT"),
        ("[hosts]\nnbd_tcp = '127.0.0.1:70000'", "hosts.nbd_tcp: "),
        ("[hosts]\nnbd_tcp = 'box:1'", "hosts.nbd_tcp: 'box' is not an IP address"),
        ("[hosts]\nnbd_tcp = 10809", "hosts.nbd_tcp: "),
        ("[console]\nbaud = 1200", "console.baud: "),
        ("[exporter]\nlisten = 'box:1'", "exporter.listen: 'box' is not an IP address"),
        ("[exporter]\nlisten = ''", "exporter.listen: '' is not ADDRESS:PORT"),
        ("[panel]\naddress = 0x80", "panel.address: "),
        ("[protection]\nack = 'all'", "protection.ack: "),
        ("[protection]\ndisk_deadline_seconds = 0", "protection.disk_deadline_seconds: "),
        ("[protection]\ndisk_deadline_seconds = nan", "protection.disk_deadline_seconds: "),
        ("[protection]\ndisk_deadline_seconds = inf", "protection.disk_deadline_seconds: "),
        ("[protection]\ndisk_deadline_seconds = '9'", "protection.disk_deadline_seconds: "),
        ("[protection]\ndisk_deadline_seconds = true", "protection.disk_deadline_seconds: "),
        (
            "[protection]\nwait_for_secondary_seconds = -1",
            "protection.wait_for_secondary_seconds: ",
        ),
        ("[protection", "not TOML: "),
        ("a = " + 5000 * "[", "not TOML: "),
        ("[protection]\nack = 'both'\nack = 'both'", "not TOML: "),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(BadSettings) as raised:
        parse_settings(text)
    assert str(raised.value).startswith(f"settings: {said}")
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="No such file"):
        read_settings(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(BadSettings, match="not UTF-8 at byte 5"):
        read_settings(tmp_path / "latin.toml")


@given(
    section=st.sampled_from([*Settings.__struct_fields__, "other"]),
    key=st.sampled_from(["ack", "tls", "nbd_tcp", "directory", "baud", "bus", "address", "zz"]),
    value=st.one_of(
        st.integers(),
        st.booleans().map(lambda value: str(value).lower()),
        st.floats(),
        st.text(string.ascii_letters + "/:[]0123456789.", max_size=20).map(
            lambda text: f"'{text}'"
        ),
        st.sampled_from(["[]", "{}", "[1, 2]", "2026-11-22T10:00:00Z", "'"]),
    ),
)
def test_any_value_is_taken_or_refused_by_name(section: str, key: str, value: object) -> None:
    with contextlib.suppress(BadSettings):
        parse_settings(f"[{section}]\n{key} = {value}\n")
