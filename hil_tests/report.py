"""What happened to the box in a run: cuts, pulls and faults, what was found, and the transcripts of
what failed.

It listens to labgrid's steps, so whatever a rig's drivers do is in it, on every kind of rig.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from labgrid.protocol import PowerProtocol
from labgrid.step import steps

from hil_tests.drivers.protocols import (
    BayProtocol,
    DiskFaultProtocol,
    FreshBoxProtocol,
    LinkProtocol,
)

MARKS: Final = pytest.StashKey[list[tuple[Any, int]]]()
"""The recorded lines, and how long each was as the test began."""
SEED: Final = pytest.StashKey[int]()

ALARM: Final = re.compile(
    rb"Traceback \(most recent call last\)|Kernel panic|\bBUG:|\bOops[:\s]|general protection fault"
    rb"|hung_task|blocked for more than|Call Trace:|segfault at|soft lockup"
)
"""What no line may ever say."""

_HAPPENINGS: Final[list[tuple[type, str, str]]] = [
    (PowerProtocol, "off", "power cuts"),
    (FreshBoxProtocol, "replace", ""),
    (BayProtocol, "pull", "pulls"),
    (DiskFaultProtocol, "fail", "disk faults"),
    (DiskFaultProtocol, "stall", "disk faults"),
    (DiskFaultProtocol, "slow", "disk faults"),
    (LinkProtocol, "cut", "link cuts"),
]
"""Which step of which role is told, and under what it is counted."""


@dataclass
class Story:
    """One test."""

    name: str
    outcome: str = "not run"
    seconds: float = 0
    happened: list[str] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    seed: int | None = None
    trouble: str = ""
    transcripts: dict[str, str] = field(default_factory=dict)


class Report:
    """Of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stories: dict[str, Story] = {}
        self.current: Story | None = None
        self.began = time.time()

    def step(self, event: Any) -> None:
        """One of labgrid's, at its end."""
        if self.current is None or event.data.get("state") != "stop":
            return
        for protocol, title, count in _HAPPENINGS:
            if event.step.title == title and isinstance(event.step.source, protocol):
                self._tell(self.current, event, count)
                return

    def _tell(self, story: Story, event: Any, count: str) -> None:
        step = event.step
        who = step.source.name or type(step.source).__name__
        told = ", ".join(f"{value}" for value in (step.args or {}).values() if value is not None)
        result = step.result
        if isinstance(result, dict):
            result = "; ".join(f"{disk}: {cut}" for disk, cut in result.items())
        if count and (title_counts := result is not None or count != "power cuts"):
            story.counted[count] += int(title_counts)
        elif result is not None:
            # A box that was replaced lost its power.
            story.counted["power cuts"] += 1
        else:
            return
        story.happened.append(
            f"{step.title} {who}" + f" ({told})" * bool(told) + f": {result}" * (result is not None)
        )

    def write(self) -> None:
        """As Markdown."""
        survived: Counter[str] = Counter()
        for story in self.stories.values():
            if story.outcome == "passed":
                survived += story.counted
        outcomes = Counter(story.outcome for story in self.stories.values())
        lines = ["# What the rig did to the box, and what was found", ""]
        lines += [
            f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(self.began))}, "
            f"{time.time() - self.began:.0f} s",
            "",
        ]
        lines += [summary(outcomes, survived), ""]
        lines += ["| test | outcome | seconds | what happened |", "|---|---|---|---|"]
        for story in self.stories.values():
            counted = ", ".join(f"{count} {what}" for what, count in story.counted.items())
            lines.append(f"| {story.name} | {story.outcome} | {story.seconds:.0f} | {counted} |")
        for story in self.stories.values():
            lines += ["", f"## {story.name}", "", f"{story.outcome}, seed {story.seed}", ""]
            lines += [f"- {each}" for each in story.happened]
            if story.trouble:
                lines += ["", "```", story.trouble, "```"]
            for line, text in story.transcripts.items():
                lines += ["", f"What line {line} said:", "", "```", text, "```"]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(lines) + "\n")


def summary(outcomes: Counter[str], survived: Counter[str]) -> str:
    """One sentence."""
    told = ", ".join(f"{count} {what}" for what, count in sorted(survived.items())) or "nothing"
    tests = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
    return f"Survived: {told}. Tests: {tests}."


_KEY: Final = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    path = config.rootpath / "build" / "hil" / "report.md"
    config.stash[_KEY] = report = Report(path)
    steps.subscribe(report.step)


def pytest_unconfigure(config: pytest.Config) -> None:
    steps.unsubscribe(config.stash[_KEY].step)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    report = item.config.stash[_KEY]
    report.current = report.stories[item.nodeid] = Story(item.name)
    try:
        return (yield)
    finally:
        report.current = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    """A panic or a traceback on any line fails any test."""
    result = yield
    alarms = [
        f"line {line.name}: {match.group().decode()}"
        for line, mark in item.stash.get(MARKS, [])
        for match in ALARM.finditer(line.since(mark))
    ]
    if alarms:
        pytest.fail("; ".join(alarms), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    outcome = yield
    story = item.config.stash[_KEY].stories[item.nodeid]
    story.seconds += outcome.duration
    story.seed = item.stash.get(SEED, None)
    if outcome.failed or outcome.when == "call" or outcome.skipped:
        if story.outcome != "failed":
            story.outcome = outcome.outcome
    if outcome.failed:
        story.trouble += outcome.longreprtext
        for line, mark in item.stash.get(MARKS, []):
            text = line.since(mark).decode(errors="replace").replace("\r", "")
            story.transcripts[line.name] = text.replace("```", "'''")
    if outcome.skipped:
        story.trouble = str(outcome.longrepr[2])
    return outcome


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    report = config.stash[_KEY]
    if not report.stories:
        return
    report.write()
    outcomes: Counter[str] = Counter(story.outcome for story in report.stories.values())
    survived: Counter[str] = Counter()
    for story in report.stories.values():
        if story.outcome == "passed":
            survived += story.counted
    terminalreporter.write_line(summary(outcomes, survived))
    terminalreporter.write_line(f"The report: {report.path}")
