"""A real `cdpd` in a process of its own, and `cdpctl` beside it, as a person has them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any, Literal
from urllib.parse import quote

from appliance.errors import ServiceUnreachable
from appliance.operators.control.client import ControlClient, Refused
from tests.service.nbd_client import NbdClient

BIN = Path(sys.executable).parent
MIB = 1 << 20
Json = dict[str, Any]


class Service:
    """The service in a folder `room`; disks are files in `room/disks`, or what udev knows."""

    def __init__(
        self, room: Path, source: Literal["directory", "udev"] = "directory", **protection: float
    ) -> None:
        self.room = room
        self.disks = room / "disks"
        self.disks.mkdir(parents=True, exist_ok=True)
        self.socket = room / "run" / "control.sock"
        self.nbd = room / "run" / "nbd.sock"
        self.log = room / "cdpd.log"
        self.config = room / "ebbtide.toml"
        lines = [
            "[service]",
            f'runtime_dir = "{room}/run"',
            f'state_dir = "{room}/state"',
            "[disks]",
            f'source = "{source}"',
        ]
        if source == "directory":
            lines.append(f'directory = "{self.disks}"')
        lines.append("[protection]")
        lines += [f"{name} = {value}" for name, value in protection.items()]
        self.config.write_text("\n".join(lines) + "\n")
        self.command: list[str | Path] = [BIN / "cdpd"]
        self.identity: dict[str, Any] = {}
        """As whom it runs, in the words of Popen; as ourselves."""
        self.process: subprocess.Popen[bytes] | None = None

    def disk(self, name: str, size: int) -> Path:
        """A blank disk file of `size` bytes."""
        file = self.disks / f"{name}.img"
        with file.open("wb") as made:
            made.truncate(size)
        return file

    # The process

    def launch(self) -> None:
        """Start the service; it is not ready yet on return."""
        assert self.process is None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "--config", self.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self.identity,
            )

    def start(self, *disks: str) -> None:
        """Start the service and wait until it answers, and knows these disks."""
        self.launch()
        self.wait(lambda: self._knows(set(disks)), "cdpd to start")

    def wait_for_disks(self, *disks: str) -> None:
        self.wait(lambda: self._knows(set(disks)), f"the disks {disks}")

    def _knows(self, disks: set[str]) -> bool:
        return disks <= {disk["id"] for disk in self.ask("disks")["disks"]}

    def kill(self) -> None:
        """Nothing is in order afterwards."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """Out of service in order."""
        self.tell_to_stop()
        self.wait_until_stopped()

    def tell_to_stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait_until_stopped(self) -> None:
        process, self.process = self.process, None
        assert process is not None
        assert process.wait(30) == 0, self.story()

    def story(self) -> str:
        """The end of what the service said, for who has to find out."""
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    def check_log(self) -> None:
        """The service must not have met what it did not expect."""
        assert "Traceback" not in self.story(), self.story()

    # Operators

    def run(self, *words: str) -> tuple[int, Json]:
        """`cdpctl --json` with these words: exit code and answer."""
        done = subprocess.run(
            [BIN / "cdpctl", "--socket", str(self.socket), "--json", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
        assert done.returncode != 2, done.stderr
        answer: Json = json.loads(done.stdout)
        return done.returncode, answer

    def do(self, *words: str) -> Json:
        """Have it done; fails the test if it is not."""
        code, answer = self.run(*words)
        assert code == 0, f"{' '.join(words)}: {answer}\n{self.story()}"
        return answer

    def refusal(self, *words: str) -> tuple[int, str, str]:
        """Ask for what must be refused: exit code, code of the error, its sentence."""
        code, answer = self.run(*words)
        assert "error" in answer, f"{' '.join(words)} was done: {answer}"
        error = answer["error"]
        assert code == error["exit_code"]
        return code, error["code"], error["sentence"]

    def refused(self, verb: str, **arguments: object) -> tuple[int, str, str]:
        """The same as `refusal`, over the control socket itself."""
        with ControlClient(self.socket) as client:
            try:
                answer = client.request(verb, arguments)
            except Refused as refused:
                told = refused.answer
                return told.exit_code, told.code, told.sentence
        raise AssertionError(f"{verb} {arguments} was done: {answer}")

    def ask(self, verb: str, **arguments: object) -> Json:
        """The same answer as `do`, over the control socket itself: for what is asked often."""
        with ControlClient(self.socket) as client:
            return client.request(verb, arguments)

    def protect(self, volume: str, primary: str, secondary: str) -> Json:
        """Make a volume and wait until it is protected; its status."""
        self.ask("protect", volume=volume, primary=primary, secondary=secondary, wait=True)
        return self.until(volume, lambda status: status["state"] == "protected")

    def status(self, volume: str) -> Json:
        (found,) = self.ask("status", volume=volume)["volumes"]
        assert isinstance(found, dict)
        return found

    def until(self, volume: str, condition: Callable[[Json], bool], seconds: float = 30.0) -> Json:
        """The volume's status once `condition` holds for it."""
        seen: list[Json] = []

        def holds() -> bool:
            seen[:] = [self.status(volume)]
            return condition(seen[0])

        self.wait(holds, lambda: f"{volume} to get there, last {seen}", seconds)
        return seen[0]

    def until_state(self, volume: str, state: str, seconds: float = 30.0) -> Json:
        return self.until(volume, lambda status: status["state"] == state, seconds)

    def events(self, code: str) -> list[Json]:
        """Those of one kind, oldest first."""
        found = self.ask("events", limit=4096)["events"]
        return [event for event in found if event["code"] == code]

    def wait(
        self, condition: Callable[[], bool], what: str | Callable[[], str], seconds: float = 30.0
    ) -> None:
        """Look every few milliseconds: the service tells nobody by itself."""
        deadline = time.monotonic() + seconds
        never = Event()
        while True:
            with contextlib.suppress(ServiceUnreachable, Refused):
                if condition():
                    return
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"cdpd ended with {self.process.returncode}: {self.story()}")
            if time.monotonic() >= deadline:
                awaited = what if isinstance(what, str) else what()
                raise AssertionError(f"waited {seconds} s for {awaited}: {self.story()}")
            never.wait(0.01)

    # Hosts

    def uri(self, export: str) -> str:
        return f"nbd+unix:///{quote(export)}?socket={self.nbd}"

    def connect(self, export: str) -> NbdClient:
        return NbdClient(self.nbd, export)

    def contents(self, export: str) -> bytes:
        """Every byte of an export."""
        with self.connect(export) as client:
            return client.whole()


@contextlib.contextmanager
def service_in(
    room: Path, source: Literal["directory", "udev"] = "directory", **protection: float
) -> Iterator[Service]:
    """A service that is not started yet; killed at the end, if it lives."""
    assert len(os.fsencode(room)) < 90, "a socket's path would be too long"
    service = Service(room, source, **protection)
    try:
        yield service
    finally:
        service.kill()
    service.check_log()
