"""The password's hash, its file, and the count of wrong ones."""

import hashlib
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import PasswordUnfit
from appliance.operators.access.lockout import (
    FREE_TRIES,
    LONGEST_SECONDS,
    Lockout,
    wait_seconds,
)
from appliance.operators.access.passwords import (
    FixedPassword,
    KeptPassword,
    PasswordHash,
    PasswordState,
)
from tests.operators.console.line_rig import CHEAP, PASSWORD


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "console" / "password"


def test_a_hash_as_others_write_it() -> None:
    """RFC 7914, section 12: the vector of "pleaseletmein", its first 32 bytes."""
    expected = bytes.fromhex("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2")
    read = PasswordHash.parse(
        "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofI"
    )
    assert read.digest == expected
    assert read.salt == b"SodiumChloride"
    assert read.fits("pleaseletmein")
    assert not read.fits("pleaseletmeout")


def test_a_new_hash_costs_what_it_should() -> None:
    made = PasswordHash.of(PASSWORD)
    assert str(made).startswith("$scrypt$ln=14,r=8,p=1$")
    assert PasswordHash.parse(str(made)) == made
    assert made.digest == hashlib.scrypt(
        PASSWORD.encode(), salt=made.salt, n=1 << 14, r=8, p=1, maxmem=1 << 26, dklen=32
    )
    assert PasswordHash.of(PASSWORD, CHEAP).salt != PasswordHash.of(PASSWORD, CHEAP).salt


@pytest.mark.parametrize("password", ["", "seven77", "x" * 129, "pass\x07word", "pässword"])
def test_unfit_passwords(password: str, file: Path) -> None:
    with pytest.raises(PasswordUnfit):
        KeptPassword(file, CHEAP).change(password)
    assert not file.exists()


@given(text=st.text(max_size=120))
def test_no_text_is_a_hash_by_chance(text: str) -> None:
    for spoilt in (text, "$scrypt$ln=14,r=8,p=1$" + text, str(PasswordHash.of(PASSWORD, 1)) + text):
        if spoilt.strip() and text:
            with pytest.raises(ValueError, match="no scrypt hash"):
                PasswordHash.parse(spoilt)


@pytest.mark.parametrize(
    "cost", ["ln=19,r=8,p=1", "ln=14,r=17,p=1", "ln=14,r=8,p=5", "ln=0,r=8,p=1"]
)
def test_a_hash_cannot_cost_all_memory(cost: str) -> None:
    text = str(PasswordHash.of(PASSWORD, CHEAP)).replace(f"ln={CHEAP},r=8,p=1", cost)
    with pytest.raises(ValueError, match="no scrypt hash"):
        PasswordHash.parse(text)


def test_the_kept_password(file: Path) -> None:
    kept = KeptPassword(file, CHEAP)
    assert kept.state is PasswordState.UNSET
    assert not kept.is_right("")
    kept.change(PASSWORD)
    again = KeptPassword(file)
    assert again.state is PasswordState.SET
    assert again.is_right(PASSWORD)
    assert not again.is_right(PASSWORD + " ")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["password"]


@pytest.mark.parametrize("spoilt", [b"", b"\n", b"$scrypt$", b"\xff\xfe", b"x" * 10_000])
def test_a_spoilt_file_is_no_first_use(file: Path, spoilt: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(spoilt)
    kept = KeptPassword(file, CHEAP)
    assert kept.state is PasswordState.DAMAGED
    assert not kept.is_right("")
    assert not kept.is_right(PASSWORD)


def test_a_file_that_cannot_be_read_is_no_first_use(file: Path) -> None:
    file.mkdir(parents=True)
    assert KeptPassword(file).state is PasswordState.DAMAGED
    with pytest.raises(OSError, match="directory"):
        KeptPassword(file, CHEAP).change(PASSWORD)


def test_a_half_written_file_changes_nothing(file: Path) -> None:
    KeptPassword(file, CHEAP).change(PASSWORD)
    file.with_name("password.new").write_text("half")
    kept = KeptPassword(file, CHEAP)
    assert kept.is_right(PASSWORD)
    kept.change("another one")
    assert kept.is_right("another one")


def test_the_password_of_the_settings() -> None:
    fixed = FixedPassword(str(PasswordHash.of(PASSWORD, CHEAP)))
    assert fixed.is_right(PASSWORD)
    assert not fixed.is_right("another one")
    with pytest.raises(PasswordUnfit):
        fixed.change("another one")
    with pytest.raises(ValueError, match="no scrypt hash"):
        FixedPassword("$scrypt$")


def test_the_wait_grows_to_a_quarter_of_an_hour() -> None:
    assert [wait_seconds(failures) for failures in range(6)] == [0, 0, 0, 5, 10, 20]
    assert wait_seconds(10_000) == LONGEST_SECONDS
    waits = [wait_seconds(failures) for failures in range(100)]
    assert waits == sorted(waits)


def test_wrong_passwords_are_counted_over_restarts(file: Path) -> None:
    lockout = Lockout(file)
    lockout.count()
    lockout.count()
    assert Lockout(file).failures == 2
    lockout.clear()
    assert Lockout(file).failures == 0


@pytest.mark.parametrize("spoilt", ["", "many", "-5", "9" * 100, "\xff"])
def test_a_spoilt_count_locks(file: Path, spoilt: str) -> None:
    file.parent.mkdir()
    file.write_text(spoilt)
    assert Lockout(file).failures == FREE_TRIES


def test_a_count_that_cannot_be_kept_counts_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "console").write_text("in the way")
    told: list[str] = []
    lockout = Lockout(tmp_path / "console" / "ttyS0.failures", told.append)
    for _ in range(3):
        lockout.count()
    assert lockout.seconds >= 5
    assert len(told) == 4
