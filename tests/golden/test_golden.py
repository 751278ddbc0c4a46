"""Images that an earlier release wrote: today's engine reads them, every point of them."""

import pytest

from appliance.cdp.check.check import Check
from appliance.cdp.check.findings import Finding
from appliance.cdp.tasks import Task
from appliance.errors import EbbtideError
from tests.cdp.simulated_pair import SimulatedPair, codes
from tests.golden.making import PLACE, SECONDARY_SIZE, SECTORS, Golden, digest, make


def opened(name: str) -> tuple[SimulatedPair, Golden]:
    golden = Golden.load(name)
    primary_block, secondary_block = SECTORS[name]
    pair = SimulatedPair(
        2,
        primary_block=primary_block,
        secondary_block=secondary_block,
        secondary_size=SECONDARY_SIZE,
    )
    pair.put_back((golden.primary, golden.secondary))
    return pair, golden


@pytest.mark.parametrize("name", SECTORS)
def test_check_finds_nothing_wrong(name: str) -> None:
    pair, _ = opened(name)
    found: list[Finding] = []
    check = Check([pair.secondary, pair.primary], pair.pool, found.append)
    verdict = pair.world.run_until(Task(check.run()))
    assert not codes(found)
    assert {"EC204", "EC409"} <= {finding.code for finding in found}, "it ended in a crash"
    assert verdict.errors == 0


@pytest.mark.parametrize("name", SECTORS)
def test_every_point_is_exact(name: str) -> None:
    pair, golden = opened(name)
    pair.start()
    assert pair.volume.name == "finance"
    assert digest(pair.read(pair.volume)) == golden.contents
    pair.idle()  # starting may fold a little, to have room
    window = pair.volume.window()
    assert window is not None
    inside = [number for number in golden.points if number >= window.oldest_write]
    assert len(inside) > 60
    for number in inside:
        assert digest(pair.point(f"write:{number}")) == golden.points[number], f"write {number}"
    assert {s.name: s.write for s in pair.volume.snapshots()} == golden.snapshots
    for snapshot, number in golden.snapshots.items():
        assert digest(pair.point(f"snapshot:{snapshot}")) == golden.points[number]


@pytest.mark.parametrize("name", SECTORS)
def test_points_before_the_floor_and_in_the_gap_are_refused(name: str) -> None:
    pair, golden = opened(name)
    pair.start()
    gaps = [gap for gap in pair.volume.gaps() if gap.reason == "the secondary was away"]
    assert gaps
    for number in (1, gaps[0].from_write):
        with pytest.raises(EbbtideError):
            pair.point(f"write:{number}")
        assert number not in golden.points


def test_making_them_is_deterministic() -> None:
    assert make("mixed") == make("mixed")


def test_they_are_small() -> None:
    assert sum(file.stat().st_size for file in PLACE.iterdir()) < 100 << 10
