"""What happened to the box in a run: cuts, pulls and faults, what was found, and the transcripts of
what failed.

It listens to labgrid's steps, so whatever a rig's drivers do is in it, on every kind of rig.
"""

import re
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from labgrid.protocol import PowerProtocol
from labgrid.step import steps

from hil_tests.drivers.protocols import (
    BayProtocol,
    DiskFaultProtocol,
    EarlierCutProtocol,
    FarMachineProtocol,
    FreshBoxProtocol,
    LinkProtocol,
)

MARKS: Final = pytest.StashKey[list[tuple[Any, int]]]()
"""The recorded lines, and how long each was as the test began."""
SEED: Final = pytest.StashKey[int]()

ALARM: Final = re.compile(
    rb"Traceback \(most recent call last\)|Kernel panic|\bBUG:|\bOops[:\s]|general protection fault"
    rb"|blocked for more than|Call Trace:|segfault at|soft lockup"
)
"""What no line may ever say."""

_HAPPENINGS: Final[list[tuple[type, str, str]]] = [
    (PowerProtocol, "off", "power cuts"),
    (EarlierCutProtocol, "off_within", "power cuts"),
    (FreshBoxProtocol, "replace", "power cuts"),
    (BayProtocol, "pull", "pulls"),
    (DiskFaultProtocol, "fail", "disk faults"),
    (DiskFaultProtocol, "stall", "disk faults"),
    (DiskFaultProtocol, "slow", "disk faults"),
    (LinkProtocol, "cut", "link cuts"),
    (FarMachineProtocol, "cut", "link cuts"),
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

    def tell(self, step: Any, count: str) -> None:
        """A step that came to its end without an error."""
        result = step.result
        if step.title == "replace" and not result:
            # The box was off: nothing happened to it.
            return
        self.counted[count] += 1
        if isinstance(result, dict):
            result = "; ".join(f"{disk} {cut}" for disk, cut in result.items())
        about = ", ".join(str(value) for value in (step.args or {}).values() if value is not None)
        who = step.source.name or type(step.source).__name__
        self.happened.append(
            f"{step.title} {who}"
            + (f" ({about})" if about else "")
            + (f": {result}" if result else "")
        )


class Report:
    """Of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stories: dict[str, Story] = {}
        self.current: Story | None = None
        """The test that runs, from the end of its preparation to its own end."""
        self.image = ""
        """Version and build of what the box runs, as it says."""
        self.began = time.time()

    def step(self, event: Any) -> None:
        """One of labgrid's."""
        step, data = event.step, event.data
        if self.current is None or data.get("state") != "stop" or data.get("exception"):
            return
        for protocol, title, count in _HAPPENINGS:
            if step.title == title and isinstance(step.source, protocol):
                self.current.tell(step, count)
                return

    def summary(self) -> str:
        """One sentence; what a failed test went through was not survived."""
        survived: Counter[str] = Counter()
        for story in self.stories.values():
            if story.outcome == "passed":
                survived += story.counted
        outcomes = Counter(story.outcome for story in self.stories.values())
        told = ", ".join(f"{count} {what}" for what, count in sorted(survived.items()))
        tests = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
        return f"Survived: {told or 'nothing'}. Tests: {tests}."

    def write(self) -> None:
        """As Markdown."""
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.began))
        lines = ["# What the rig did to the box, and what was found", ""]
        lines += [f"Begun {began}, {time.time() - self.began:.0f} s; image {self.image}.", ""]
        lines += [self.summary(), ""]
        lines += ["| test | outcome | seconds | what happened |", "|---|---|---|---|"]
        for story in self.stories.values():
            counted = ", ".join(f"{count} {what}" for what, count in story.counted.items())
            lines.append(f"| {story.name} | {story.outcome} | {story.seconds:.0f} | {counted} |")
        for story in self.stories.values():
            lines += ["", f"## {story.name}", "", f"{story.outcome}, seed {story.seed}", ""]
            if story.outcome == "failed" and story.seed is not None:
                test = story.name.partition("[")[0]
                lines += [f'`EBBTIDE_SEED={story.seed} make hil TESTS="-k {test}"`', ""]
            lines += [f"- {each}" for each in story.happened]
            if story.trouble:
                lines += ["", "```", story.trouble, "```"]
            for line, text in story.transcripts.items():
                lines += ["", f"What line {line} said:", "", "```", text, "```"]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(lines) + "\n")


REPORT: Final = pytest.StashKey[Report]()
"""The run's."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = report = Report(config.rootpath / "build" / "hil" / "report.md")
    steps.subscribe(report.step)


def pytest_unconfigure(config: pytest.Config) -> None:
    steps.unsubscribe(config.stash[REPORT].step)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A panic or a traceback on any line fails any test."""
    report = item.config.stash[REPORT]
    report.current = report.stories[item.nodeid]
    try:
        result = yield
    finally:
        report.current = None
    alarms = [
        f"line {line.name}: {match.group().decode()}"
        for line, mark in item.stash.get(MARKS, [])
        for match in ALARM.finditer(line.since(mark))
    ]
    if alarms:
        pytest.fail("; ".join(alarms), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    outcome = yield
    story = item.config.stash[REPORT].stories.setdefault(item.nodeid, Story(item.name))
    story.seconds += outcome.duration
    story.seed = item.stash.get(SEED, None)
    if story.outcome != "failed" and (outcome.when == "call" or not outcome.passed):
        story.outcome = outcome.outcome
    if outcome.failed:
        story.trouble += outcome.longreprtext
        for line, mark in item.stash.get(MARKS, []):
            text = line.since(mark).decode(errors="replace").replace("\r", "")
            story.transcripts[line.name] = text.replace("```", "'''")
    elif outcome.skipped:
        story.trouble = str(outcome.longrepr[2])
    return outcome


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    report = config.stash[REPORT]
    if report.stories:
        report.write()
        terminalreporter.write_line(f"Image {report.image}. {report.summary()}")
        terminalreporter.write_line(f"The report: {report.path}")
