"""The console under whatever may come in; for longer runs see `tests.fuzz`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import face, fuzz
from tests.operators.console.line_rig import PASSWORD, PLAIN
from tests.operators.console.played import WORDS, PlayedConsole, PlayedLockout


@pytest.mark.timeout(120)
def test_lives_of_chance() -> None:
    tally, _ = fuzz(face("console"), 1, 300, lambda tally: tally.lives < 40)
    assert tally.counts["logins"]
    assert tally.counts["confirmed"]


@settings(deadline=None, max_examples=200)
@given(chunks=st.lists(st.binary(max_size=60), max_size=20), inside=st.booleans())
def test_any_bytes_are_harmless(chunks: list[bytes], inside: bool) -> None:
    console = PlayedConsole(PlayedLockout())
    console.read()
    if inside:
        console.line(PASSWORD)
    for chunk in chunks:
        assert PLAIN.fullmatch(console.type(chunk).encode())
        assert inside or not console.manner.logged_in
    assert not any(given.get("yes") for _, given in console.service.asked)


@settings(deadline=None, max_examples=200)
@given(typed=st.binary(max_size=20))
def test_any_bytes_confirm_nothing(typed: bytes) -> None:
    console = PlayedConsole(PlayedLockout())
    console.read()
    console.line(PASSWORD)
    assert console.line("restore finance --to -10m").endswith("0 to go back: ")
    console.type(typed + b"\r")
    assert not any(given.get("yes") for _, given in console.service.asked) or (
        typed.strip() == WORDS.encode()
    )
