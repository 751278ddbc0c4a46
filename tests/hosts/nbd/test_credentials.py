"""Key files: which are taken, which are refused by name, and that nothing secret is said."""

import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.config import TlsSettings
from appliance.errors import BadSettings
from appliance.hosts.nbd import credentials
from appliance.hosts.nbd.credentials import Certificates, SharedKeys, certificate_names
from tests.hosts.nbd.authority import Authority


@pytest.fixture
def tls(tmp_path: Path) -> TlsSettings:
    return Authority(tmp_path / "authority").appliance()


def refusal(settings: TlsSettings) -> str:
    with pytest.raises(BadSettings) as raised:
        credentials.load(settings)
    said = str(raised.value)
    assert "\n" not in said
    assert raised.value.code == "EB601"
    return said


def test_good_files_are_taken(tls: TlsSettings) -> None:
    assert isinstance(credentials.load(tls), Certificates)


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize("contents", [None, b"", b"no PEM at all", b"\xff" * 100])
def test_a_bad_file_is_named(
    tls: TlsSettings, tmp_path: Path, name: str, contents: bytes | None
) -> None:
    bad = tmp_path / f"bad-{name}"
    if contents is not None:
        bad.touch(mode=0o600)
        bad.write_bytes(contents)
    files = {key: getattr(tls, key) for key in ("certificate", "key", "client_ca")} | {name: bad}
    assert str(bad) in refusal(TlsSettings(**files))


def test_a_key_of_another_certificate_is_refused(tls: TlsSettings, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other").appliance()
    said = refusal(TlsSettings(certificate=tls.certificate, key=other.key, client_ca=tls.client_ca))
    assert "key values mismatch" in said


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o660, 0o666])
def test_a_key_that_others_can_use_is_refused(tls: TlsSettings, mode: int) -> None:
    assert tls.key is not None
    tls.key.chmod(mode)
    assert f"mode {mode:04o}" in refusal(tls)
    tls.key.chmod(0o640)
    credentials.load(tls)


def test_a_key_with_a_passphrase_does_not_ask_for_it(tls: TlsSettings, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    assert tls.key is not None
    sealed = tmp_path / "sealed.key"
    sealed.touch(mode=0o600)
    command = f"openssl ec -aes256 -passout pass:secret -in {tls.key} -out {sealed}"
    subprocess.run(command.split(), check=True, capture_output=True, timeout=20)
    refusal(TlsSettings(certificate=tls.certificate, key=sealed, client_ca=tls.client_ca))


def test_what_a_certificate_goes_by() -> None:
    shown = {
        "subject": ((("countryName", "DE"),), (("commonName", "DB1"),)),
        "issuer": ((("commonName", "authority"),),),
        "subjectAltName": (
            ("DNS", "db1.Example"),
            ("IP Address", "192.0.2.7"),
            ("URI", "spiffe://example/db1"),
            ("email", "dba@example"),
            ("DirName", "no name"),
        ),
    }
    assert certificate_names(shown) == {
        "db1",
        "db1.example",
        "192.0.2.7",
        "spiffe://example/db1",
        "dba@example",
    }
    assert certificate_names({}) == frozenset()


def psk_file(tmp_path: Path, text: str) -> TlsSettings:
    path = tmp_path / "keys.psk"
    path.touch(mode=0o600)
    path.write_text(text)
    return TlsSettings(psk=path)


def test_pre_shared_keys_are_read(tmp_path: Path) -> None:
    settings = psk_file(tmp_path, f"# hosts\ndb1:{'ab' * 32}\n\ndb2:{'cd' * 16}\n")
    found = credentials.load(settings)
    assert isinstance(found, SharedKeys)
    assert found._keys == {"db1": b"\xab" * 32, "db2": b"\xcd" * 16}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "db1",
        "db1:secret",
        f"db1:{'5ec2e7' * 5}",
        f":{'5ec2e7' * 8}",
        f"db1:{'5ec2e7' * 8}\ndb1:{'5ec2e7' * 9}",
    ],
)
def test_bad_pre_shared_keys_are_refused_without_showing_them(tmp_path: Path, text: str) -> None:
    said = refusal(psk_file(tmp_path, text))
    assert "5ec2e7" not in said
    assert "secret" not in said
