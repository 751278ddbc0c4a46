"""`[console]` of the settings."""

import pytest

from appliance.config import parse_settings
from appliance.errors import BadSettings
from appliance.operators.access.passwords import PasswordHash
from tests.operators.console.line_rig import CHEAP, PASSWORD


def test_the_defaults() -> None:
    console = parse_settings("").console
    assert (console.device, console.baud, console.password_hash) == ("", 115200, "")
    assert console.idle_seconds == 600


def test_a_hash_is_taken() -> None:
    text = str(PasswordHash.of(PASSWORD, CHEAP))
    console = parse_settings(f'[console]\npassword_hash = "{text}"\nidle_seconds = 60').console
    assert (console.password_hash, console.idle_seconds) == (text, 60)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (f'password_hash = "{PASSWORD}"', "password_hash"),
        (f'password = "{PASSWORD}"', "password"),
        ("idle_seconds = 0", "idle_seconds"),
        ("baud = 1200", "baud"),
    ],
)
def test_what_is_refused_is_named_and_not_repeated(line: str, key: str) -> None:
    with pytest.raises(BadSettings, match=rf"console\.{key}") as raised:
        parse_settings("[console]\n" + line)
    assert PASSWORD not in str(raised.value)
