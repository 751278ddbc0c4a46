"""A record of a closed map goes bad: what it held is a gap, and nothing else is lost.

Which blocks the record had overwritten is not known any more.  Points before
it stay, points behind it are refused, and the newest one is made true again by
comparing everything with the primary, while hosts go on.
"""

from collections.abc import Callable

import pytest
from pytest_mock import MockerFixture

from appliance import events
from appliance.cdp import comparison
from appliance.cdp.delta_map import DeltaMap
from appliance.cdp.format import PAGE
from appliance.cdp.history import History
from appliance.cdp.interfaces import SECTOR
from appliance.cdp.jobs import JobKind
from appliance.cdp.stream import Stream
from appliance.cdp.tasks import Task
from appliance.errors import EbbtideError, PointInGap
from tests.cdp import simulated_pair
from tests.cdp.simulated_pair import SECONDARY_SIZE, SimulatedPair, codes

BLOCK = 4096
MAPS, WRITES = 4, 8


class Scene:
    """A pair with some closed maps, all loaded from the medium: no entries are in memory."""

    def __init__(self, blocks: int = 20, secondary_size: int = SECONDARY_SIZE) -> None:
        """The first `blocks` are written, the others lie in the base image alone."""
        self.pair = pair = SimulatedPair(seed=21, secondary_size=secondary_size)
        pair.start()
        for number in range(MAPS):
            for at in range(WRITES):
                block = (number * 3 + at * 5) % blocks
                pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
            self.history.journal.close_map()
        pair.stop()
        pair.start()

    @property
    def history(self) -> History:
        history = self.pair.volume.history
        assert history is not None
        return history

    def map(self, number: int) -> DeltaMap:
        return [m for m in self.history.chain.maps if m.records >= WRITES][number]

    def record_with(self, write: int) -> tuple[int, int]:
        """Where the header of the record of a write lies on the secondary; and its write before."""
        pair = self.pair
        stream = Stream(pair.secondary, pair.superblock, pair.pool)
        for delta_map in self.history.chain.maps:
            for segment in delta_map.record_segments:
                begin = pair.superblock.segment_offset(segment)
                view = pair.secondary.medium.view[begin : begin + pair.superblock.segment_size]
                page = 1
                while page < pair.superblock.segment_size // PAGE:
                    try:
                        record = stream.record(view, segment, page)
                    except EbbtideError:
                        break
                    own = record.map_id == delta_map.id
                    if own and record.first_write <= write <= record.last_write:
                        return begin + page * PAGE, record.first_write
                    page += 1 + record.payload // PAGE
        pytest.fail(f"no record holds write {write}")

    def lose(self, delta_map: DeltaMap, at: int, damage: "Damage") -> int:
        """Damage the map's index and the record of its `at`-th write, which is returned."""
        for segment in delta_map.index_segments:
            offset = self.pair.superblock.segment_offset(segment)
            self.pair.secondary.medium.contents[offset] ^= 1
        place, write = self.record_with(delta_map.first_write + at)
        damage(self.pair, place)
        return write

    def until_protected(self) -> None:
        pair = self.pair
        pair.world.run_until(
            lambda: pair.volume.protection.value == "protected" and pair.volume.job is None
        )


Damage = Callable[[SimulatedPair, int], None]


def flipped(pair: SimulatedPair, place: int) -> None:
    pair.secondary.medium.contents[place + 70] ^= 4


