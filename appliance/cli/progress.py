"""How far a job is, while one waits: a bar on a terminal, a line now and then elsewhere.

Written to standard error, so that the answer alone is on standard output.
"""

import sys
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from appliance.operators.text.progress import amount, bytes_done, describe, percent, time_left

PLAIN_STEP = 10
"""Percent between two plain lines."""


class JobProgress:
    """Takes a job's progress as the service reports it.  A context manager."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._said: tuple[str, int] | None = None
        self.job: dict[str, Any] | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[amount]}"),
                TextColumn("{task.fields[left]}"),
                console=console,
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def report(self, job: dict[str, Any]) -> None:
        self.job = job
        if self._bar is None:
            self._say(job)
            return
        if self._task is None:
            self._task = self._bar.add_task("", amount="", left="")
        self._bar.update(
            self._task,
            description=f"{job['kind']}: {job['phase']}",
            total=max(1, job["bytes_total"]),
            completed=bytes_done(job) if job["bytes_total"] else job["result"] == "done",
            amount=amount(job),
            left=time_left(job),
        )

    def _say(self, job: dict[str, Any]) -> None:
        step = (job["phase"], percent(job) // PLAIN_STEP)
        if step != self._said:
            self._said = step
            print(describe(job), file=sys.stderr, flush=True)
