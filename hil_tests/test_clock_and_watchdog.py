"""The clock is wrong; the watchdog bites."""

import pytest

from hil_tests.box import Box, Refused
from hil_tests.host import Host, Unreachable
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


def test_a_moment_that_came_twice_is_not_guessed(box: Box, host: Host) -> None:
    """By time the box asks which is meant; by number it knows."""
    box.protect("finance", box.pair())
    writes = []
    with host.attach("finance") as finance:
        for number, clock in enumerate(["12:00:00", "13:00:00", "12:10:00", "14:00:00"], 1):
            box.shell(f"date --utc --set '2031-05-05 {clock}'")
            finance.write(0, content(number))
            finance.flush()
            writes.append(box.volume("finance")["write_number"])
    with pytest.raises(Refused) as refused:
        box.cdpctl("restore finance --to 2031-05-05T12:30:00Z --plan")
    assert refused.value.code == "EB405"
    box.cdpctl(f"restore finance --to write:{writes[0]} --yes --wait", timeout=300)
    box.await_state("finance", "protected")
    with host.attach("finance") as finance:
        assert finance.read(0, BLOCK) == content(1)


def test_a_clock_before_all_certificates_is_told_of(box: Box, host: Host) -> None:
    box.protect("finance", box.pair())
    box.shell("date --utc --set '1999-12-31 00:00:00'")
    with pytest.raises(Unreachable):
        host.attach("finance")
    said = "journalctl -t cdpd --no-pager | grep 'not yet valid' | tail -1"
    assert box.until("the box says why", lambda: box.shell(said))
    box.shell("hwclock --hctosys")
    with host.attach("finance") as finance:
        assert finance.size
