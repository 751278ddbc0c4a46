"""The certificates of a rig: an authority of its own, the box's keys, and its hosts'.

They are made once for a rig and kept, since a saved state knows them.
"""

from pathlib import Path

import trustme

from hil_tests.host import BOX_NAME


class Authority:
    """In a directory of its own: `ca.pem`, `box.pem`, `box.key`, `host.pem`, `host.key`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if not (directory / "host.key").exists():
            self._make()

    def _make(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self._directory / "ca.pem")
        for name, identity in (("box", BOX_NAME), ("host", "host.ebbtide.test")):
            issued = authority.issue_cert(identity)
            chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
            (self._directory / f"{name}.pem").write_bytes(chain)
            # The last one marks the set as whole.
            (self._directory / f"{name}.key").touch(mode=0o600)
            issued.private_key_pem.write_to_path(self._directory / f"{name}.key")

    @property
    def certificate(self) -> bytes:
        return (self._directory / "ca.pem").read_bytes()

    def box(self) -> tuple[bytes, bytes]:
        """Certificate chain and key, PEM."""
        return (
            (self._directory / "box.pem").read_bytes(),
            (self._directory / "box.key").read_bytes(),
        )
