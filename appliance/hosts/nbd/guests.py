"""Who a host is, and what the allow list of the settings gives it.

A host on TCP is known by its address and, over TLS, by the names that its
certificate or pre-shared key goes by.  Each rule of the list that fits gives
its volumes; a host that none fits gets nothing.  Views are their volume's.
A host on the Unix socket is not asked: the socket's mode says who may open it.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.config import AllowRule


def _nothing(_reason: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Guest:
    """A host, as far as it is known.

    `volumes` None means all of them.  `refused` is told why it did not get
    what it asked for.
    """

    volumes: frozenset[str] | None = None
    refused: Callable[[str], None] = _nothing

    def may_use(self, export: str) -> bool:
        """Is the volume, or the view of it, for this host?"""
        return self.volumes is None or export.partition("@")[0] in self.volumes


ANYBODY = Guest()


class AllowList:
    """The rules; without any, everybody that TLS lets in may use everything."""

    def __init__(self, rules: Sequence[AllowRule] | None = None) -> None:
        self._rules = rules if rules is not None else (AllowRule(),)

    def may_knock(self, address: str) -> bool:
        """Could a host with this address be given anything?"""
        return any(_is_in(address, rule) for rule in self._rules)

    def volumes(self, address: str, names: frozenset[str]) -> frozenset[str] | None:
        """The volumes that a host with this address and these names may use; None is all."""
        given: frozenset[str] = frozenset()
        for rule in self._rules:
            if _is_in(address, rule) and (rule.name is None or rule.name in names):
                if rule.volumes is None:
                    return None
                given |= rule.volumes
        return given


def _is_in(address: str, rule: AllowRule) -> bool:
    if rule.network is None:
        return True
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip in rule.network
