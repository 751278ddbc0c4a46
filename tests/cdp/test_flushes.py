"""What a flush answers for, and what a failed one means (rule 4)."""

from collections.abc import Callable
from errno import EIO

import pytest

from appliance.cdp.interfaces import FLUSH
from appliance.cdp.tasks import Task
from appliance.errors import DiskFailed
from appliance.simulated.medium import Medium
from tests.cdp.test_write_path import protected
from tests.simulation.rig import Rig


def flush_both(rig: Rig) -> bool:
    """Whether the primary took it."""
    try:
        rig.finish("a flush", Task(rig.path.flush_both()))
    except DiskFailed:
        return False
    return True


def primary_of(rig: Rig) -> Medium:
    return rig.primary_medium


def secondary_of(rig: Rig) -> Medium:
    return rig.secondary_medium


@pytest.mark.parametrize("failing", [primary_of, secondary_of])
def test_nothing_is_stable_by_a_flush_that_one_disk_refused(
    failing: Callable[[Rig], Medium],
) -> None:
    with protected() as rig:
        rig.errors_allowed = True
        rig.write(0, 8)
        rig.settle()
        before = rig.path._flushes.stable_write
        failing(rig).fail_next(FLUSH, EIO)
        assert flush_both(rig) is (failing is secondary_of), "a lost journal is tracked instead"
        assert rig.path._flushes.stable_write == before < rig.path.completed_write


def test_a_flush_of_both_makes_stable_what_was_complete() -> None:
    with protected() as rig:
        rig.write(0, 8)
        rig.settle()
        complete = rig.path.completed_write
        assert flush_both(rig)
        assert rig.path._flushes.stable_write == complete


def test_a_flush_of_the_primary_alone_makes_nothing_stable() -> None:
    with protected() as rig:
        rig.write(0, 8)
        rig.settle()
        before = rig.path._flushes.stable_write
        flushed = rig.path.flush_primary()
        rig.wait("a flush", lambda: flushed.finished)
        assert rig.path._flushes.stable_write == before


def test_a_flush_of_the_appliance_itself_that_failed_is_told_to_every_host() -> None:
    """Hosts 1 and 2 have each written what it may have dropped; neither asked for it."""
    with protected() as rig:
        rig.errors_allowed = True
        rig.write(0, 8, host=1)
        rig.write(20, 8, host=2)
        rig.settle()
        rig.primary_medium.fail_next(FLUSH, EIO)
        assert not flush_both(rig)
        answers = []
        for host in (1, 2, 1, 2):
            flush = rig.flush(host)
            rig.settle()
            answers.append(flush.error)
        assert answers == [EIO, EIO, 0, 0]


def test_a_fua_write_whose_flush_fails_is_an_error() -> None:
    with protected() as rig:
        rig.errors_allowed = True
        rig.primary_medium.fail_next(FLUSH, EIO)
        write = rig.write(0, 8, fua=True)
        rig.settle()
        assert write.error == EIO
