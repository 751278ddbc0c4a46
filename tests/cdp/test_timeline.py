"""From what people ask for to a write number, and the window that bounds it."""

from datetime import UTC, datetime

import pytest

from appliance.cdp.points import Point
from appliance.errors import (
    BadPoint,
    EbbtideError,
    PointAmbiguous,
    PointInGap,
    PointOutsideWindow,
    SnapshotNotFound,
)
from tests.cdp.simulated_pair import SimulatedPair

SECOND = 10**9


@pytest.fixture
def pair() -> SimulatedPair:
    pair = SimulatedPair(1, secondary_size=2 << 20)
    pair.start()
    return pair


def resolve(pair: SimulatedPair, text: str) -> Point:
    return pair.run(pair.volume.resolve(text))


def at(wall_ns: int) -> str:
    """A time as people write it, cut to microseconds."""
    seconds, rest = divmod(wall_ns, SECOND)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat()


def write(pair: SimulatedPair, seconds: float = 1.0) -> tuple[int, int]:
    """One write, then time passes; its number, and the time just after it."""
    number = pair.write(0, pair.random.randbytes(4096))
    wall = pair.world.clock.wall_ns()
    pair.world.run_for(seconds)
    return number, wall


def test_the_window_grows_with_writes(pair: SimulatedPair) -> None:
    before = pair.volume.window()
    assert before is not None
    assert before.newest_write == before.oldest_write
    number, wall = write(pair)
    window = pair.volume.window()
    assert window is not None
    assert window.oldest_write == before.oldest_write
    assert window.newest_write == number
    assert window.newest_ns <= wall


def test_what_is_still_on_its_way_is_no_point_yet(pair: SimulatedPair) -> None:
    last, _ = write(pair)
    pair.primary.medium.stall()
    answered = pair.begin_write(0, pair.random.randbytes(4096))
    pair.world.run_for(0.2)
    assert pair.volume.write_number == last + 1
    assert pair.volume.maps()[-1].last_write == last + 1, "the journal has it"
    with pytest.raises(PointOutsideWindow):
        resolve(pair, f"write:{last + 1}")
    pair.primary.medium.release()
    pair.world.run_until(answered)
    assert resolve(pair, f"write:{last + 1}").write == last + 1


def test_nothing_can_be_restored_before_the_baseline_s_end() -> None:
    pair = SimulatedPair(1)
    pair.start(until_protected=False)
    assert pair.volume.window() is None
    with pytest.raises(PointOutsideWindow):
        resolve(pair, "write:0")


def test_a_time_means_the_newest_write_at_or_before_it(pair: SimulatedPair) -> None:
    written = [write(pair) for _ in range(5)]
    for number, wall in written:
        assert resolve(pair, at(wall + 1000)).write == number
        assert resolve(pair, at(wall + SECOND // 2)).write == number


def test_a_time_ago(pair: SimulatedPair) -> None:
    first, _ = write(pair, 60)
    second, _ = write(pair, 60)
    assert resolve(pair, "-90s").write == first
    assert resolve(pair, "-1m").write in (first, second)
    assert resolve(pair, "-30s").write == second


def test_a_time_inside_a_closed_map(pair: SimulatedPair) -> None:
    """The marks of a map that left memory are read from its index or its records."""
    written = [write(pair, 0.5) for _ in range(30)]
    assert len(pair.volume.maps()) > 2
    for number, wall in written[::4]:
        assert resolve(pair, at(wall + 1000)).write == number


def test_the_future_is_refused(pair: SimulatedPair) -> None:
    with pytest.raises(BadPoint, match="future"):
        resolve(pair, at(pair.world.clock.wall_ns() + 60 * SECOND))


def test_before_the_window_is_refused(pair: SimulatedPair) -> None:
    write(pair)
    with pytest.raises(PointOutsideWindow):
        resolve(pair, "2001-01-01T00:00:00Z")
    with pytest.raises(PointOutsideWindow):
        resolve(pair, "write:999999")


def test_the_moment_of_the_baseline_is_a_point(pair: SimulatedPair) -> None:
    window = pair.volume.window()
    assert window is not None
    pair.world.run_for(10)
    write(pair)
    point = resolve(pair, at(window.oldest_ns + 5 * SECOND))
    assert point.write == window.oldest_write


def test_snapshots_are_points(pair: SimulatedPair) -> None:
    number, _ = write(pair)
    pair.run(pair.volume.take_snapshot("here"))
    write(pair)
    assert resolve(pair, "snapshot:here").write == number
    with pytest.raises(SnapshotNotFound):
        resolve(pair, "snapshot:there")


def test_a_clock_that_went_back_makes_times_ambiguous(pair: SimulatedPair) -> None:
    first, wall = write(pair, 10)
    write(pair)
    pair.world.clock.step(-60 * SECOND)
    second, _ = write(pair, 120)
    again, _ = write(pair, 10)
    with pytest.raises(PointAmbiguous) as caught:
        resolve(pair, at(wall + SECOND))
    assert caught.value.fields["writes"] == f"{first}, {second}"
    assert resolve(pair, f"write:{first}").write == first
    assert resolve(pair, at(pair.world.clock.wall_ns())).write == again


def test_a_clock_that_went_forward_is_not_ambiguous(pair: SimulatedPair) -> None:
    first, wall = write(pair, 10)
    pair.world.clock.step(3600 * SECOND)
    second, _ = write(pair, 10)
    assert resolve(pair, at(wall + 1800 * SECOND)).write == first
    assert resolve(pair, "-1s").write == second


def test_a_gap_is_refused_and_told(pair: SimulatedPair) -> None:
    write(pair)
    pair.stop()
    pair.start(with_secondary=False)
    lost, _ = write(pair)
    pair.stop()
    pair.start()
    last, _ = write(pair)
    gap = pair.volume.gaps()[-1]
    assert gap.from_write <= lost <= gap.to_write
    with pytest.raises(PointInGap) as caught:
        resolve(pair, f"write:{lost}")
    assert caught.value.fields["reason"] == "the secondary was away"
    assert resolve(pair, f"write:{last}").write == last


def test_points_below_the_floor_are_refused_after_a_fold(pair: SimulatedPair) -> None:
    early, _ = write(pair)
    pair.run(pair.volume.take_snapshot("early"))
    pair.write_at_random(150)
    pair.idle()
    window = pair.volume.window()
    assert window is not None
    assert window.oldest_write > early
    for text in (f"write:{early}", "snapshot:early"):
        with pytest.raises(EbbtideError):
            resolve(pair, text)


def test_maps_tell_their_story_in_order(pair: SimulatedPair) -> None:
    pair.write_at_random(30)
    maps = pair.volume.maps()
    assert [m.id for m in maps] == sorted(m.id for m in maps)
    assert all(m.kind == "host" and m.order == "time" and not m.suspect for m in maps)
    assert maps[-1].last_write == pair.volume.write_number
    assert sum(m.bytes for m in maps)
    assert all(m.closed_ns is None or m.closed_ns >= m.opened_ns for m in maps)
