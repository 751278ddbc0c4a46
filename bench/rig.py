"""The bench's machine: block devices in memory, a real `udevd`, `cdpd`, and its peers.

Disks are loop devices with direct I/O on files in memory: real block devices,
whose own speed leaves little to wait for.  Everything that was started or
attached is ended and detached when the rig is left, in the reverse order, also
after a failure or ^C.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from appliance.errors import DiskInUse, ServiceUnreachable
from appliance.operators.control.client import ControlClient, Refused

MEMORY: Final = Path("/dev/shm")
MEMORY_NEEDED: Final = 8 << 30
"""Bytes; the most that one measure's disks take."""
TOOLS: Final = ("losetup", "fio", "qemu-nbd", "qemu-img", "dd", "udevadm")
UDEVD: Final = Path("/lib/systemd/systemd-udevd")
MIB: Final = 1 << 20
GIB: Final = 1 << 30
HISTORY: Final = 64 * GIB
"""Bytes of a history, nearly all of them sparse.  A large one has large segments, and so large
commit groups, as on real disks."""
COMMAND_SECONDS: Final = 300.0
DISK_FREE_SECONDS: Final = 10.0

SETTINGS: Final = """\
[service]
runtime_dir = "{room}/run"
state_dir = "{room}/state"
[disks]
source = "udev"
"""


class MeasurementFailed(Exception):
    """A tool or the service did not do its part; the message says which."""


class ServiceRefused(MeasurementFailed):
    """`cdpd` answered with an error of that code."""

    def __init__(self, verb: str, code: str, sentence: str) -> None:
        super().__init__(f"cdpd: {verb}: {sentence}")
        self.code = code


def missing() -> str:
    """What a rig needs and this machine does not give, in one line; empty if it gives all."""
    if os.geteuid() != 0:
        return "root: loop devices and udevd are not for users"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"{', '.join(lacking)}: `sh setup venv` installs what it takes"
    if not Path("/dev/loop-control").exists():
        return "loop devices"
    if not UDEVD.exists():
        return f"{UDEVD}"
    free = shutil.disk_usage(MEMORY).free
    if free < MEMORY_NEEDED:
        return f"{MEMORY_NEEDED // GIB} GiB of room in {MEMORY}: there are {free / GIB:.1f}"
    return ""


def run(*command: str | Path) -> str:
    """What a command prints; MeasurementFailed if it fails or takes forever."""
    try:
        done = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or ""
        raise MeasurementFailed(f"{command[0]}: {error} {said.strip()[-400:]}") from error
    return done.stdout


@dataclass(frozen=True, slots=True)
class LoopDisk:
    """A block device at `node` on `file`; `id` is what Ebbtide calls it, `size` is in bytes."""

    id: str
    node: Path
    file: Path
    size: int


class Service:
    """A running `cdpd`."""

    def __init__(self, process: "subprocess.Popen[bytes]", room: Path) -> None:
        self._process = process
        self._room = room
        self._control = room / "run" / "control.sock"

    @property
    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) << 10

    def uri(self, volume: str) -> str:
        return f"nbd+unix:///{volume}?socket={self._room}/run/nbd.sock"

    def ask(self, verb: str, **arguments: object) -> dict[str, Any]:
        """The answer to a verb; MeasurementFailed if it is refused, fails or takes forever."""
        overdue = threading.Timer(COMMAND_SECONDS, self._process.kill)
        overdue.start()
        try:
            with ControlClient(self._control) as client:
                return client.request(verb, arguments)
        except Refused as error:
            raise ServiceRefused(verb, error.answer.code, error.answer.sentence) from error
        except ServiceUnreachable as error:
            raise MeasurementFailed(f"{error}\n{self.log()}") from error
        finally:
            overdue.cancel()

    def known_disks(self) -> set[str]:
        """Ids of the disks that it sees; none as long as it does not answer."""
        try:
            return {disk["id"] for disk in self.ask("disks")["disks"]}
        except MeasurementFailed:
            return set()

    def protect(self, volume: str, primary: LoopDisk, secondary: LoopDisk) -> int:
        """Make a volume, and wait until it is protected; its size in bytes.

        Whoever looks at a new disk (udev, another `cdpd`) has it open for a moment.
        """
        wanted = {"volume": volume, "primary": primary.id, "secondary": secondary.id}
        end = time.monotonic() + DISK_FREE_SECONDS
        while True:
            try:
                self.ask("protect", **wanted, yes=True, wait=True)
                break
            except ServiceRefused as error:
                if error.code != DiskInUse.code or time.monotonic() > end:
                    raise
                time.sleep(0.1)
        status = self.volume(volume)
        if status["state"] != "protected":
            raise MeasurementFailed(f"{volume} is {status['state']}\n{self.log()}")
        return int(status["size"])

    def volume(self, name: str) -> dict[str, Any]:
        """Its status."""
        (status,) = self.ask("status", volume=name)["volumes"]
        return dict(status)

    def log(self) -> str:
        """The end of what it logged."""
        return (self._room / "cdpd.log").read_text(encoding="utf-8", errors="replace")[-2000:]


