"""`sh setup demo`: the main job of Ebbtide on two disk files, as a person would do it.

Hosts write through the real service with real clients; everything shown is
what the commands print.  Ends with a summary, and with a non-zero status if
anything differed from what it must be.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BIN = Path(sys.executable).parent
MIB = 1 << 20
VOLUME = "finance"

CONFIG = """\
[service]
runtime_dir = "{room}/run"
state_dir = "{room}/state"

[disks]
source = "directory"
directory = "{room}/disks"
"""


class Demo:
    """One run in a folder of its own."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.results: list[tuple[str, str, bool]] = []
        self._environment = {
            **os.environ,
            "EBBTIDE_SOCKET": str(room / "run" / "control.sock"),
            "PATH": f"{BIN}:{os.environ['PATH']}:/usr/sbin:/sbin",
        }

    def say(self, text: str) -> None:
        print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)

    def show(self, *command: str | Path) -> None:
        """Run a command as a person would: its name shown, its output seen."""
        words = [str(word) for word in command]
        print("$", " ".join(words).replace(str(self.room), "."), flush=True)
        subprocess.run(words, check=True, env=self._environment)

    def ask(self, *command: str | Path) -> str:
        """Run a command quietly, for its output."""
        words = [str(word) for word in command]
        done = subprocess.run(
            words, check=True, env=self._environment, capture_output=True, text=True
        )
        return done.stdout

    def uri(self, export: str) -> str:
        return f"nbd+unix:///{export}?socket={self.room}/run/nbd.sock"

    def timed(self, what: str, moved: int, action: Callable[[], None]) -> None:
        """Note how fast something went."""
        began = time.monotonic()
        action()
        seconds = time.monotonic() - began
        speed = f", {moved / MIB / seconds:.0f} MiB/s" if moved else ""
        self.results.append((what, f"{seconds:.2f} s{speed}", True))

    def prove(self, what: str, same: bool) -> None:
        """Note whether something is as it must be."""
        self.results.append((what, "yes" if same else "NO", same))
        print(f"  {what}: {'yes' if same else 'NO'}", flush=True)

    def fingerprint(self, export: str) -> str:
        """The SHA-256 of all bytes of an export, read by a real client."""
        target = self.room / "fetched"
        target.unlink(missing_ok=True)
        self.ask("nbdcopy", self.uri(export), target)
        with target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def summary(self) -> bool:
        """Print what was shown and measured; True if all of it held."""
        self.say("What was shown and measured")
        for what, result, _ in self.results:
            print(f"  {what:<58} {result:>24}")
        return all(held for _, _, held in self.results)


def start_service(demo: Demo) -> subprocess.Popen[bytes]:
    config = demo.room / "ebbtide.toml"
    config.write_text(CONFIG.format(room=demo.room))
    with (demo.room / "cdpd.log").open("wb") as log:
        service = subprocess.Popen([BIN / "cdpd", "--config", config], stderr=log)
    deadline = time.monotonic() + 10
    while '"alpha"' not in _try(lambda: demo.ask("cdpctl", "--json", "disks")):
        if time.monotonic() > deadline or service.poll() is not None:
            sys.exit("demo: cdpd did not start:\n" + (demo.room / "cdpd.log").read_text())
        time.sleep(0.05)
    return service


def _try(action: Callable[[], str]) -> str:
    try:
        return action()
    except subprocess.CalledProcessError:
        return ""


