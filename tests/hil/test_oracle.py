"""The rig's oracle: what it must complain about, and what not."""

from hypothesis import given
from hypothesis import strategies as st

from hil_tests.oracle import BLOCK, SECTOR, Oracle, complaints_at, content


def story() -> Oracle:
    """Block 5: written and flushed, then written twice more, the last one unanswered."""
    oracle = Oracle()
    oracle.confirm(oracle.issue(5).number)
    oracle.flushed(oracle.before_flush())
    oracle.confirm(oracle.issue(5).number)
    oracle.issue(5)
    return oracle


def test_what_was_flushed_must_be_there() -> None:
    lost = story().complaints(5, content(0))
    assert len(lost) == BLOCK // SECTOR
    assert "flushed write 1 is lost" in lost[0]
    assert story().complaints(5, content(1)) == []


def test_what_came_later_may_be_there_sector_by_sector() -> None:
    torn = content(3)[:SECTOR] + content(2)[:SECTOR] + content(1)[: BLOCK - 2 * SECTOR]
    assert story().complaints(5, torn) == []


def test_nothing_else_may_be_there() -> None:
    wrong = story().complaints(5, content(4))
    assert len(wrong) == BLOCK // SECTOR
    assert "lost" not in wrong[0]
    assert story().complaints(6, content(1)) != []
    assert story().complaints(6, content(0)) == []


def test_a_torn_sector_is_found() -> None:
    torn = content(1)[:8] + content(2)[8:]
    assert len(story().complaints(5, torn)) == 1


def test_a_flush_covers_what_was_answered_before_it_was_sent() -> None:
    oracle = Oracle()
    first = oracle.issue(1)
    covered = oracle.before_flush()
    oracle.confirm(first.number)
    oracle.flushed(covered)
    assert oracle.complaints(1, content(0)) == []
    assert oracle.exact_until == 0


def test_an_unanswered_flush_promises_nothing() -> None:
    oracle = Oracle()
    oracle.confirm(oracle.issue(1).number)
    oracle.before_flush()
    assert oracle.complaints(1, content(0)) == []


def test_a_point_is_exact_or_wrong() -> None:
    oracle = story()
    assert complaints_at(oracle, 1, [(5, content(1))]) == []
    assert complaints_at(oracle, 2, [(5, content(1))]) != []
    assert complaints_at(oracle, 2, [(5, content(2)[:-1] + b"x")]) != []


@given(st.lists(st.integers(0, 3), max_size=30))
def test_the_newest_state_is_always_allowed(blocks: list[int]) -> None:
    oracle = Oracle()
    for block in blocks:
        oracle.confirm(oracle.issue(block).number)
    oracle.flushed(oracle.before_flush())
    assert oracle.exact_until == len(blocks)
    for block, stamp in oracle.at(len(blocks)).items():
        assert oracle.complaints(block, content(stamp)) == []
        assert oracle.allowed(block) == {stamp}
