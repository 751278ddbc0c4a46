from collections.abc import Callable
from functools import partial

import pytest

from appliance.cdp.tasks import Completion, Task
from appliance.simulated.choices import every_script
from appliance.simulated.world import EVENT_NS, OUTAGE_NS, Stuck, World


def test_posts_run_before_anything_else_and_in_order() -> None:
    world = World(1)
    happened: list[str] = []

    def note(what: str) -> Callable[[], None]:
        return lambda: happened.append(what)

    world.after(0, note("timer"))
    world.offload(note("work"))
    world.post(note("first"))

    def second() -> None:
        happened.append("second")
        world.post(note("third"))

    world.post(second)
    world.run_for(1)
    assert happened[:3] == ["first", "second", "third"]
    assert sorted(happened[3:]) == ["timer", "work"]


def test_timers_fire_in_order_of_time_and_time_jumps_to_them() -> None:
    world = World(1)
    fired: list[tuple[str, int]] = []
    start = world.clock.monotonic_ns()

    def note(what: str) -> None:
        fired.append((what, world.clock.monotonic_ns() - start))

    world.after(2, lambda: note("late"))
    world.after(1, lambda: note("early"))
    world.after(1.5, lambda: note("never")).cancel()
    world.run_until(lambda: len(fired) == 2)
    assert fired == [("early", 1_000_000_000), ("late", 2_000_000_000)]
    assert not world.step()


def test_offloaded_work_completes_in_any_order_and_delivers_errors() -> None:
    orders = set()
    for script in every_script():
        world = World(script)
        order: list[int] = []
        for number in range(3):
            world.offload(partial(order.append, number))
        world.run_idle()
        orders.add(tuple(order))
    assert len(orders) == 6

    world = World(1)
    with pytest.raises(ZeroDivisionError):
        world.run_until(world.offload(lambda: 1 // 0))


def test_a_task_runs_to_its_result_and_time_passes() -> None:
    world = World(1)
    start = world.clock.monotonic_ns()

    async def work() -> int:
        return await world.offload(lambda: 20) + await world.offload(lambda: 22)

    assert world.run_until(Task(work())) == 42
    assert world.clock.monotonic_ns() - start == 2 * EVENT_NS


def test_a_deadlock_says_what_is_pending() -> None:
    world = World(1)
    never: Completion[None] = Completion()
    with pytest.raises(Stuck, match="nothing is pending"):
        world.run_until(never)


def test_a_run_in_circles_says_what_is_pending() -> None:
    world = World(1)

    def again() -> None:
        world.after(1, again)

    again()
    with pytest.raises(Stuck, match=r"not reached after 100 steps\ntimer at .*again"):
        world.run_until(lambda: False, limit=100)


def test_an_ended_life_reaches_nothing() -> None:
    world = World(1)
    happened: list[str] = []
    world.post(lambda: happened.append("old post"))
    world.after(1, lambda: happened.append("old timer"))
    world.offload(lambda: happened.append("old work"))
    wall = world.clock.wall_ns()
    following = world.power_cut()
    world.post(lambda: happened.append("late post"))
    world.after(1, lambda: happened.append("late timer"))
    following.run_for(10)
    assert happened == []
    assert following.clock.wall_ns() - wall >= OUTAGE_NS
    with pytest.raises(AssertionError, match="this life has ended"):
        world.step()


def test_the_story_is_told_across_lives() -> None:
    world = World(1)
    world.note("born")
    following = world.kill()
    assert [line.split("  ")[-1] for line in following.story().splitlines()] == [
        "born",
        "service killed",
    ]
