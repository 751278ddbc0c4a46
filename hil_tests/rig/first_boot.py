"""A new box comes up for the first time and stands still there: the state that tests begin from."""

import select
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Final

from hil_tests.rig import system_disk
from hil_tests.rig.machine import BOARD_VERSION, LINES, Machine, SavedState
from hil_tests.rig.media import Bus, Disk
from hil_tests.rig.settings import PROMPT, WARM_UP

READY_SECONDS: Final = 900
"""A boot under TCG on a machine that has other work too."""


class NeverReady(Exception):
    """The box did not come up; what its lines said is in the message."""


def saved_state(
    image: Path, settings: dict[str, bytes], directory: Path, memory: int, cpus: int
) -> SavedState:
    """The one in `directory`, or a new one, of a machine with so many MiB and processors.

    Raises NeverReady.
    """
    facts = [f"board={BOARD_VERSION}", f"memory={memory}", f"cpus={cpus}"]
    state = SavedState(directory / system_disk.fingerprint(image, settings, *facts))
    if state.directory.exists():
        return state
    making = directory / "making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for old in directory.iterdir():
        # A state is four hundred megabytes; those of other images are of no more use.
        if old.is_dir() and old != making:
            shutil.rmtree(old)
    system_disk.make(image, settings, making / "seeded.raw")
    disk = Disk(
        "SYSTEM",
        making / "system.raw",
        image.stat().st_size,
        bus=Bus.SYSTEM,
        base=making / "seeded.raw",
    )
    box = Machine(making / "machine", disk, host_port=0, memory=memory, cpus=cpus)
    try:
        box.power_on()
        _await_ready(box, directory)
        box.save(making / "state")
    finally:
        box.close()
    (making / "state").rename(state.directory)
    shutil.rmtree(making)
    return state


def _await_ready(box: Machine, transcripts: Path) -> None:
    """A shell on the system's line, the service at work, and the console's first question.

    What the lines say is kept beside the states, as `first-boot-LINE.txt`.
    """
    system, product, journal = (
        _Listener(box.lines[name], transcripts / f"first-boot-{name}.txt") for name in LINES
    )
    # A line that nobody reads holds up who writes to it.
    threading.Thread(target=journal.listen, daemon=True).start()
    ends = time.monotonic() + READY_SECONDS
    system.wait(PROMPT, ends)
    # The question is asked in two halves, so that its echo is no answer.
    system.say(
        "systemctl is-system-running --wait; cdpctl status >/dev/null &&"
        f" {{ {WARM_UP}; }} && echo the box is' 'up"
    )
    system.wait("the box is up", ends)
    system.wait(PROMPT, ends)
    product.wait("New password: ", ends)


class _Listener:
    """Hears one line out, and keeps what it says in a file."""

    def __init__(self, line: socket.socket, transcript: Path) -> None:
        self._line = line
        self._transcript = transcript
        self._transcript.write_bytes(b"")
        self._heard = b""

    def say(self, text: str) -> None:
        self._line.sendall(text.encode() + b"\n")

    def listen(self) -> None:
        """Till the machine ends."""
        while self._take():
            continue

    def wait(self, text: str, ends: float) -> None:
        """Raises NeverReady."""
        while text.encode() not in self._heard:
            if not select.select([self._line], [], [], max(0, ends - time.monotonic()))[0]:
                raise NeverReady(f"{text!r} did not come:\n{self._end()}")
            data = self._take()
            if not data:
                raise NeverReady(f"the machine ended before {text!r}:\n{self._end()}")
            self._heard += data
        self._heard = self._heard.partition(text.encode())[2]

    def _take(self) -> bytes:
        data = self._line.recv(4096)
        with self._transcript.open("ab") as stream:
            stream.write(data)
        return data

    def _end(self) -> str:
        return self._heard[-4000:].decode(errors="replace")
