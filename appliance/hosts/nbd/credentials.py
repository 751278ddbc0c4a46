"""What TLS proves: the appliance's own keys, and by what hosts are known.

TLS 1.2 or newer, no renegotiation, no tickets, and a context of its own for
each connection, since a context remembers sessions of TLS 1.2 for two hours
and the library lets nobody forbid it.  So each connection proves anew who it
is, and files that are renewed count from the next connection on.

With certificates, a host must show one that an authority of the settings has
signed for clients; it goes by its subject's common name and its alternative
names, in lower case.  With pre-shared keys it goes by its key's name, and TLS
is 1.3; Python has them from 3.13 on.

A private key or a file of keys that others than its owner and group could
read is refused.
"""

import os
import ssl
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from appliance.config import TlsSettings
from appliance.errors import BadSettings

SHORTEST_PSK: Final = 16
"""Bytes of a pre-shared key."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One connection's TLS; `names` says who the host is, once the handshake is over."""

    tls: ssl.SSLObject
    names: Callable[[], frozenset[str]]


class Credentials(Protocol):
    """How hosts prove who they are."""

    def attempt(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> Attempt:
        """TLS for one connection.  It may read files; raises `BadSettings` if that fails."""
        ...


def load(settings: TlsSettings) -> Credentials:
    """The credentials that the settings name; raises `BadSettings`."""
    found = Certificates(settings) if settings.psk is None else SharedKeys(_read_keys(settings.psk))
    found.attempt(ssl.MemoryBIO(), ssl.MemoryBIO())
    return found


class Certificates:
    """Hosts show a certificate."""

    def __init__(self, settings: TlsSettings) -> None:
        assert settings.certificate is not None
        assert settings.key is not None
        assert settings.client_ca is not None
        self._certificate, self._key = settings.certificate, settings.key
        self._client_ca = settings.client_ca

    def attempt(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> Attempt:
        _check_private("hosts.tls.key", self._key)
        context = _context()
        try:
            # A passphrase would be asked for on a terminal that a service does not have.
            context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ValueError) as error:
            where = f"{self._certificate}, {self._key}"
            raise BadSettings(reason=f"hosts.tls.certificate: {where}: {_reason(error)}") from error
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(self._client_ca)
        except (OSError, ValueError) as error:
            reason = f"hosts.tls.client_ca: {self._client_ca}: {_reason(error)}"
            raise BadSettings(reason=reason) from error
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        return Attempt(tls, lambda: certificate_names(tls.getpeercert() or {}))


class SharedKeys:
    """Hosts know a key.  A context each: which key was used, only its callback is told."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._keys = keys

    def attempt(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> Attempt:
        context = _context()
        used: set[str] = set()

        def find(identity: str | None) -> bytes:
            key = self._keys.get(identity or "", b"")
            if identity is not None and key:
                used.add(identity.casefold())
            return key

        if sys.version_info >= (3, 13):
            # There, unlike before, a key that leaks later opens no recorded connection.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.set_psk_server_callback(find)
        return Attempt(
            context.wrap_bio(incoming, outgoing, server_side=True), lambda: frozenset(used)
        )


def certificate_names(certificate: dict[str, Any]) -> frozenset[str]:
    """What a verified certificate goes by; `certificate` as `ssl.getpeercert` shows it."""
    subject = (pair for part in certificate.get("subject", ()) for pair in part)
    common = {value for key, value in subject if key == "commonName"}
    kinds = {"DNS", "email", "URI", "IP Address"}
    other = {value for kind, value in certificate.get("subjectAltName", ()) if kind in kinds}
    return frozenset(name.casefold() for name in common | other)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    return context


def _read_keys(path: Path) -> dict[str, bytes]:
    """The keys of a file as GnuTLS's `psktool` writes it."""
    _check_private("hosts.tls.psk", path)
    keys: dict[str, bytes] = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(reason=f"hosts.tls.psk: {path}: {_reason(error)}") from error
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        name, _, digits = line.partition(":")
        try:
            key = bytes.fromhex(digits)
        except ValueError:
            key = b""
        if not name or len(key) < SHORTEST_PSK or name in keys:
            # The line itself is a secret.
            raise BadSettings(
                reason=f"hosts.tls.psk: {path}: line {number} is not NAME:KEY with a name of its"
                f" own and at least {SHORTEST_PSK} bytes in hexadecimal"
            )
        keys[name] = key
    if not keys:
        raise BadSettings(reason=f"hosts.tls.psk: {path}: there is no key in it")
    return keys


def _check_private(key: str, path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise BadSettings(reason=f"{key}: {path}: {_reason(error)}") from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise BadSettings(
            reason=f"{key}: {path} has mode {mode:04o}: others can use what must be secret"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it cannot be read").replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error)
