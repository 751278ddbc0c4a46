"""The pace of a synchronisation, over virtual time."""

from collections.abc import Callable, Iterator
from itertools import cycle, repeat

import pytest

from appliance.cdp.jobs import Job
from appliance.cdp.pace import GENTLE, HURRIED, Pace
from appliance.cdp.policies import MIB, Throttle
from appliance.cdp.tasks import Completion, Task
from appliance.simulated.world import World


class Work:
    """Steps of 1 MiB, each of which takes the disks so many milliseconds, without an end."""

    def __init__(self, milliseconds: Iterator[float], throttle: Throttle) -> None:
        self.world = World(1)
        self.throttle = throttle
        self.busy: Callable[[], bool] = lambda: False
        self.job = Job(1, "full", "finance", self.world.clock)
        self._milliseconds = milliseconds
        self.pace = Pace(
            self.job, lambda: self.throttle, self._is_busy, self.world.clock, self.world
        )
        self.passed = 0
        self.at_work = False
        self.task = self.job.task = Task(self._run())

    def _is_busy(self) -> bool:
        return self.busy()

    async def _run(self) -> None:
        while True:
            self.at_work = False
            await self.pace(MIB)
            self.passed += 1
            self.at_work = True
            worked: Completion[None] = Completion()
            self.world.after(next(self._milliseconds) / 1e3, lambda at=worked: at.succeed(None))  # type: ignore[misc]
            await worked

    def rate(self, seconds: float) -> float:
        """MiB/s over the next seconds."""
        before = self.passed
        self.world.run_for(seconds)
        return (self.passed - before) / seconds


def test_idle_hosts_leave_it_at_full_speed() -> None:
    assert Work(repeat(2), Throttle(16, 0)).rate(5) == pytest.approx(500, rel=0.01)


@pytest.mark.parametrize("floor", [1, 4, 16, 100])
def test_the_floor_holds_under_permanent_load(floor: int) -> None:
    """Nothing starves: not even right after it ran at full speed for long."""
    work = Work(repeat(2), Throttle(floor, 0))
    work.rate(20)
    work.busy = lambda: True
    assert work.rate(20) >= 0.95 * floor
    work.rate(100)  # until the load is seen for what it is
    assert work.rate(20) == pytest.approx(floor, rel=0.05)


def test_without_a_floor_it_still_moves_under_permanent_load() -> None:
    work = Work(repeat(2), Throttle(0, 0))
    work.busy = lambda: True
    work.rate(60)
    assert work.passed > 10
    assert work.rate(60) > 0.1


@pytest.mark.parametrize("milliseconds", [[2], [0.01], [0, 0, 0, 0, 0, 12]], ids=str)
@pytest.mark.parametrize("busy", [False, True])
def test_the_ceiling_is_reached_and_never_exceeded(milliseconds: list[float], busy: bool) -> None:
    """Also where the steps are read ahead, and so come in bursts."""
    work = Work(cycle(milliseconds), Throttle(50, 50))
    work.busy = lambda: busy
    found = [work.rate(1) for _ in range(20)]
    assert max(found) <= 50 * 1.1
    assert sum(found) / 20 == pytest.approx(50, rel=0.05)


def test_bursts_neither_break_the_floor_nor_win_by_it() -> None:
    work = Work(cycle([0, 0, 0, 0, 0, 60]), Throttle(40, 0))
    work.busy = lambda: True
    work.rate(2)
    assert work.rate(20) == pytest.approx(40, rel=0.05)


def test_it_takes_the_share_of_time_that_hosts_leave() -> None:
    work = Work(repeat(2), Throttle(1, 0))
    looks = cycle([True, False])
    work.busy = lambda: next(looks)
    assert work.rate(20) == pytest.approx(250, rel=0.1)


def test_light_load_does_not_drag() -> None:
    work = Work(repeat(2), Throttle(1, 0))
    looks = cycle([True] + 19 * [False])
    work.busy = lambda: next(looks)
    assert work.rate(20) > 0.9 * 500


def test_it_is_soon_fast_again_when_the_load_ends() -> None:
    work = Work(repeat(2), Throttle(4, 0))
    work.busy = lambda: True
    work.rate(30)
    work.busy = lambda: False
    work.rate(2.5)
    assert work.rate(1) > 0.9 * 500


@pytest.mark.parametrize("busy", [False, True])
def test_a_changed_throttle_counts_at_once(busy: bool) -> None:
    work = Work(repeat(2), Throttle(1, 1))
    work.busy = lambda: busy
    work.rate(3.5)  # in the midst of a rest of a second
    work.throttle = Throttle(100, 100)
    assert work.rate(1) > 70
    work.throttle = Throttle(10, 10)
    work.rate(0.1)
    assert work.rate(5) == pytest.approx(10, rel=0.1)
    work.throttle = Throttle(16, 0)
    work.busy = lambda: False
    work.rate(1)
    assert work.rate(5) == pytest.approx(500, rel=0.02)


@pytest.mark.parametrize("floor", [0, 16])
def test_being_held_is_no_work_and_owes_no_rest(floor: int) -> None:
    work = Work(repeat(2), Throttle(floor, 0))
    looks = cycle([True, False])
    work.busy = lambda: next(looks)
    before = work.rate(5)
    work.world.run_until(lambda: work.at_work)
    work.job.pause()
    work.rate(1)
    assert work.rate(3600) == 0
    work.job.go_on()
    assert work.rate(5) == pytest.approx(before, rel=0.1)


def test_its_steps_are_short_while_hosts_are_at_work() -> None:
    work = Work(repeat(2), Throttle(16, 0))
    work.rate(1)
    assert work.pace.fitting(4 * MIB) == 4 * MIB
    work.busy = lambda: True
    work.rate(1)
    assert work.pace.fitting(4 * MIB) == GENTLE
    work.busy = lambda: False
    work.rate(5)
    assert work.pace.fitting(4 * MIB) == 4 * MIB


def test_it_begins_gently_and_goes_on_at_full_length_once_no_host_is_seen() -> None:
    world = World(1)
    job = Job(1, "full", "finance", world.clock)
    pace = Pace(job, lambda: Throttle(1, 0), lambda: False, world.clock, world)
    assert pace.fitting(8 * MIB) == GENTLE
    world.run_until(Task(pace(GENTLE)))
    assert pace.fitting(8 * MIB) == 8 * MIB


def test_its_steps_are_longer_where_short_ones_do_not_keep_the_floor() -> None:
    """Each waits behind the hosts' requests, however short it is."""
    work = Work(repeat(30), Throttle(64, 0))
    work.busy = lambda: True
    work.rate(10)
    assert work.pace.fitting(4 * MIB) == HURRIED
    assert work.pace.fitting(8 * MIB, 4) == 4 * HURRIED
    work.throttle = Throttle(16, 0)
    work.rate(10)
    assert work.pace.fitting(4 * MIB) == GENTLE
    assert work.pace.fitting(4 * MIB, 4) == 4 * GENTLE


@pytest.mark.parametrize(("ceiling", "step"), [(1, MIB // 8), (4, MIB // 2), (50, 4 * MIB)])
def test_a_ceiling_has_steps_of_a_fraction_of_a_second(ceiling: int, step: int) -> None:
    work = Work(repeat(2), Throttle(1, ceiling))
    work.rate(1)
    assert work.pace.fitting(4 * MIB) == work.pace.fitting(4 * MIB, 4) == step


def test_it_can_be_cancelled_while_it_rests() -> None:
    work = Work(repeat(2), Throttle(1, 1))
    work.rate(1.5)
    work.job.cancel()
    assert work.task.finished
