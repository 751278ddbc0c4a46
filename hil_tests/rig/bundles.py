"""Updates for the box of a virtual rig, made of the bundle that was built with its image.

Each is made once and kept: to pack a slot takes a minute.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RECIPE: Final = Path("firmware_config/image")


@dataclass(frozen=True)
class Bundles:
    """`built` lies beside `development-keys`, with which it was signed; ours go to `directory`."""

    built: Path
    directory: Path

    def working(self, version: str) -> Path:
        """The same, but for the version that it says it has."""
        return self._changed(version, "")

    def failing(self, version: str) -> Path:
        """One whose service ends as soon as it is started."""
        return self._changed(version, "printf '#!/bin/sh\\nexit 1\\n' >$1/opt/ebbtide/bin/cdpd")

    def strangers(self) -> Path:
        """The very same, signed by somebody else."""
        bundle, keys = self._place("strangers"), self.directory / "strangers-keys"
        if not bundle.exists():
            _do("sh", _RECIPE / "development_keys.sh", keys)
            # Its signature is made anew over what the old one vouched for, which nobody here asks.
            command = ["rauc", "resign", "--no-verify", f"--cert={keys / 'signer.pem'}"]
            command += [f"--key={keys / 'signer.key'}", f"--keyring={keys / 'authority.pem'}"]
            making = bundle.with_suffix(".making")
            making.unlink(missing_ok=True)
            _do(*command, self.built, making)
            making.rename(bundle)
        return bundle

    def _changed(self, version: str, change: str) -> Path:
        bundle = self._place(version)
        if not bundle.exists():
            said = f"s/^IMAGE_VERSION=.*/IMAGE_VERSION={version}/"
            script = f"set -e; sed -i '{said}' $1/usr/lib/os-release; {change}"
            keys = self.built.parent / "development-keys"
            recipe = _RECIPE / "changed_bundle.sh"
            _do("sh", recipe, self.built, bundle, keys, "sh", "-c", script, "sh")
        return bundle

    def _place(self, name: str) -> Path:
        """One for each bundle that was built."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory / f"{name}-{self.built.stat().st_mtime_ns}.raucb"


def stick(bundle: Path, image: Path) -> None:
    """A stick that carries the bundle, as an image."""
    kibibytes = bundle.stat().st_size * 11 // 10 >> 10
    image.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="stick-", dir=image.parent) as directory:
        shutil.copy(bundle, Path(directory, "update.raucb"))
        layout = ["-t", "ext4", "-O", "^has_journal", "-m", "0", "-L", "EBBTIDE"]
        _do("mke2fs", "-q", *layout, "-d", directory, image, f"{kibibytes}k")


def _do(*command: str | Path) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    environment = os.environ | {"PATH": path, "LC_ALL": "C.UTF-8"}
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment)
