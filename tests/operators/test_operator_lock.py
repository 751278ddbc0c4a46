"""The operator lock, in virtual time: who may change what, and that it never stays with nobody."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.cdp.tasks import Completion
from appliance.errors import LockLost, OperatorLocked
from appliance.operators import answers
from appliance.operators.operator_lock import FACE_MAXIMUM, IDLE_SECONDS, Operator
from tests.operators.office import Office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    opened = Office(tmp_path)
    yield opened
    opened.close()


SNAPSHOT = {"volume": "finance", "name": "noon"}


def test_others_change_nothing_while_it_is_held(office: Office) -> None:
    answer = office.do(office.ann, "lock")
    assert answer.operator == answers.OperatorAnswer(
        "ann at console ttyS0", "2026-01-01T00:00:00.000000000Z"
    )
    with pytest.raises(OperatorLocked) as refused:
        office.do(office.bob, "snapshot", **SNAPSHOT)
    assert str(refused.value) == (
        "ann at console ttyS0 has been changing things since 2026-01-01T00:00:00Z"
    )
    assert (refused.value.code, refused.value.exit_code) == ("EB604", 3)
    assert office.texts("EV903") == []
    assert office.do(office.bob, "disks")
    assert office.do(office.bob, "restore", volume="finance", to="write:7", plan=True)
    assert office.do(office.ann, "snapshot", **SNAPSHOT).done == "taken"


def test_it_is_taken_and_given_again_and_again(office: Office) -> None:
    office.do(office.ann, "lock")
    office.do(office.ann, "lock")
    with pytest.raises(OperatorLocked):
        office.do(office.bob, "lock")
    with pytest.raises(OperatorLocked):
        office.do(office.bob, "unlock")
    assert office.holder() == "ann at console ttyS0"
    office.do(office.ann, "unlock")
    office.do(office.ann, "unlock")
    assert office.holder() is None
    office.do(office.bob, "lock")
    assert office.holder() == "bob"


def test_it_ends_with_the_connection(office: Office) -> None:
    office.do(office.ann, "lock")
    office.finance.stalled = True
    office.ann.ask("sync", volume="finance", wait=True)
    office.ann.close()
    assert office.holder() is None
    assert office.texts("EV905") == []
    office.world.run_for(2 * IDLE_SECONDS)  # and no timer of it is left
    office.do(office.bob, "lock")


def test_it_ends_when_nothing_is_asked_for(office: Office) -> None:
    office.do(office.ann, "lock")
    office.world.run_for(IDLE_SECONDS - 1)
    office.do(office.ann, "disks")
    office.world.run_for(IDLE_SECONDS - 1)
    assert office.holder() == "ann at console ttyS0"
    office.world.run_for(1)
    assert office.holder() is None
    assert office.texts("EV905") == [
        "ann at console ttyS0 asked for nothing in 300.0 s and lost the operator lock"
    ]


def test_what_was_about_to_be_confirmed_when_it_ended_is_not_done(office: Office) -> None:
    office.do(office.ann, "lock")
    office.world.run_for(IDLE_SECONDS)
    for _ in range(2):
        with pytest.raises(LockLost, match="nothing was asked for in 300 s"):
            office.do(office.ann, "restore", volume="finance", to="write:7", yes=True)
    assert office.finance.job is None
    assert office.do(office.ann, "disks")
    office.do(office.ann, "unlock")
    assert office.do(office.ann, "snapshot", **SNAPSHOT).done == "taken"


def test_a_job_that_is_waited_for_keeps_it(office: Office) -> None:
    office.do(office.ann, "lock")
    office.finance.stalled = True
    waiting = office.ann.ask("restore", volume="finance", to="write:7", yes=True, wait=True)
    office.world.run_for(3 * IDLE_SECONDS)
    assert not waiting.finished
    assert office.holder() == "ann at console ttyS0"
    office.finance.stalled = False
    office.world.run_until(waiting)
    office.world.run_for(IDLE_SECONDS)
    assert office.holder() is None


def test_it_is_taken_away_by_force(office: Office) -> None:
    office.do(office.ann, "lock")
    assert office.do(office.bob, "unlock", force=True).operator is None
    assert office.texts("EV904") == ["bob took the operator lock away from ann at console ttyS0"]
    assert office.do(office.bob, "snapshot", **SNAPSHOT)
    with pytest.raises(LockLost, match="bob took it away"):
        office.do(office.ann, "snapshot", volume="finance", name="late")
    office.do(office.ann, "lock")
    assert office.do(office.ann, "snapshot", volume="finance", name="late")
    office.do(office.ann, "unlock", force=True)
    office.do(office.bob, "unlock", force=True)
    assert len(office.texts("EV904")) == 1


def test_it_is_not_taken_in_the_midst_of_another_s_change(office: Office) -> None:
    restore = office.bob.ask("restore", volume="finance", to="write:7", yes=True)
    with pytest.raises(OperatorLocked, match="bob has been"):
        office.do(office.ann, "lock")
    assert office.do(office.bob, "lock")
    office.do(office.bob, "unlock")
    office.world.run_until(restore)
    office.do(office.ann, "lock")


def test_a_change_under_way_outlives_its_connection_and_is_waited_for(office: Office) -> None:
    """A request that cannot be cancelled where it waits still changes something."""
    held = office.finance.held = Completion(holds=True)
    office.bob.ask("snapshot", **SNAPSHOT)
    office.bob.close()
    with pytest.raises(OperatorLocked, match="bob has been"):
        office.do(office.ann, "lock")
    held.succeed(None)
    office.do(office.ann, "lock")


def test_a_job_that_runs_is_no_change_of_its_asker_any_more(office: Office) -> None:
    office.finance.stalled = True
    office.bob.ask("sync", volume="finance", wait=True)
    office.do(office.ann, "lock")
    with pytest.raises(OperatorLocked):
        office.do(office.bob, "job cancel", job=1)
    assert office.do(office.ann, "job cancel", job=1)


@pytest.mark.parametrize(
    ("told", "actor"),
    [
        ("console ttyS0", "ann at console ttyS0"),
        ("", "ann"),
        ("   ", "ann"),
        ("\x1b[31m\u202epanel\n", "ann at ?[31m?panel?"),
        ("x" * 1000, "ann at " + "x" * FACE_MAXIMUM),
    ],
)
def test_a_face_is_fit_for_any_terminal(told: str, actor: str) -> None:
    operator = Operator("ann")
    operator.appear_at(told)
    assert operator.actor == actor
