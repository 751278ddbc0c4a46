"""A few of the lives that `tests.fuzz` plays for longer, and that they find what is wrong."""

import random

import pytest

from appliance.hosts.nbd.guests import Guest
from appliance.hosts.nbd.negotiation import Negotiation, Security
from appliance.hosts.nbd.transmission import Transmission
from tests.hosts.nbd.fuzzed import live


@pytest.mark.parametrize("seed", range(8))
def test_a_life_among_strangers(seed: int) -> None:
    counts = live(random.Random(seed), 200)
    assert counts["friend writes"]
    assert counts["stranger speaks"]


def lives_until_it_shows() -> None:
    for seed in range(60):
        live(random.Random(seed), 200)


def test_it_would_show_that_tls_is_not_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Negotiation.take

    def take(self: Negotiation, option: int, data: bytes) -> None:
        if self._security is Security.REQUIRED:
            self._guest = Guest()
            self._security = Security.NONE
        original(self, option, data)

    monkeypatch.setattr(Negotiation, "take", take)
    with pytest.raises(AssertionError):
        lives_until_it_shows()


def test_it_would_show_that_names_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guest, "may_use", lambda self, export: True)
    with pytest.raises(AssertionError, match="changed a disk"):
        lives_until_it_shows()


def test_it_would_show_payload_that_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transmission, "stop_reading", lambda self: None)
    with pytest.raises(AssertionError):
        lives_until_it_shows()
