"""Certificates for one test: an authority of its own, the appliance's keys, and hosts'."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.config import TlsSettings

APPLIANCE = "127.0.0.1"


@dataclass(frozen=True)
class HostKeys:
    """A host's files, under the names that libnbd and QEMU look for in `directory`."""

    directory: Path

    def context(self) -> ssl.SSLContext:
        """For a client that shows this host's certificate."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca-cert.pem"))
        if (self.directory / "client-cert.pem").exists():
            context.load_cert_chain(
                self.directory / "client-cert.pem", self.directory / "client-key.pem"
            )
        return context


class Authority:
    """Signs for one appliance and its hosts; its files lie in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True)
        self._authority = trustme.CA()
        self.ca = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)

    def appliance(self) -> TlsSettings:
        """The settings of an appliance with keys of this authority, which trusts it."""
        issued = self._authority.issue_cert(APPLIANCE, "localhost")
        certificate, key = self._directory / "box.pem", self._directory / "box.key"
        certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(key)
        return TlsSettings(certificate=certificate, key=key, client_ca=self.ca)

    def host(self, *names: str, trusts: "Authority | None" = None) -> HostKeys:
        """A host with these names; without any it has no certificate.

        It trusts `trusts`, or this authority itself.
        """
        directory = self._directory / ("-".join(names) or "nobody")
        directory.mkdir()
        (directory / "ca-cert.pem").write_bytes((trusts or self).ca.read_bytes())
        if names:
            issued = self._authority.issue_cert(*names, common_name=f"{names[0]} itself")
            issued.cert_chain_pems[0].write_to_path(directory / "client-cert.pem")
            issued.private_key_pem.write_to_path(directory / "client-key.pem")
        return HostKeys(directory)

    def server_only(self, directory: Path) -> tuple[Path, Path]:
        """Certificate and key of some server, which are not meant for clients."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "db1.example")])
        ours = x509.load_pem_x509_certificate(self.ca.read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        signer = serialization.load_pem_private_key(
            self._authority.private_key_pem.bytes(), password=None
        )
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        issued = (
            x509.CertificateBuilder(ours.subject, name, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(ours.not_valid_before_utc)
            .not_valid_after(ours.not_valid_after_utc)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
            .sign(signer, hashes.SHA256())
        )
        paths = directory / "server.pem", directory / "server.key"
        paths[0].write_bytes(issued.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths
