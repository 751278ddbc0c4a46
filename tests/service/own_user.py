"""A `cdpd` that is nobody in particular: a user and groups by number, which need no account."""

import contextlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, Literal

import pytest

from tests.service.service_process import Service

USER: Final = 64321
GROUP: Final = 64322
"""The service's own, which its sockets go to."""
DISKS: Final = 64323
"""Stands for cdp-disks."""
STRANGER: Final = 64324
PATH: Final = [str(Path(__file__).parents[2]), sysconfig.get_path("purelib")]
PROBE: Final = "import sys; sys.path[:0] = %r; import appliance.service.main"


@cache
def _interpreter() -> str:
    """One that every user has; that of a virtual environment may lead into somebody's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for interpreter in (sys.executable, f"/usr/local/bin/{version}", f"/usr/bin/{version}"):
        with contextlib.suppress(OSError):
            if not run_as(USER, interpreter, "-I", "-c", PROBE % (PATH,)).returncode:
                return interpreter
    pytest.skip("needs a Python and a tree that other users may read")


def python(code: str) -> list[str | Path]:
    """The command that runs `code` with our packages."""
    return [_interpreter(), "-I", "-c", f"import sys; sys.path[:0] = {PATH!r}; {code}"]


def program(name: str) -> list[str | Path]:
    """The command of one of ours."""
    module = {"cdpd": "appliance.service.main", "cdpctl": "appliance.cli.main"}[name]
    return python(f"from {module} import main; main()")


def run_as(
    user: int, *command: str | Path, groups: tuple[int, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run a program as a user whose own group has the same number."""
    return subprocess.run(
        command,
        user=user,
        group=user,
        extra_groups=groups,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        cwd="/",
    )


class UnprivilegedService(Service):
    """Runs as USER, with the disks of DISKS and no capability."""

    def __init__(self, room: Path, source: Literal["directory", "udev"]) -> None:
        super().__init__(room, source)
        self.command = program("cdpd")
        self.identity = {"user": USER, "group": GROUP, "extra_groups": [DISKS]}
        self.identity |= {"umask": 0o077, "cwd": "/"}


@contextlib.contextmanager
def unprivileged_service(source: Literal["directory", "udev"]) -> Iterator[UnprivilegedService]:
    """Not started yet.  Its room lies where other users get to, and is gone at the end."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    with tempfile.TemporaryDirectory(prefix="ebbtide-") as place:
        room = Path(place)
        room.chmod(0o711)
        service = UnprivilegedService(room, source)
        for name, mode in (("run", 0o755), ("state", 0o700), ("disks", 0o700)):
            directory = room / name
            directory.mkdir(exist_ok=True)
            directory.chmod(mode)
            os.chown(directory, USER, GROUP)
        try:
            yield service
        finally:
            service.kill()
        service.check_log()
