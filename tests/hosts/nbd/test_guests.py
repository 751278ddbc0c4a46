"""What the allow list gives to whom."""

from ipaddress import ip_network

import pytest

from appliance.config import AllowRule
from appliance.hosts.nbd.guests import ANYBODY, AllowList, Guest

NET = ip_network("192.0.2.0/24")
HERE = "192.0.2.7"
NOBODY: frozenset[str] = frozenset()


def names(*texts: str) -> frozenset[str]:
    return frozenset(texts)


def test_without_a_list_everybody_may_use_everything() -> None:
    assert AllowList().may_knock(HERE)
    assert AllowList().volumes(HERE, NOBODY) is None


def test_an_empty_list_lets_nobody_in() -> None:
    assert not AllowList([]).may_knock(HERE)
    assert AllowList([]).volumes(HERE, names("db1")) == NOBODY


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        (HERE, True),
        ("192.0.3.7", False),
        ("::ffff:192.0.2.7", True),
        ("2001:db8::1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_a_network_is_for_its_addresses(address: str, inside: bool) -> None:
    allow = AllowList([AllowRule(network=NET)])
    assert allow.may_knock(address) == inside
    assert (allow.volumes(address, NOBODY) is None) == inside


def test_a_name_is_asked_for_later_but_counts() -> None:
    allow = AllowList([AllowRule(name="db1")])
    assert allow.may_knock(HERE)
    assert allow.volumes(HERE, names("db2", "db1.example")) == NOBODY
    assert allow.volumes(HERE, names("db2", "db1")) is None


def test_network_and_name_of_one_rule_must_both_fit() -> None:
    allow = AllowList([AllowRule(NET, "db1")])
    assert not allow.may_knock("10.0.0.1")
    assert allow.volumes("10.0.0.1", names("db1")) == NOBODY
    assert allow.volumes(HERE, names("db2")) == NOBODY
    assert allow.volumes(HERE, names("db1")) is None


def test_what_rules_give_adds_up() -> None:
    allow = AllowList(
        [
            AllowRule(name="db1", volumes=names("finance")),
            AllowRule(network=NET, volumes=names("mail")),
        ]
    )
    assert allow.volumes(HERE, names("db1")) == names("finance", "mail")
    assert allow.volumes("10.0.0.1", names("db1")) == names("finance")
    assert allow.volumes(HERE, NOBODY) == names("mail")


def test_a_volume_s_views_are_its_own() -> None:
    guest = Guest(names("finance"))
    assert guest.may_use("finance")
    assert guest.may_use("finance@-10m")
    assert not guest.may_use("finances")
    assert not guest.may_use("mail@finance")
    assert not guest.may_use("")
    assert ANYBODY.may_use("whatever")
