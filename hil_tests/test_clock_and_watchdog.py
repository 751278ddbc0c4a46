"""The clock is wrong; the watchdog bites."""

from hil_tests.box import Box
from hil_tests.host import Host
from hil_tests.oracle import BLOCK, content


def test_a_clock_that_is_set_wrong_costs_no_point(box: Box, host: Host) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    with host.attach("finance") as finance:
        for number, wrong in enumerate(["2001-01-01 00:00:00", "2040-01-01 00:00:00"], 1):
            finance.write(0, content(2 * number))
            finance.flush()
            before = box.volume("finance")["write_number"]
            box.shell(f"date --utc --set '{wrong}'")
            finance.write(0, content(2 * number + 1))
            finance.flush()
            with host.attach(f"finance@write:{before}") as past:
                assert past.read(0, BLOCK) == content(2 * number)
    assert box.volume("finance")["state"] == "protected"


def test_the_watchdog_bites_a_system_that_is_stuck(box: Box) -> None:
    """PID 1 catches its own crash and stands still, and nobody feeds the watchdog any more."""
    pair = box.pair()
    box.protect("finance", pair)
    box.shell("kill -SEGV 1")
    box.await_restart()
    box.await_state("finance", "protected")
