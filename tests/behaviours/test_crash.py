"""Power cuts and kills anywhere: what was promised is kept (DESIGN.md, section 4, rule 5)."""

from collections.abc import Callable

import numpy as np
import pytest

from appliance.cdp.policies import Ack
from appliance.cdp.tasks import Task
from tests.simulation.draws import Shape
from tests.simulation.exhaustive import Story, hold_to_the_word, visit
from tests.simulation.explorer import Explorer
from tests.simulation.findings import Tally
from tests.simulation.rig import LifeEnds, Rig
from tests.simulation.watching import protected_media, watched

SMALL = Shape(primary=136 << 10, secondary=1280 << 10, segment=64 << 10, region=4 << 10)
MIXED = Shape(
    primary=136 << 10,
    secondary=1280 << 10,
    segment=64 << 10,
    region=4 << 10,
    primary_block=512,
    secondary_block=4096,
)
LAGGING = Shape(
    primary=136 << 10,
    secondary=1280 << 10,
    segment=64 << 10,
    region=4 << 10,
    ack=Ack.PRIMARY,
)


def overlap(rig: Rig) -> None:
    """Two writes in flight over each other, a flush, one more over both."""
    rig.write(8, 8)
    rig.write(12, 8)
    rig.flush()
    rig.write(10, 4)


def zeros_and_fua(rig: Rig) -> None:
    rig.write(0, 4, fua=True)
    rig.settle()
    rig.write(2, 12, zeros=True)
    rig.write(40, 2)


def spread(rig: Rig) -> None:
    """A write of several groups, and one that touches its end."""
    rig.write(0, 40)
    rig.write(38, 4)
    rig.settle()
    rig.flush()


STORIES: list[Story] = [overlap, zeros_and_fua, spread]


@pytest.mark.parametrize("way", ["cut", "kill"])
@pytest.mark.parametrize("shape", [SMALL, MIXED, LAGGING], ids=["small", "mixed", "lagging"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_crash_at_every_event_of_a_small_story(story: Story, shape: Shape, way: str) -> None:
    visited = visit(story, shape, way, fates=4, stride=2 if story is spread else 1)
    assert visited.positions >= 5


@pytest.mark.parametrize("first", range(1, 121, 20))
def test_long_lives_keep_every_promise(first: int) -> None:
    tally = Tally()
    for seed in range(first, first + 20):
        explorer = Explorer(seed)
        failure = explorer.run(8)
        if failure is not None:
            pytest.fail(str(failure))
        tally.add(explorer.tally)
    assert tally.power_cuts > 40
    assert tally.points > 20


def protected_rig(shape: Shape = SMALL, seed: int = 1) -> Rig:
    return Rig(seed, shape, media=protected_media(shape))


def write_some(rig: Rig, *firsts: int) -> list[int]:
    """The numbers of writes of four sectors each, settled and flushed."""
    requests = [rig.write(first, 4) for first in firsts]
    rig.settle()
    rig.flush()
    rig.settle()
    return [request.number for request in requests]


def restore(rig: Rig, number: int) -> None:
    assert rig.lifecycle is not None
    point = rig.finish("resolving", Task(rig.volume.resolve(f"write:{number}")))
    plan = rig.finish("planning", Task(rig.lifecycle.jobs.restores.plan(point)))
    job = rig.lifecycle.jobs.restores.start(plan, rig.send_hosts_away)
    rig.wait("the restore", lambda: job.result is not None)
    assert job.result == "done", job.error


def test_a_restore_puts_the_point_back_and_can_be_undone() -> None:
    rig = protected_rig()
    with watched(rig):
        rig.start()
        first, _ = write_some(rig, 0, 20)
        before = rig.read(0, rig.sectors)
        restore(rig, first)
        assert np.array_equal(rig.read(0, rig.sectors), rig.oracle.at(first)[0])
        assert not np.array_equal(rig.read(0, rig.sectors), before)
        restore(rig, first + 1)
        assert np.array_equal(rig.read(0, rig.sectors), before)
        hold_to_the_word(rig)


def test_a_restore_cut_at_any_event_ends_with_its_point() -> None:
    for position in range(2, 200, 3):
        rig = protected_rig(seed=position)
        with watched(rig):
            rig.start()
            numbers = write_some(rig, 0, 20, 3, 50, 90)
            wanted = rig.oracle.at(numbers[1])[0]
            rig.fuse = position
            try:
                restore(rig, numbers[1])
                return  # the last position was behind its end
            except LifeEnds:
                rig.end("cut")
            rig.fuse = -1
            rig.start()
            found = rig.read(0, rig.sectors)
            begun = rig.oracle.restoring is not None
            assert not begun or np.array_equal(found, wanted), position
            hold_to_the_word(rig)
    pytest.fail("the restore never came to its end")


def test_snapshots_survive() -> None:
    rig = protected_rig()
    with watched(rig):
        rig.start()
        write_some(rig, 0, 20)
        taken = rig.finish("a snapshot", Task(rig.volume.take_snapshot("before", pinned=True)))
        rig.write(4, 8)
        rig.end("cut")
        rig.start()
        assert [(s.name, s.write, s.pinned) for s in rig.volume.snapshots()] == [
            ("before", taken.write, True)
        ]
        assert np.array_equal(rig.view(taken.write), rig.oracle.at(taken.write)[0])


def lose(rig: Rig) -> None:
    rig.oracle.secondary_lost_power()
    rig.secondary_medium.remove()


def stall(rig: Rig) -> None:
    rig.secondary_medium.stall()


@pytest.mark.parametrize("trouble", [lose, stall], ids=["pulled", "stalled"])
def test_a_lost_secondary_never_stops_the_host_and_comes_back_whole(
    trouble: Callable[[Rig], None],
) -> None:
    rig = protected_rig()
    with watched(rig):
        rig.start()
        kept = write_some(rig, 0, 20)
        trouble(rig)
        rig.write(8, 8)
        rig.flush()
        rig.settle()
        assert rig.volume.protection.value == "tracking"
        rig.write(60, 8)
        rig.settle()
        rig.secondary_medium.replug()
        rig.secondary_medium.release()
        rig.wait("the late writes", lambda: not rig.secondary.outstanding)
        assert rig.reattach()
        rig.settle_jobs()
        assert rig.volume.protection.value == "protected"
        hold_to_the_word(rig)
        [gap] = rig.volume.gaps()
        # What a stalled disk took late is believed, and then the gap begins behind it.
        assert gap.from_write in (kept[-1] + 1, kept[-1] + 2)
        rig.end("cut")
        rig.start()
        hold_to_the_word(rig)


def test_what_was_written_without_the_secondary_is_resynced_after_a_crash() -> None:
    rig = protected_rig()
    with watched(rig):
        rig.start()
        write_some(rig, 0, 20)
        rig.end("cut")
        rig.start(with_secondary=False)
        rig.write(8, 8)
        rig.flush()
        rig.settle()
        rig.end("cut")
        rig.start()
        rig.settle_jobs()
        hold_to_the_word(rig)
