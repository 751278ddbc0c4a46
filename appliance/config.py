"""The settings file: TOML, strict, read once at start.

Whatever is unknown, of the wrong type or out of range is refused with the key
named, so that a slip of the pen never silently leaves a default in force.
Nothing about a volume stands here: that lives on its disks.
"""

import ipaddress
import re
import ssl
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from appliance.errors import BadSettings

SOCKET_PATH_MAXIMUM: Final = 107
"""Bytes that the kernel takes as the path of a Unix socket (unix(7))."""

SCRYPT_HASH: Final = r"^(\$scrypt\$[\x21-\x7e]{50,200})?$"
"""Nothing, or what might be a hash of scrypt."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """Where a TCP server listens; written `ADDRESS:PORT`, IPv6 in brackets.  Port 0 lets the
    kernel choose."""

    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AllowRule:
    """Hosts that may connect over TCP, and to which volumes; None does not narrow."""

    network: Network | None = None
    name: str | None = None
    """One that the host's certificate, or its pre-shared key, goes by."""
    volumes: frozenset[str] | None = None


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of the file."""


class ServiceSettings(_Section, frozen=True):
    """Directories of the service itself, both absolute."""

    runtime_dir: Path = Path("/run/ebbtide")
    """Sockets; gone at a reboot."""
    state_dir: Path = Path("/var/lib/ebbtide")
    """What belongs to the box and not to a volume: the event log."""

    @property
    def control_socket(self) -> Path:
        return self.runtime_dir / "control.sock"


class DiskSettings(_Section, frozen=True):
    """Where disks come from."""

    source: Literal["udev", "directory"] = "udev"
    directory: Path | None = None
    """With source "directory": each regular file in it is a disk whose id is its stem."""


class TlsSettings(_Section, frozen=True):
    """What hosts on TCP are known by: certificates (the first three files), or pre-shared keys."""

    certificate: Path | None = None
    """The appliance's own, PEM, with its chain."""
    key: Path | None = None
    """Of the certificate, PEM, without a passphrase."""
    client_ca: Path | None = None
    """Authorities, PEM; every host must show a certificate that one of them has signed."""
    psk: Path | None = None
    """A line `NAME:KEY` for each host, the key in hexadecimal."""


class AllowEntry(_Section, frozen=True):
    """One table of `allow`."""

    network: str = ""
    name: str = ""
    volumes: tuple[str, ...] | None = None


class HostSettings(_Section, frozen=True):
    """Where hosts reach the volumes."""

    nbd_unix: Path | None = None
    """The NBD server's Unix socket; without it, `nbd.sock` in the runtime directory."""
    nbd_tcp: str = ""
    """An `ADDRESS:PORT`, or nothing; without TLS a loopback address."""
    tls: TlsSettings | None = None
    allow: tuple[str | AllowEntry, ...] | None = None
    """Who may connect over TCP; a string is a network.  Without it, whoever TLS lets in."""


class ConsoleSettings(_Section, frozen=True):
    """The serial console."""

    device: str = ""
    baud: Literal[9600, 19200, 38400, 57600, 115200] = 115200
    password_hash: Annotated[str, msgspec.Meta(pattern=SCRYPT_HASH)] = ""
    """Empty: the console keeps one itself, which is chosen at its first use."""
    idle_seconds: Seconds = 600.0
    """So long without a key logs out."""


class PanelSettings(_Section, frozen=True):
    """The front panel on the I2C bus."""

    bus: str = ""
    """A device such as /dev/i2c-1, how the name of an I2C adapter begins, or "simulated"; without
    it, the bus that the board's file names: see `appliance.boards`."""
    address: Annotated[int, msgspec.Meta(ge=0x20, le=0x27)] | None = None
    """Without it, as the board's file says."""
    board: str = "lcd-plate"
    pin_hash: Annotated[str, msgspec.Meta(pattern=SCRYPT_HASH)] = ""
    """A PIN that is asked for before anything that changes; `cdp-panel --hash-pin` makes it."""


class ExporterSettings(_Section, frozen=True):
    """The exporter of metrics for Prometheus."""

    listen: str = "127.0.0.1:9776"
    """`ADDRESS:PORT`.  Whoever reaches it reads what there is to read, without a password."""


class ProtectionSettings(_Section, frozen=True):
    """What a new volume starts with, and how long a disk is waited for."""

    ack: Literal["both", "primary"] = "both"
    disk_deadline_seconds: Seconds = 30.0
    """A disk that answers nothing for so long is fenced."""
    wait_for_secondary_seconds: Seconds = 10.0
    """How long a starting volume waits for its other disk before it serves hosts without."""


class Settings(_Section, frozen=True):
    """The whole file; sections that it leaves out keep their defaults."""

    service: ServiceSettings = ServiceSettings()
    disks: DiskSettings = DiskSettings()
    hosts: HostSettings = HostSettings()
    console: ConsoleSettings = ConsoleSettings()
    panel: PanelSettings = PanelSettings()
    exporter: ExporterSettings = ExporterSettings()
    protection: ProtectionSettings = ProtectionSettings()

    @property
    def nbd_socket(self) -> Path:
        """Where the NBD server listens for local hosts."""
        return self.hosts.nbd_unix or self.service.runtime_dir / "nbd.sock"

    @property
    def nbd_endpoint(self) -> TcpEndpoint | None:
        """Where the NBD server listens for TCP, if it shall."""
        tls = self.hosts.tls is not None
        return _endpoint(self.hosts.nbd_tcp, tls) if self.hosts.nbd_tcp else None

    @property
    def allow_list(self) -> tuple[AllowRule, ...] | None:
        """Who may connect over TCP; None: whoever TLS lets in."""
        allow = self.hosts.allow
        return None if allow is None else tuple(_allow_rule(entry) for entry in allow)

    @property
    def exporter_endpoint(self) -> TcpEndpoint:
        """Where the exporter serves HTTP."""
        return _endpoint(self.exporter.listen, anywhere=True)


