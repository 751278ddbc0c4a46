"""A host that writes without pause: fio, over NBD, until it is told to stop."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ENDS_SECONDS = 30
LONGEST_SECONDS = 24 * 3600


class Fio:
    """One running fio; `job` are the parameters of its one job."""

    def __init__(self, uri: str, room: Path, *job: str) -> None:
        self._process = subprocess.Popen(
            [
                "fio",
                "--name=load",
                "--ioengine=nbd",
                f"--uri={uri}",
                "--time_based",
                f"--runtime={LONGEST_SECONDS}",
                f"--aux-path={room}",
                "--output-format=json",
                *job,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> dict[str, Any]:
        """What it says of its job, and that no request of it failed."""
        assert self.running, f"fio ended by itself: {self._process.communicate()[0]}"
        self._process.send_signal(signal.SIGINT)
        said, _ = self._process.communicate(timeout=ENDS_SECONDS)
        (job,) = json.loads(said[said.index("{\n") : said.rindex("\n}") + 2])["jobs"]
        assert job["error"] == 0, said
        assert isinstance(job, dict)
        return job

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def fio(uri: str, room: Path, *job: str) -> Iterator[Fio]:
    """It is gone afterwards, whatever happens."""
    load = Fio(uri, room, *job)
    try:
        yield load
    finally:
        load.kill()
