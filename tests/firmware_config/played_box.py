"""The image's very scripts in a box that is a directory, with a RAUC that only writes down which
slots it was told of, and a service that only hears."""

import os
import re
import shutil
import subprocess
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "firmware_config" / "image"
SCRIPTS = RECIPE / "root" / "usr" / "lib" / "ebbtide"
DEBIANS = Path("/usr/bin/grub-editenv")
THIS = "0.2.0 abc"
PLACES = re.compile(
    r"(?<![\w$}\"])/(efi|var/lib|run|proc|etc/os-release|dev/kmsg|usr/lib/ebbtide|opt/ebbtide)\b"
)
RAUC = """\
#!/bin/sh
slot=$(sed -n 's/.*rauc\\.slot=\\([AB]\\).*/\\1/p' ROOT/proc/cmdline)
if [ "$slot" = A ]; then other=B; else other=A; fi
case $3 in booted) it=$slot next=$other ;; other) it=$other next=$slot ;; esac
case $2 in
    mark-good) set -- "${it}_OK=1" "${it}_TRY=0" ;;
    mark-bad) set -- "${it}_OK=0" "${it}_TRY=0" ;;
    mark-active) set -- "ORDER=$it $next" "${it}_OK=1" "${it}_TRY=0" ;;
esac
exec grub-editenv ROOT/efi/EFI/ebbtide/grubenv set "$@"
"""


class Box:
    """A root directory; `A` is booted, and version 0.2.0 runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memory = root / "efi/EFI/ebbtide/grubenv"
        self.copy = self.memory.with_name("grubenv.copy")
        self.notes = root / "var/lib/ebbtide-image"
        self.now = root / "run/ebbtide-image"
        for place in (
            "etc",
            "proc",
            "dev",
            "bin",
            "usr/lib/ebbtide",
            "var/lib/rauc",
            "run",
            "opt/ebbtide/bin",
        ):
            (root / place).mkdir(parents=True)
        self.memory.parent.mkdir(parents=True)
        for script in SCRIPTS.iterdir():
            self._install(script, root / "usr/lib/ebbtide" / script.name)
        self._install(RECIPE / "root/usr/local/sbin/grub-editenv", root / "bin/grub-editenv")
        self.program("rauc", RAUC.replace("ROOT", str(root)))
        self.program("../opt/ebbtide/bin/python", f'#!/bin/sh\necho "$@" >>{root}/told\n')
        self.program("systemctl", f'#!/bin/sh\necho "$@" >>{root}/systemctl\n')
        (root / "etc/os-release").write_text("IMAGE_VERSION=0.2.0\nBUILD_ID=abc\n")
        self.boot("A")
        for file in (self.memory, self.copy):
            subprocess.run([DEBIANS, file, "create"], check=True, timeout=30)
        self.remember("ORDER=A B", "A_OK=1", "A_TRY=1", "B_OK=0", "B_TRY=0")

    def _install(self, script: Path, place: Path) -> None:
        place.write_text(PLACES.sub(rf"{self.root}/\1", script.read_text()))
        place.chmod(0o755)

    def program(self, name: str, text: str) -> None:
        (self.root / "bin" / name).write_text(text)
        (self.root / "bin" / name).chmod(0o755)

    def boot(self, slot: str, words: str = "") -> None:
        (self.root / "proc/cmdline").write_text(f"quiet rauc.slot={slot} {words}\n")
        shutil.rmtree(self.now, ignore_errors=True)

    def remember(self, *settings: str) -> None:
        self.run(self.root / "bin/grub-editenv", self.memory, "set", *settings)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={"PATH": f"{self.root}/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def script(self, name: str) -> str:
        """What it said."""
        done = self.run(self.root / "usr/lib/ebbtide" / name)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def remembered(self, file: Path | None = None) -> dict[str, str]:
        done = self.run(DEBIANS, file or self.memory, "list")
        assert done.returncode == 0, done.stderr
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def worked(self, slot: str, version: str = THIS) -> None:
        self.notes.mkdir(exist_ok=True)
        (self.notes / f"worked-{slot}").write_text(f"{version}\n")

    @property
    def told(self) -> list[str]:
        """What the service heard."""
        said = self.root / "told"
        lines = said.read_text().splitlines() if said.exists() else []
        return [line.removeprefix("-Im appliance.cli.news ") for line in lines]

    @property
    def restarted(self) -> bool:
        said = self.root / "systemctl"
        return said.exists() and "reboot" in said.read_text()