def unreadable(pair: SimulatedPair, place: int) -> None:
    pair.secondary.medium.bad_sectors.add(place // SECTOR)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("damage", [flipped, unreadable])
@pytest.mark.parametrize("at", [0, 3])
def test_only_what_cannot_be_known_is_lost(scene: Scene, damage: Damage, at: int) -> None:
    pair = scene.pair
    newest = pair.volume.write_number
    lost = scene.lose(scene.map(1), at, damage)

    assert pair.point(f"write:{lost - 1}") == pair.states[lost - 1], "before it nothing is lost"
    with pytest.raises(PointInGap):
        pair.point(f"write:{lost}")

    assert pair.events.count(events.HISTORY_DAMAGED) == 1
    assert pair.volume.state == "syncing"
    written = pair.write(7 * BLOCK, b"w" * BLOCK)
    scene.until_protected()
    assert pair.point(f"write:{pair.volume.maps()[-1].last_write}") == pair.read(pair.volume)
    for write in range(lost, newest):
        with pytest.raises(PointInGap):
            pair.point(f"write:{write}")
    right, _ = pair.hold_against_states()
    assert right >= lost - scene.history.chain.floor
    assert written in pair.states
    assert events.SECONDARY_LOST not in pair.events
    gap = next(gap for gap in pair.volume.gaps() if gap.from_write == lost)
    assert gap.reason == "history was damaged"


def test_it_is_found_at_the_start_and_hosts_are_let_in(scene: Scene) -> None:
    pair = scene.pair
    lost = scene.lose(scene.map(1), 3, flipped)
    pair.kill()

    pair.start()

    assert pair.volume.protection.value == "protected"
    assert pair.point(f"write:{lost - 1}") == pair.states[lost - 1]
    pair.hold_against_states()
    pair.stop()
    pair.start()
    assert pair.events.count(events.HISTORY_DAMAGED) == 1, "it is over"
    assert pair.point(f"write:{lost - 1}") == pair.states[lost - 1]
    pair.stop()
    found, verdict = pair.check()
    assert not verdict.errors, codes(found)


def test_folding_goes_on_and_the_secondary_is_kept(scene: Scene) -> None:
    pair = scene.pair
    lost = scene.lose(scene.map(0), 3, flipped)
    for number in range(2000):
        pair.write((8 + number % 14) * BLOCK, pair.random.randbytes(BLOCK))
        if number % 8 == 0:
            pair.idle(1.1)
        if scene.history.chain.floor > lost + 40:
            break
    else:
        pytest.fail("nothing was folded")
    assert events.HISTORY_DAMAGED in pair.events
    assert events.SECONDARY_LOST not in pair.events
    scene.until_protected()
    pair.write_at_random(8)
    right, _ = pair.hold_against_states()
    assert right == 8


def test_the_snapshots_behind_it_are_given_up_and_named(scene: Scene) -> None:
    pair = scene.pair
    pair.run(pair.volume.take_snapshot("newest"))
    lost = scene.lose(scene.map(1), 3, flipped)
    with pytest.raises(PointInGap):
        pair.point(f"write:{lost}")
    assert pair.events.count(events.SNAPSHOT_DROPPED) == 1
    assert not pair.volume.snapshots()


def test_a_view_behind_the_loss_ends_and_one_before_goes_on(scene: Scene) -> None:
    pair = scene.pair
    delta_map = scene.map(1)
    before = pair.run(
        pair.volume.open_view(pair.run(pair.volume.resolve(f"write:{delta_map.first_write}")))
    )
    behind = pair.run(
        pair.volume.open_view(pair.run(pair.volume.resolve(f"write:{delta_map.last_write}")))
    )
    lost = scene.lose(delta_map, 3, flipped)
    with pytest.raises(PointInGap):
        pair.point(f"write:{lost}")
    assert pair.read(before) == pair.states[delta_map.first_write]
    with pytest.raises(OSError, match="read"):
        pair.read(behind)


def test_an_unreadable_payload_costs_only_the_points_that_need_it(scene: Scene) -> None:
    pair = scene.pair
    delta_map = scene.map(1)
    place, write = scene.record_with(delta_map.first_write + 3)
    for segment in delta_map.index_segments:
        pair.secondary.medium.contents[pair.superblock.segment_offset(segment)] ^= 1
    pair.secondary.medium.bad_sectors.add((place + PAGE) // SECTOR)
    assert pair.point(f"write:{write - 1}") == pair.states[write - 1]
    with pytest.raises(OSError, match="read"):
        pair.point(f"write:{write}")
    assert events.HISTORY_DAMAGED not in pair.events
    assert pair.volume.protection.value == "protected"


def test_a_bad_sector_behind_the_journals_end_keeps_nobody_out(scene: Scene) -> None:
    pair = scene.pair
    pair.write(0, b"a" * BLOCK)
    pair.flush()
    present = scene.history.chain.present
    assert present is not None
    behind = pair.superblock.segment_offset(present.record_segments[-1] + 1) - SECTOR
    pair.kill()
    pair.secondary.medium.bad_sectors.add(behind // SECTOR)
    pair.start()
    assert pair.volume.protection.value == "protected"
    pair.hold_against_states()


def test_a_disk_that_gives_nothing_is_no_damage(scene: Scene) -> None:
    """A cut is for good: a disk in trouble is not taken for a medium that lost a record."""
    pair = scene.pair
    write = scene.map(1).first_write + 3
    pair.secondary.medium.bad_sectors.update(range(pair.secondary.medium.size // SECTOR))
    with pytest.raises(EbbtideError):
        pair.point(f"write:{write}")
    pair.secondary.medium.bad_sectors.clear()
    assert pair.point(f"write:{write}") == pair.states[write]
    assert events.HISTORY_DAMAGED not in pair.events


def test_a_power_cut_at_any_moment_of_it_does_no_harm(scene: Scene) -> None:
    pair = scene.pair
    lost = scene.lose(scene.map(1), 3, flipped)
    images, states = pair.images(), dict(pair.states)
    for steps in range(0, 120, 3):
        pair.put_back(images)
        pair.states = dict(states)
        pair.start(until_protected=False, readable=False)
        for _ in range(steps):
            if not pair.world.step():
                break
        pair.power_cut()
        pair.start()
        newest = pair.volume.maps()[-1].last_write
        assert pair.point(f"write:{newest}") == pair.read(pair.volume), steps
        assert pair.point(f"write:{lost - 1}") == states[lost - 1], steps
        pair.hold_against_states(every=5)


@pytest.mark.parametrize("kind", ["full", "verify"])
def test_a_scan_ends_where_its_history_is_cut_and_gives_way_to_the_resync(
    mocker: MockerFixture, kind: JobKind
) -> None:
    """Also among blocks that the base image has alone: what it would find is worth nothing."""
    mocker.patch.object(comparison, "STEP", BLOCK)
    mocker.patch.object(simulated_pair, "PRIMARY_SIZE", 1 << 20)
    scene = Scene(blocks=3, secondary_size=3 << 20)
    pair = scene.pair
    job = pair.lifecycle.jobs.synchronise(kind)
    pair.world.run_until(lambda: job.bytes_scanned >= 5 * BLOCK)
    scene.lose(scene.map(1), 3, flipped)
    Task(scene.history.rows(scene.map(1)))
    pair.world.run_until(lambda: scene.history.cuts > 0)
    assert not job.finished.finished
    pair.world.run_until(job.finished)
    assert job.result == "failed"
    assert job.bytes_scanned < job.bytes_total
    scene.until_protected()
    assert pair.volume.last_job is not None
    assert pair.volume.last_job.kind == "resync"
    assert pair.point(f"write:{pair.volume.write_number}") == pair.read(pair.volume)
