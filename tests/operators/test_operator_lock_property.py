"""Whatever connections do, in any order: only the holder changes things, and the lock never stays
with nobody.  Held against a model in virtual time."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
)

from appliance.cdp.tasks import Task
from appliance.errors import EbbtideError
from appliance.operators.operator_lock import IDLE_SECONDS
from tests.operators.fake_appliance import PLAN_SECONDS, FakePlan
from tests.operators.office import Connection, Office

PEOPLE = (("ann", "console ttyS0"), ("ann", "panel"), ("bob", ""))
IDLE_NS = int(IDLE_SECONDS * 1e9)
PLAN_NS = int(PLAN_SECONDS * 1e9)

numbers = st.integers(0, len(PEOPLE) - 1)


class LockMachine(RuleBasedStateMachine):
    """`holder` and `lost` are the model's; `quiet` is since when a connection asks for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.office = Office(Path(self.directory.name))
        self.holder: Connection | None = None
        self.lost: set[Connection] = set()
        self.people = [self.office.connect(user, face) for user, face in PEOPLE]
        self.quiet = dict.fromkeys(self.people, self.now())
        self.changing: list[tuple[Connection, int]] = []
        """Who is in the midst of a change, and until when; it takes its course when they go."""
        self.numbers = 0
        self.office.appliance.restore = self.restore  # type: ignore[method-assign]

    def restore(self, name: str, plan: FakePlan) -> Any:
        """The moment of truth: whose restore is it, and may it be?"""
        asker = self.office.connections[plan.point.write]
        assert self.holder in (None, asker)
        return self.office.finance.start("restore")

    def now(self) -> int:
        return self.office.world.clock.monotonic_ns()

    def ask(self, person: Connection, verb: str, **arguments: object) -> Task[Any]:
        task = person.ask(verb, **arguments)
        self.quiet[person] = self.now()
        task.when_finished(lambda: self.note_end(person))
        return task

    def note_end(self, person: Connection) -> None:
        if person in self.quiet:
            self.quiet[person] = self.now()

    def outcome(self, person: Connection, verb: str, **arguments: object) -> str:
        """The error's code, or nothing; of what is done at once."""
        task = self.ask(person, verb, **arguments)
        assert task.finished
        try:
            task.result()
        except EbbtideError as error:
            return error.code
        return ""

    def refusal(self, person: Connection) -> str:
        """What the model says to a change."""
        if person in self.lost:
            return "EB607"
        return "EB604" if self.holder not in (None, person) else ""

    def pass_time(self, seconds: float) -> None:
        self.office.world.run_for(seconds)
        holder = self.holder
        if holder is None or any(not task.finished for task in holder.tasks):
            return
        if self.now() - self.quiet[holder] >= IDLE_NS:
            self.lost.add(holder)
            self.holder = None

    @rule(number=numbers)
    def reconnect(self, number: int) -> None:
        """The connection dies; somebody comes back on a new one."""
        person = self.people[number]
        person.close()
        del self.quiet[person]
        self.lost.discard(person)
        if self.holder is person:
            self.holder = None
        self.people[number] = self.office.connect(*PEOPLE[number])
        self.quiet[self.people[number]] = self.now()

    @rule(number=numbers)
    def lock(self, number: int) -> None:
        person = self.people[number]
        others = [asker for asker, end in self.changing if asker is not person and self.now() < end]
        said = self.outcome(person, "lock")
        if self.holder not in (None, person) or others:
            assert said == "EB604"
        else:
            assert said == ""
            self.holder = person
            self.lost.discard(person)

    @rule(number=numbers, force=st.booleans())
    def unlock(self, number: int, force: bool) -> None:
        person = self.people[number]
        said = self.outcome(person, "unlock", force=force)
        self.lost.discard(person)
        if self.holder not in (None, person) and not force:
            assert said == "EB604"
            return
        assert said == ""
        if self.holder not in (None, person):
            assert self.holder is not None
            self.lost.add(self.holder)
        self.holder = None

    @rule(number=numbers)
    def change(self, number: int) -> None:
        person = self.people[number]
        self.numbers += 1
        name = f"s{self.numbers}"
        expected = self.refusal(person)
        assert self.outcome(person, "snapshot", volume="finance", name=name) == expected
        assert (name in self.office.finance.names) == (not expected)

    @rule(number=numbers, wait=st.booleans())
    def begin_slow_change(self, number: int, wait: bool) -> None:
        """Until its plan is made; then it is a job, and no change of its asker any more."""
        person = self.people[number]
        expected = self.refusal(person)
        point = f"write:{self.office.connections.index(person)}"
        task = self.ask(person, "restore", volume="finance", to=point, yes=True, wait=wait)
        assert task.finished == bool(expected)
        if expected:
            assert _code(task) == expected
        else:
            self.changing.append((person, self.now() + PLAN_NS))
            self.office.finance.stalled = True

    @rule(number=numbers)
    def look(self, number: int) -> None:
        person = self.people[number]
        assert self.outcome(person, "status") == ""

    @rule(number=numbers)
    def wait_for_the_job(self, number: int) -> None:
        person = self.people[number]
        job = self.office.finance.job
        if job is not None:
            self.ask(person, "job wait", job=job.number)

    @rule()
    def jobs_end(self) -> None:
        self.office.finance.stalled = False
        self.pass_time(1)

    @rule(seconds=st.sampled_from([0.005, 1, IDLE_SECONDS - 1, IDLE_SECONDS, 1000]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    @invariant()
    def status_tells_the_holder(self) -> None:
        told = self.office.holder()
        assert told == (None if self.holder is None else self.holder.operator.actor)

    def teardown(self) -> None:
        self.office.close()
        self.directory.cleanup()


def _code(task: Task[Any]) -> str:
    try:
        task.result()
    except EbbtideError as error:
        return error.code
    return ""


LockMachine.TestCase.settings = settings(deadline=None, max_examples=120, stateful_step_count=40)
TestTheLock = LockMachine.TestCase