def make_file_system(demo: Demo, size: int) -> Path:
    """A real ext4 as an image, with a tree of real files in it: the library of this Python."""
    image = demo.room / "filesystem.img"
    with image.open("wb") as file:
        file.truncate(size)
    tree = Path(sysconfig.get_path("purelib")) / "numpy"
    demo.ask("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image)
    return image


def run(demo: Demo) -> None:
    disks = demo.room / "disks"
    disks.mkdir()
    for name, size in (("alpha", 128 * MIB), ("beta", 1024 * MIB)):
        with (disks / f"{name}.img").open("wb") as file:
            file.truncate(size)

    demo.say("1. Two disks, and a volume made of them")
    service = start_service(demo)
    try:
        play(demo)
    finally:
        service.send_signal(signal.SIGTERM)
        try:
            service.wait(timeout=20)
        except subprocess.TimeoutExpired:
            service.kill()


def play(demo: Demo) -> None:
    demo.show("cdpctl", "disks")
    demo.timed(
        "baseline of 128 MiB",
        128 * MIB,
        lambda: demo.show(
            "cdpctl", "protect", VOLUME, "--primary", "alpha", "--secondary", "beta", "--wait"
        ),
    )
    status = json.loads(demo.ask("cdpctl", "--json", "status", VOLUME))
    size = status["volumes"][0]["size"]

    demo.say("2. A host puts a file system on it, and a person names the moment")
    image = make_file_system(demo, size)
    demo.timed(
        "a file system written over NBD, every write kept",
        image.stat().st_blocks * 512,
        lambda: demo.show("nbdcopy", "--flush", "--destination-is-zero", image, demo.uri(VOLUME)),
    )
    before = demo.fingerprint(VOLUME)
    demo.show("cdpctl", "snapshot", VOLUME, "before-damage")

    demo.say("3. Damage: the whole volume overwritten with noise")
    noise = demo.room / "noise"
    with noise.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        file.truncate(size)
    demo.timed(
        "the whole volume overwritten, every write kept",
        size,
        lambda: demo.show("nbdcopy", "--flush", noise, demo.uri(VOLUME)),
    )
    demo.prove("the volume's bytes are gone", demo.fingerprint(VOLUME) != before)
    demo.show("cdpctl", "timeline", VOLUME)

    demo.say("4. The moment before, opened as a disk of its own")
    point = f"{VOLUME}@snapshot:before-damage"
    demo.show("nbdinfo", "--size", demo.uri(point))
    demo.prove("the view has every byte from before the damage", demo.fingerprint(point) == before)

    demo.say("5. The volume put back")
    demo.show("cdpctl", "restore", VOLUME, "--to", "snapshot:before-damage", "--plan")
    demo.timed(
        "restore",
        size,
        lambda: demo.show(
            "cdpctl", "restore", VOLUME, "--to", "snapshot:before-damage", "--yes", "--wait"
        ),
    )
    demo.prove("the volume has every byte back", demo.fingerprint(VOLUME) == before)
    checked = subprocess.run(
        ["/sbin/e2fsck", "-fn", str(demo.room / "fetched")], check=False, capture_output=True
    )
    demo.prove("its file system checks clean", checked.returncode == 0)

    demo.say("6. Even the restore can be undone: it is only more writes on the timeline")
    damaged = json.loads(demo.ask("cdpctl", "--json", "status", VOLUME))["volumes"][0]
    demo.show("cdpctl", "status", VOLUME)
    undo = f"{VOLUME}@write:{_last_write_of_noise(demo)}"
    demo.prove("the noise is still there, as a view", demo.fingerprint(undo) == _sha(noise))
    demo.prove("the volume is protected throughout", damaged["state"] == "protected")


def _last_write_of_noise(demo: Demo) -> int:
    """The write before the restore, as the log of events tells it."""
    timeline = json.loads(demo.ask("cdpctl", "--json", "events", "--volume", VOLUME))
    ends = [e for e in timeline["events"] if e["code"] == "EV303"]
    return int(ends[-1]["fields"]["write"])


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    began = time.monotonic()
    room = Path(tempfile.mkdtemp(prefix="ebbtide-demo-"))
    demo = Demo(room)
    try:
        run(demo)
        held = demo.summary()
    finally:
        shutil.rmtree(room, ignore_errors=True)
    print(f"\n{'All of it held' if held else 'SOMETHING DIFFERED'}", end="")
    print(f", in {time.monotonic() - began:.0f} s.")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