def read_settings(path: Path) -> Settings:
    """The settings in the file at `path`.

    Raises `BadSettings`, with the key and what is wrong, also when the file
    cannot be read.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise BadSettings(reason=f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSettings(reason=f"{path}: not UTF-8 at byte {error.start}") from error
    return parse_settings(text)


def parse_settings(text: str) -> Settings:
    """The settings in TOML `text`; raises `BadSettings`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(reason=f"not TOML: {error}") from error
    except RecursionError as error:
        raise BadSettings(reason="not TOML: nested too deep") from error
    try:
        settings = msgspec.convert(document, Settings, dec_hook=_convert)
    except msgspec.ValidationError as error:
        raise BadSettings(reason=_with_key(str(error))) from error
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    """What no single key can tell."""
    hosts, disks = settings.hosts, settings.disks
    if hosts.tls is not None:
        _check_tls(hosts.tls)
    try:
        rules = settings.allow_list or ()
    except ValueError as error:
        raise BadSettings(reason=f"hosts.allow: {error}") from error
    if hosts.tls is None and any(rule.name is not None for rule in rules):
        raise BadSettings(reason="hosts.allow: only TLS tells a host's name; set hosts.tls")
    try:
        _ = settings.nbd_endpoint
    except ValueError as error:
        raise BadSettings(reason=f"hosts.nbd_tcp: {error}") from error
    try:
        _ = settings.exporter_endpoint
    except ValueError as error:
        raise BadSettings(reason=f"exporter.listen: {error}") from error
    if disks.source == "directory" and disks.directory is None:
        raise BadSettings(reason='disks.directory: needed with source = "directory"')
    if disks.source == "udev" and disks.directory is not None:
        raise BadSettings(reason='disks.directory: only with source = "directory"')
    for key, socket in (
        ("service.runtime_dir", settings.service.control_socket),
        ("hosts.nbd_unix", settings.nbd_socket),
    ):
        if len(bytes(socket)) > SOCKET_PATH_MAXIMUM:
            raise BadSettings(
                reason=f"{key}: {socket} is longer than the {SOCKET_PATH_MAXIMUM} bytes"
                " that a socket's path may have"
            )


def _check_tls(tls: TlsSettings) -> None:
    certificates = (tls.certificate, tls.key, tls.client_ca)
    if tls.psk is None:
        if None in certificates:
            raise BadSettings(
                reason="hosts.tls: needs certificate, key and client_ca, or psk alone"
            )
    elif certificates != (None, None, None):
        raise BadSettings(reason="hosts.tls: psk stands alone, without certificates")
    elif not getattr(ssl, "HAS_PSK", False):
        raise BadSettings(
            reason="hosts.tls.psk: this Python has no pre-shared keys (3.13 has); use certificates"
        )


def _allow_rule(entry: str | AllowEntry) -> AllowRule:
    """Raises ValueError for what is not a network, or admits nobody in particular."""
    if isinstance(entry, str):
        entry = AllowEntry(network=entry)
    if not entry.network and not entry.name:
        raise ValueError("an entry needs a network or a name")
    try:
        network = ipaddress.ip_network(entry.network) if entry.network else None
    except ValueError as error:
        raise ValueError(f"{error}; a host's name is written {{name = …}}") from error
    volumes = None if entry.volumes is None else frozenset(entry.volumes)
    return AllowRule(network, entry.name.casefold() or None, volumes)


def _convert(wanted: type, value: object) -> Path:
    """Paths out of strings; msgspec adds the key to what this raises."""
    assert wanted is Path
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    if not value.startswith("/") or "\0" in value:
        raise ValueError(f"'{value}' is not an absolute path")
    return Path(value)


def _endpoint(value: str, anywhere: bool) -> TcpEndpoint:
    """Raises ValueError unless it is an address and a port; a loopback address unless `anywhere`
    will do."""
    parts = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+)):([0-9]{1,5})", value)
    if parts is None or int(parts[3]) > 65535:
        raise ValueError(f"'{value}' is not ADDRESS:PORT")
    address = parts[1] or parts[2]
    if address == "localhost":
        address = "127.0.0.1"
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError as error:
        raise ValueError(f"'{address}' is not an IP address") from error
    if not loopback and not anywhere:
        raise ValueError(f"{address} is not a loopback address; others need [hosts.tls]")
    return TcpEndpoint(address, int(parts[3]))


def _with_key(message: str) -> str:
    """msgspec's message with the key in front: `section.key: what is wrong`."""
    text, _, place = message.partition(" - at `$.")
    place = place.rstrip("`")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text)
    if unknown is not None:
        return ".".join(filter(None, [place, unknown[1]])) + ": there is no such setting"
    text = text[0].lower() + text[1:]
    return f"{place}: {text}" if place else text
