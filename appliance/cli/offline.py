"""`cdpctl check` and `cdpctl dump`: done here, on disks that no service uses.

Findings and structures are shown as they come, since a large disk takes long;
with `--json`, `check` answers once, and `dump` with one structure a line.
"""

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from appliance.cli.tables import output
from appliance.errors import FAILED
from appliance.operators.answers import FindingDescription, StructureDescription
from appliance.operators.offline import check_disks, dump_disk
from appliance.operators.parameters import Value
from appliance.operators.text import screens


def run(verb: str, arguments: Mapping[str, Value], as_json: bool) -> int:
    """Do one of the two, and give the exit code: of `check`, whether it found errors."""
    if verb == "check":
        disks = arguments["disks"]
        assert isinstance(disks, list)
        return _check(disks, as_json)
    disk = arguments["disk"]
    assert isinstance(disk, str)
    dump_disk(disk, _print_json if as_json else _show_structure)
    return 0


def _check(disks: list[str], as_json: bool) -> int:
    with _Bar() as bar:
        answer = check_disks(disks, (lambda _: None) if as_json else _show_finding, bar.advance)
    if as_json:
        _print_json(answer)
    else:
        screens.verdict(output(), msgspec.to_builtins(answer))
    return FAILED if answer.errors else 0


def _show_finding(finding: FindingDescription) -> None:
    screens.finding(output(), msgspec.to_builtins(finding))


def _show_structure(structure: StructureDescription) -> None:
    screens.structure(output(), msgspec.to_builtins(structure))


def _print_json(answer: object) -> None:
    click.echo(msgspec.json.encode(answer).decode())


class _Bar:
    """How much has been read: a bar on a terminal, nothing elsewhere.  A context manager."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("reading"), BarColumn(), TaskProgressColumn(), console=console
        )
        self._task = self._bar.add_task("reading", total=None)
        self._shown = console.is_terminal

    def __enter__(self) -> Self:
        if self._shown:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shown:
            self._bar.stop()

    def advance(self, done: int, total: int) -> None:
        if self._shown:
            self._bar.update(self._task, completed=done, total=total)
