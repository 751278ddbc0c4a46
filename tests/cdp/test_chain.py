"""The chain: where its floor goes, and what a loss in the middle of it leaves."""

from dataclasses import replace

from appliance.cdp.chain import Chain
from appliance.cdp.delta_map import DeltaMap, MapKind
from appliance.cdp.points import Gap, Snapshot


def a_map(number: int, first: int, last: int) -> DeltaMap:
    delta_map = DeltaMap(
        id=number,
        kind=MapKind.HOST,
        epoch=1,
        first_write=first,
        last_write=last,
        opened=1,
        before_crc=0,
        closed=2,
        records=1,
    )
    delta_map.forget()
    return delta_map


def chain(*maps: tuple[int, int], gaps: tuple[tuple[int, int], ...] = ()) -> Chain:
    return Chain(
        baseline_whole=True,
        maps=[a_map(number, *writes) for number, writes in enumerate(maps, 1)],
        gaps=[Gap(first, last, "away") for first, last in gaps],
    )


def test_a_floor_in_a_gap_moves_behind_it() -> None:
    known = chain((1, 20), (21, 40), gaps=((15, 25),))
    known.raise_floor(20, 7)
    assert (known.floor, known.floor_time, known.gaps) == (26, 7, [])


def test_a_floor_does_not_come_to_rest_on_a_number_that_a_crash_lost() -> None:
    known = chain((1, 20), (101, 120), gaps=((20, 20),))
    known.raise_floor(20, 7)
    assert known.floor == 101


def test_the_snapshots_below_the_floor_are_given_back_oldest_first() -> None:
    known = chain((1, 20))
    for name, write in (("c", 20), ("b", 9), ("a", 3)):
        known.snapshots[name] = Snapshot(name, write, 0, name == "a")
    assert [snapshot.name for snapshot in known.raise_floor(10, 7)] == ["a", "b"]
    assert list(known.snapshots) == ["c"]


def test_a_loss_takes_every_point_from_there_on_and_nothing_before() -> None:
    known = chain((1, 20), (21, 40), (41, 60), gaps=((5, 6), (30, 31), (50, 55)))
    for name, write in (("before", 24), ("behind", 60)):
        known.snapshots[name] = Snapshot(name, write, 0)
    known = replace(known, restoring=(27, 61))
    dropped = known.lose_from(25, 60, 7)
    assert [snapshot.name for snapshot in dropped] == ["behind"]
    assert (known.incomplete_from, known.restoring) == (25, None)
    assert [(gap.from_write, gap.to_write) for gap in known.gaps] == [(5, 6), (25, 59)]
    assert known.newest_restorable == 24


def test_a_second_loss_before_the_first_moves_the_border_down() -> None:
    known = chain((1, 20), (21, 40))
    known.lose_from(25, 40, 7)
    known.lose_from(10, 40, 8)
    assert known.incomplete_from == 10
    known.lose_from(30, 40, 9)
    assert known.incomplete_from == 10
    assert [(gap.from_write, gap.to_write) for gap in known.gaps] == [(10, 39)]


def test_a_gap_that_meets_the_one_before_keeps_its_reason() -> None:
    known = chain((1, 40))
    known.add_gap(Gap(10, 19, "damage", 1))
    known.add_gap(Gap(20, 30, "away", 2))
    assert known.gaps == [Gap(10, 30, "damage", 1)]


def test_before_the_baseline_there_is_no_point_to_lose() -> None:
    known = chain((1, 20))
    known.baseline_whole = False
    assert known.lose_from(5, 20, 7) == []
    assert (known.incomplete_from, known.gaps) == (0, [])
