"""What a job says of how far it is, and for how long yet."""

import pytest

from appliance.cdp.jobs import RATE_WINDOW_NS, Job
from appliance.simulated.clock import SimulatedClock

MIB = 1 << 20
SECOND = 1_000_000_000


class Running:
    """A job that scans `total` MiB, at some rate."""

    def __init__(self, total: int) -> None:
        self.clock = SimulatedClock()
        self.job = Job(1, "full", "finance", self.clock, bytes_total=total * MIB)

    def work(self, seconds: float, rate: int) -> None:
        """At `rate` MiB/s, in steps of 1 MiB."""
        for _ in range(int(seconds * rate)):
            self.clock.advance(SECOND // rate)
            self.job.advance(scanned=MIB)

    def eta(self) -> float:
        found = self.job.eta_seconds()
        assert found is not None
        assert found >= 0
        return found


def test_nothing_is_promised_before_anything_is_done() -> None:
    running = Running(1000)
    assert running.job.eta_seconds() is None
    running.job.advance(scanned=MIB)
    assert running.job.eta_seconds() is None


def test_the_first_rate_is_that_since_it_began() -> None:
    running = Running(100)
    running.clock.advance(4 * SECOND)
    running.job.advance(scanned=20 * MIB)
    assert running.eta() == pytest.approx(16)


def test_what_was_done_before_tells_nothing_of_the_rate() -> None:
    running = Running(1000)
    running.clock.advance(SECOND)
    running.job.advance(scanned=800 * MIB)
    running.job.time_anew()
    assert running.job.eta_seconds() is None
    running.work(1, 10)
    assert running.eta() == pytest.approx(19)


def test_held_by_a_person_it_promises_nothing_and_the_pause_does_not_count() -> None:
    running = Running(1000)
    running.work(5, 100)
    running.job.pause()
    assert running.job.eta_seconds() is None
    running.clock.advance(3 * SECOND)
    assert running.job.eta_seconds() is None
    running.job.go_on()
    running.work(1, 100)
    assert running.eta() == pytest.approx(4)


@pytest.mark.parametrize("rate", [1, 10, 100])
def test_a_steady_rate_is_told_right(rate: int) -> None:
    running = Running(100 * rate)
    running.work(30, rate)
    assert running.eta() == pytest.approx(70, rel=0.02)
    running.work(60, rate)
    assert running.eta() == pytest.approx(10, rel=0.02)


def test_it_follows_a_changed_rate_within_its_window() -> None:
    running = Running(10_000)
    running.work(30, 100)
    running.work(RATE_WINDOW_NS / SECOND + 1, 10)
    left = 10_000 - 3_000 - 110
    assert running.eta() == pytest.approx(left / 10, rel=0.02)


def test_work_that_grows_is_added_and_no_more() -> None:
    running = Running(1000)
    running.work(9, 100)
    assert running.eta() == pytest.approx(1, rel=0.1)
    running.job.bytes_total += 500 * MIB
    assert running.eta() == pytest.approx(6, rel=0.05)


def test_it_is_never_negative() -> None:
    """However much more was done than anybody had thought."""
    running = Running(10)
    running.work(3, 100)
    assert running.eta() == 0


def test_held_it_promises_nothing_and_then_what_it_did_before() -> None:
    running = Running(1000)
    running.work(5, 100)
    running.clock.advance(3600 * SECOND)
    assert running.job.eta_seconds() is None
    running.work(0.2, 100)
    assert running.job.eta_seconds() is None or running.eta() < 60
    running.work(1, 100)
    assert running.eta() == pytest.approx(3.8, rel=0.05)


def test_what_has_ended_has_no_time_left_to_tell() -> None:
    running = Running(1000)
    running.work(5, 100)
    running.job.end("cancelled")
    assert running.job.eta_seconds() is None