class Rig:
    """A context manager; see the module."""

    def __init__(self) -> None:
        self._made = contextlib.ExitStack()
        self._disks: list[LoopDisk] = []
        self.room = Path()

    def __enter__(self) -> Self:
        try:
            self.room = Path(tempfile.mkdtemp(prefix="ebbtide-bench-", dir=MEMORY))
            self._made.callback(shutil.rmtree, self.room, ignore_errors=True)
            self._start_udevd()
        except BaseException:
            self._made.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _undisturbed():
            self._made.close()

    def disk(self, name: str, size: int, fill: bytes = b"", filled: int | None = None) -> LoopDisk:
        """A new disk of `size` bytes, of which `fill`, repeated, covers the first `filled`, or all.

        The rest is sparse.  Memory that nobody has touched yet costs its first
        user dearly: what a measurement writes to is filled.
        """
        disk_id = f"{self.room.name}-{name}"
        file = self.room / f"{disk_id}.img"
        with file.open("wb") as image:
            if fill:
                for _ in range(0, size if filled is None else filled, len(fill)):
                    image.write(fill)
            image.truncate(size)
        with _undisturbed():
            node = run("losetup", "--find", "--show", "--direct-io=on", file).strip()
            self._made.callback(run, "losetup", "--detach", node)
        run("udevadm", "settle", "--timeout=30")
        self._disks.append(LoopDisk(disk_id, Path(node), file, size))
        return self._disks[-1]

    def service(self) -> Service:
        """Start `cdpd` on the disks that are there; it has looked at them all on return."""
        settings = self.room / "ebbtide.toml"
        settings.write_text(SETTINGS.format(room=self.room), encoding="utf-8")
        process = self._start("cdpd", Path(sys.executable).parent / "cdpd", "--config", settings)
        service = Service(process, self.room)
        wanted = {disk.id for disk in self._disks}
        self._wait("cdpd", process, lambda: wanted <= service.known_disks())
        return service

    def serve_with_qemu(self, disk: LoopDisk) -> str:
        """The disk as an export of qemu-nbd, past the page cache; its URI."""
        place = self.room / f"{disk.id}.sock"
        process = self._start(
            "qemu-nbd",
            *("qemu-nbd", "--persistent", "--cache=none", "--aio=io_uring", "--format=raw"),
            *("--shared=8", "--export-name=peer", f"--socket={place}", disk.node),
        )
        self._wait("qemu-nbd", process, lambda: _answers(place))
        return f"nbd+unix:///peer?socket={place}"

    def _start_udevd(self) -> None:
        if _is_udevd_running():
            return
        Path("/run/udev").mkdir(parents=True, exist_ok=True)
        process = self._start("udevd", UDEVD)
        self._wait("udevd", process, lambda: Path("/run/udev/control").exists())

    def _start(self, name: str, *command: str | Path) -> "subprocess.Popen[bytes]":
        """In a session of its own: ^C is for the rig, which ends things in order."""
        with (self.room / f"{name}.log").open("wb") as log, _undisturbed():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self._made.callback(_end, process)
        return process

    def _wait(
        self, name: str, process: "subprocess.Popen[bytes]", ready: Callable[[], bool]
    ) -> None:
        end = time.monotonic() + 30
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                log = (self.room / f"{name}.log").read_text(encoding="utf-8", errors="replace")
                raise MeasurementFailed(f"{name} did not start: {log[-2000:]}")
            time.sleep(0.01)


def _answers(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(place))
        except OSError:
            return False
    return True


def _is_udevd_running() -> bool:
    for place in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # a process that ends meanwhile
            if place.read_text(encoding="ascii", errors="replace").strip() == "systemd-udevd":
                return True
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """^C waits: what was made is noted before anything is given up."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if caught:
            signal.raise_signal(caught[0])
