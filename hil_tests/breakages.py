"""Breaks the box on purpose, one thing at a time, and shows which test of the rig notices.

    .venv-hil/bin/python -m hil_tests.breakages [NAME...]

Each breakage is one change of one file of the running box, laid over its read-only root until it
is started anew, by the shell on its system's line: the image stays as it is, and what works here
works on any rig.  Where `Box.replace` puts another box in its place, that one is whole.

One breakage is of the rig itself, whose disks then lose what they had promised to keep: so it is
seen that the oracle would find a box that does so.

At last the same tests are run on a box that nobody broke: they must pass.
"""

import base64
import importlib
import inspect
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final
from xml.etree import ElementTree as ET

CHOSEN: Final = "EBBTIDE_BREAKAGE"
"""The environment variable that names the one that a run's boxes suffer."""
RIG: Final = "hil_tests/rigs/virtual.yaml"
_SERVICE: Final = "/opt/ebbtide/lib/python3.11/site-packages/appliance"
_UNITS: Final = "/usr/lib/systemd/system"
_RULES: Final = "/usr/lib/udev/rules.d"

_READY: Final = "test_ready.py::test_a_box_is_ready"
_SCSI: Final = "test_protect.py::test_disks_of_every_kind[4096-scsi]"
_MENU: Final = "test_console.py::test_a_restore_by_the_numbers_of_the_menu"
_CUT: Final = "test_power_cut.py::test_while_protected[0]"
_PANEL: Final = "test_panel.py::test_pulled_and_plugged_in_while_it_is_used"


class CannotBreak(Exception):
    """The box is whole: what was to be replaced is not there, or was refused."""


@dataclass(frozen=True)
class Breakage:
    """In a file of the box, the one place that says `old` says `new`; then a command is done."""

    name: str
    file: str
    old: str
    new: str
    then: str
    test: str
    """The smallest that must notice."""

    def inflict(self, shell: Callable[..., str]) -> None:
        """On the box that this is the shell of.  Raises CannotBreak."""
        path = PurePosixPath(self.file)
        change = (
            "import pathlib\n"
            f"path = pathlib.Path({self.file!r})\n"
            "text = path.read_text()\n"
            f"assert text.count({self.old!r}) == 1\n"
            f"path.write_text(text.replace({self.old!r}, {self.new!r}))\n"
            # Those in the image are found valid by nobody's asking.
            f"for kept in path.parent.glob('__pycache__/{path.stem}.*.pyc'): kept.unlink()\n"
        )
        program = base64.b64encode(change.encode()).decode()
        layers = f"lowerdir={path.parent},upperdir=/run/broken/upper,workdir=/run/broken/work"
        try:
            shell("mkdir -p /run/broken/upper /run/broken/work")
            shell(f"mount -t overlay broken -o {layers} {path.parent}")
            shell(f"python3 -c \"import base64; exec(base64.b64decode('{program}'))\"")
            shell(self.then, timeout=180)
        except Exception as error:
            raise CannotBreak(f"{self.name}: {error}") from error


BREAKAGES: Final = (
    Breakage(
        "driver of disks: a flush flushes nothing",
        f"{_SERVICE}/drivers/kernel_aio.py",
        "FLUSH: Final = 3\n"
        '"""IOCB_CMD_FDSYNC: data, and whatever is needed to read it back."""\n\n'
        "_RWF_DSYNC: Final = 2\n",
        "FLUSH: Final = READ\n_RWF_DSYNC: Final = 0\n",
        "systemctl restart cdpd",
        _CUT,
    ),
    Breakage(
        "driver of the panel: keys are read from the wrong register",
        f"{_SERVICE}/drivers/io_expander.py",
        "GPIO: Final = 0x09",
        "GPIO: Final = 0x0A",
        "systemctl restart cdp-panel",
        _PANEL,
    ),
    Breakage(
        "unit cdpd.service: SCSI disks are not allowed",
        f"{_UNITS}/cdpd.service",
        "DeviceAllow=block-sd rw\n",
        "",
        "systemctl daemon-reload; systemctl restart cdpd",
        _SCSI,
    ),
    Breakage(
        "unit cdp-console@.service: its line is not allowed",
        f"{_UNITS}/cdp-console@.service",
        "DeviceAllow=/dev/%I rw\n",
        "",
        "systemctl daemon-reload; systemctl restart cdp-console@ttyS1",
        _READY,
    ),
    Breakage(
        "udev rule 62: disks in bays stay root's",
        f"{_RULES}/62-ebbtide-disks.rules",
        'GROUP="cdp-disks", MODE="0660", ',
        "",
        "udevadm control --reload",
        _SCSI,
    ),
    Breakage(
        "udev rule 63: the panel's bus stays root's",
        f"{_RULES}/63-ebbtide-panel.rules",
        'ATTR{name}=="i2c-tiny-usb*", GROUP="cdp-panel", MODE="0660"',
        'ATTR{name}=="i2c-tiny-usb*", GROUP="root", MODE="0600"',
        "udevadm control --reload",
        _PANEL,
    ),
    Breakage(
        "menu of the console: a number stands for something else",
        f"{_SERVICE}/operators/console/menu.py",
        'Item(2, "Put a volume back to an earlier moment"',
        'Item(3, "Put a volume back to an earlier moment"',
        "systemctl restart cdp-console@ttyS1",
        _MENU,
    ),
)


