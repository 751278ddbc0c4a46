"""A rig at the other end of the console's line: a pseudo-terminal, at full speed or a slow one."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

from appliance.operators.access.passwords import PasswordHash

BIN = Path(sys.executable).parent
PASSWORD = "correct horse"
CHEAP = 4
"""Of a test's password hash: it need not be costly."""
PLAIN = re.compile(rb"[\x20-\x7e\r\n\x08]*")
"""All that a dumb terminal understands, and all that it is sent."""
ENDED = re.compile(rb"^(OK|ERR (EB\d{3}))\r\n", re.MULTILINE)


class Wire:
    """The rig's end.  With `baud`, bytes take their time in both directions."""

    def __init__(self, descriptor: int, baud: int | None = None) -> None:
        self.descriptor = descriptor
        self._second_a_byte = 0.0 if baud is None else 10 / baud
        self._read_until = time.monotonic()
        self.seen = bytearray()
        """Everything that came, ever."""
        self._read = 0

    def send(self, data: bytes) -> None:
        if not self._second_a_byte:
            os.write(self.descriptor, data)
            return
        for byte in data:
            self._receive(self._second_a_byte)
            os.write(self.descriptor, bytes([byte]))

    def until(self, pattern: bytes | re.Pattern[bytes], seconds: float = 20.0) -> re.Match[bytes]:
        """Read on until the pattern comes; what is up to its end counts as read."""
        end = time.monotonic() + seconds
        wanted = re.compile(pattern, re.MULTILINE) if isinstance(pattern, bytes) else pattern
        while (found := wanted.search(self.seen, self._read)) is None:
            left = end - time.monotonic()
            assert left > 0, f"no {wanted.pattern!r} behind {bytes(self.seen[-1000:])!r}"
            self._receive(min(left, 0.05))
        self._read = found.end()
        return found

    def quiet(self, seconds: float) -> bytes:
        """What comes until nothing came for so long."""
        start = self._read
        last = time.monotonic()
        while time.monotonic() - last < seconds:
            if self._receive(seconds):
                last = time.monotonic()
        self._read = len(self.seen)
        return bytes(self.seen[start:])

    def _receive(self, seconds: float) -> int:
        """Wait at most so long for bytes, and take as many as the wire has carried by now."""
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return 0
        most = 4096
        if self._second_a_byte:
            most = 16
            now = time.monotonic()
            self._read_until = max(self._read_until, now - 16 * self._second_a_byte)
            if self._read_until > now:
                select.select([], [], [], self._read_until - now)
        data = os.read(self.descriptor, most)
        self._read_until += len(data) * self._second_a_byte
        self.seen += data
        assert PLAIN.fullmatch(data), data
        assert b"Traceback" not in self.seen[-len(data) - 10 :]
        return len(data)


class Rig(Wire):
    """Knows how the console talks: prompts, `OK` and `ERR code`."""

    def answer(self, seconds: float = 20.0) -> tuple[str, str]:
        """The text up to the end of an answer, and "" or the code of its error."""
        start = self._read
        found = self.until(ENDED, seconds)
        return bytes(self.seen[start : found.start()]).decode("ascii"), (found[2] or b"").decode()

    def do(self, line: str, seconds: float = 20.0) -> tuple[str, str]:
        """Type a line, and read its answer."""
        self.send(line.encode() + b"\r")
        return self.answer(seconds)

    def log_in(self, password: str = PASSWORD) -> str:
        self.until(b"Password: ")
        text, code = self.do(password)
        assert code == "", text
        return text


def write_settings(room: Path, baud: int = 115200, **console: str | float) -> Path:
    """Settings of a box in `room`, with the password set unless told otherwise."""
    console.setdefault("password_hash", str(PasswordHash.of(PASSWORD, CHEAP)))
    lines = [
        "[service]",
        f'runtime_dir = "{room}"',
        f'state_dir = "{room}/state"',
        "[console]",
        f"baud = {baud}",
        *(
            f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}"
            for name, value in console.items()
        ),
    ]
    config = room / "console.toml"
    config.write_text("\n".join(lines) + "\n")
    return config


class ConsoleProcess:
    """A real `cdp-console` at `device`, a name that can be given to one pseudo-terminal after
    another."""

    def __init__(self, room: Path, config: Path) -> None:
        self.device = room / "ttyT0"
        self.log = room / "console.log"
        self._config = config
        self._descriptors: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None

    def plug_in(self) -> int:
        """A new pseudo-terminal behind the name; the rig's end."""
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        self._descriptors = [ours, theirs]
        link = self.device.with_name("ttyT0.new")
        link.symlink_to(os.ttyname(theirs))
        link.replace(self.device)
        return ours

    def unplug(self) -> None:
        """As if an adapter were pulled."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [BIN / "cdp-console", "--config", self._config, "--device", self.device],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()

    def story(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@contextlib.contextmanager
def console_in(room: Path, config: Path) -> Iterator[ConsoleProcess]:
    """The process, not started; ended in the end, and held to have met nothing unexpected."""
    console = ConsoleProcess(room, config)
    try:
        yield console
        console.stop()
    finally:
        if console.process is not None:
            console.process.kill()
            console.process.wait()
        console.unplug()
    assert "Traceback" not in console.story(), console.story()
    assert PASSWORD not in console.story()