@dataclass(frozen=True)
class RigBreakage:
    """In a function of the rig's own, the one place that says `old` says `new`."""

    name: str
    module: str
    function: str
    old: str
    new: str
    test: str
    """The smallest that must notice."""

    @property
    def source(self) -> str:
        """Of the function, whole."""
        return inspect.getsource(getattr(importlib.import_module(self.module), self.function))

    def broken(self) -> Any:
        """The function, as it is then."""
        room = dict(vars(importlib.import_module(self.module)))
        exec(self.source.replace(self.old, self.new), room)
        return room[self.function]

    def inflict(self, shell: Callable[..., str]) -> None:  # noqa: ARG002 -- the box is whole
        """For as long as this process lasts."""
        setattr(importlib.import_module(self.module), self.function, self.broken())


RIG_BREAKAGES: Final = (
    RigBreakage(
        "rig: a disk loses the last writes that it had flushed, too",
        "hil_tests.rig.power_cut",
        "survivors",
        "covered = index < owed_until - 1\n",
        "covered = index < owed_until - 30\n",
        _CUT,
    ),
)

ALL: Final = (*BREAKAGES, *RIG_BREAKAGES)


def chosen() -> Breakage | RigBreakage | None:
    """The one that this run suffers, by the environment."""
    name = os.environ.get(CHOSEN)
    return next(each for each in ALL if each.name == name) if name else None


@dataclass(frozen=True)
class Outcome:
    """Of one test, run with a breakage or without."""

    name: str
    complaint: str
    """Empty if it passed."""


def _run(tests: list[str], breakage: str, record: Path) -> list[Outcome]:
    """Raises CannotBreak."""
    command = [sys.executable, "-m", "pytest", "-c", "hil_tests/pytest.ini", "--rootdir", "."]
    command += ["--lg-env", RIG, "-q", "--exitfirst", f"--junitxml={record}"]
    command += [f"hil_tests/{test}" for test in tests]
    with record.with_suffix(".txt").open("wb") as said:
        environment = os.environ | {CHOSEN: breakage}
        subprocess.run(command, env=environment, stdout=said, stderr=said, check=False)
    outcomes = []
    for case in ET.parse(record).iter("testcase"):
        trouble = [each for kind in ("failure", "error") for each in case.findall(kind)]
        complaint = " ".join((trouble[0].get("message") or "?").split()) if trouble else ""
        if CannotBreak.__name__ in complaint:
            raise CannotBreak(complaint)
        if case.find("skipped") is None:
            outcomes.append(Outcome(str(case.get("name")), complaint))
    if not outcomes:
        raise CannotBreak(f"no test was run, see {record.with_suffix('.txt')}")
    return outcomes


def main(names: list[str]) -> int:
    """0 if all is well with a whole box, and nothing broken goes unnoticed."""
    breakages = [each for each in ALL if not names or any(name in each.name for name in names)]
    records = Path("build", "hil", "breakages")
    records.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    unnoticed = 0
    print("| broken | noticed by | which said | seconds |\n|---|---|---|---|", flush=True)
    for index, breakage in enumerate((*breakages, None)):
        tests = [breakage.test] if breakage else sorted({each.test for each in breakages})
        outcomes = _run(tests, breakage.name if breakage else "", records / f"{index}.xml")
        noticed = [each for each in outcomes if each.complaint]
        unnoticed += bool(noticed) is (breakage is None)
        by = ", ".join(each.name for each in noticed) or f"none of {len(outcomes)}"
        said = noticed[0].complaint[:100].replace("|", "\\|") if noticed else ""
        seconds, began = time.monotonic() - began, time.monotonic()
        what = breakage.name if breakage else "nothing"
        print(f"| {what} | {by} | {said} | {seconds:.0f} |", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
