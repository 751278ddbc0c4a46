"""Which points a difference makes suspect, and what ends that (claims 11 and 23)."""

from typing import Any

import pytest
from pytest_mock import MockerFixture

from appliance import events
from appliance.cdp import full_scan, side_by_side
from appliance.cdp.comparison import Comparison
from appliance.cdp.extents import extents, intersect, one, subtract
from appliance.cdp.interfaces import BLOCK, SECTOR
from appliance.cdp.jobs import Job, JobKind
from appliance.cdp.suspects import Suspects, Suspicion
from appliance.errors import PointSuspect
from tests.behaviours.synchronisation.changed_pair import (
    close_map,
    figures,
    newest,
    spoil,
    start,
    suspects,
    synchronised,
)
from tests.cdp.simulated_pair import SimulatedPair


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([1], [(7, 7)]),  # the last map wrote it
        ([4], [(4, 6), (7, 7)]),
        ([2], [(1, 3), (4, 6), (7, 7)]),
        ([12], [(1, 3), (4, 6), (7, 7)]),  # the base answers: it is suspect, too
    ],
)
def test_the_walk_back_ends_at_the_map_that_wrote_the_block(
    pair: SimulatedPair, blocks: list[int], expected: list[tuple[int, int]]
) -> None:
    """Claims 11 and 23."""
    spoil(pair, blocks)
    synchronised(pair, "verify")
    assert suspects(pair) == expected
    for write in range(pair.volume.write_number + 1):
        point = pair.run(pair.volume.resolve(f"write:{write}"))
        in_doubt = any(first <= write <= last for first, last in expected)
        if in_doubt or (blocks == [12]):
            with pytest.raises(PointSuspect):
                pair.run(pair.lifecycle.jobs.restores.plan(point))
            pair.run(pair.lifecycle.jobs.restores.plan(point, force=True))
        else:
            pair.run(pair.lifecycle.jobs.restores.plan(point))
            assert pair.point(point.text) == pair.states[write]


def test_a_suspicion_ends_with_the_map_that_writes_the_block_again(pair: SimulatedPair) -> None:
    spoil(pair, [4])
    synchronised(pair, "verify")
    rewritten = pair.write(4 * BLOCK, pair.random.randbytes(BLOCK))
    close_map(pair)
    later = pair.write(9 * BLOCK, pair.random.randbytes(BLOCK))
    assert figures(synchronised(pair, "verify")) == (0, 0)
    assert suspects(pair) == [(4, 6), (7, 7), (rewritten, rewritten)]
    pair.run(pair.lifecycle.jobs.restores.plan(pair.run(pair.volume.resolve(f"write:{later}"))))


def test_what_is_written_once_more_is_as_right_as_before(pair: SimulatedPair) -> None:
    """A suspicion ends with the first map that writes the block again, not with the last."""
    spoil(pair, [4])
    synchronised(pair, "verify")
    rewritten = pair.write(4 * BLOCK, pair.random.randbytes(BLOCK))
    close_map(pair)
    pair.write(4 * BLOCK, pair.random.randbytes(BLOCK))
    close_map(pair)
    synchronised(pair, "verify")
    assert suspects(pair) == [(4, 6), (7, 7), (rewritten, rewritten)]


@pytest.mark.parametrize("kind", ["full", "verify"])
def test_what_the_dirty_region_log_explains_makes_no_map_suspect(
    pair: SimulatedPair, kind: JobKind
) -> None:
    """It has differed since a moment that is known, and a resync will come for it."""
    job = start(pair, kind)
    pair.world.run_until(lambda: job.bytes_scanned > 0)
    pair.run(pair.volume.doubt(extents([20 * 8], [21 * 8])))
    spoil(pair, [20])
    pair.world.run_until(job.finished)
    assert job.bytes_different == BLOCK, "it was found, all the same"
    assert not suspects(pair)
    assert not pair.volume.require_history().chain.suspects


def test_a_host_that_writes_as_a_scan_ends_does_not_make_its_past_right(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    """Behind the write that the scan is as of: that the block differs no more tells nothing."""
    spoil(pair, [12])
    synchronised(pair, "verify")
    last = newest(pair)
    begin = Comparison.begin
    begun: list[Comparison] = []

    async def begin_and_write(*about: Any) -> Comparison:
        begun.append(await begin(*about))
        if len(begun) == 2:  # the one that watches from the last revision on
            await pair.begin_write(12 * BLOCK, pair.random.randbytes(BLOCK))
        return begun[-1]

    mocker.patch.object(Comparison, "begin", begin_and_write)
    synchronised(pair, "verify")
    assert len(begun) == 2
    with pytest.raises(PointSuspect):
        pair.volume.require_history().chain.check_trusted(last, "the last one before it")


def test_only_neighbours_share_a_row_where_there_are_too_many() -> None:
    starts = [near + 16 * number for near in (0, 1 << 20) for number in range(40)]
    blocks = extents(starts, [start + 8 for start in starts])
    found = Suspects().plus(Suspicion(blocks, 1, 9, 9)).limited(20)
    assert len(found) <= 20
    [suspicion] = found.suspicions()
    assert not subtract(blocks, suspicion.blocks)
    assert not intersect(suspicion.blocks, one(1 << 11, 1 << 20)), "what lies far is not suspect"


def test_what_a_later_scan_finds_right_untouched_is_cleared(pair: SimulatedPair) -> None:
    """A cable, not a disk: the block reads right again, and nobody has written it since."""
    spoil(pair, [4, 12])
    synchronised(pair, "verify")
    spoil(pair, [4])  # twice is right again
    assert figures(synchronised(pair, "verify")) == (BLOCK, 0)
    spoil(pair, [12])
    assert figures(synchronised(pair, "verify")) == (0, 0)
    assert not suspects(pair)
    assert not pair.volume.alerts()


@pytest.mark.parametrize("end", ["kill", "power_cut"])
def test_a_copy_that_two_lives_have_made_ends_every_suspicion(
    pair: SimulatedPair, end: str
) -> None:
    """Even if the first of them has copied everything, but not said so."""
    spoil(pair, [2, 5, 12])
    before = pair.volume.write_number
    job = start(pair, "full")
    pair.world.run_until(lambda: job.bytes_copied == 3 * BLOCK)
    assert job.result is None
    getattr(pair, end)()
    pair.start()
    last = pair.volume.last_job
    assert last is not None
    assert (last.kind, last.result) == ("full", "done")
    assert figures(last) == (3 * BLOCK, 3 * BLOCK)
    assert pair.volume.history is not None
    assert not pair.volume.history.chain.suspects.open
    assert suspects(pair) == [(1, 3), (4, 6), (7, 7)]
    [gap] = pair.volume.gaps()[:1]
    assert (gap.from_write, gap.to_write) == (before + 1, newest(pair) - 1)
    point = pair.run(pair.volume.resolve(f"write:{newest(pair)}"))
    pair.run(pair.lifecycle.jobs.restores.plan(point))


def test_a_copy_ends_suspicion_where_no_host_has_ever_written() -> None:
    """Its first write is the first of all: the last suspect one is write 0."""
    pair = SimulatedPair(5, secondary_size=2 << 20)
    size = pair.superblock.volume_size
    pair.primary.medium.view[:size] = pair.random.randbytes(size)
    pair.start()
    spoil(pair, [2, 5])
    assert figures(synchronised(pair, "full")) == (2 * BLOCK, 2 * BLOCK)
    history = pair.volume.history
    assert history is not None
    assert not history.chain.suspects.open
    with pytest.raises(PointSuspect):
        history.chain.check_trusted(0, "write:0")
    history.chain.check_trusted(newest(pair), "the newest")


def test_what_a_scan_could_not_compare_stays_suspect(pair: SimulatedPair) -> None:
    """Neither a bad sector of the primary nor the dirty region log makes the secondary right."""
    spoil(pair, [4, 12])
    synchronised(pair, "verify")
    history = pair.volume.history
    assert history is not None
    before = history.chain.suspects.open.starts.tolist()
    pair.primary.medium.bad_sectors.add(12 * BLOCK // SECTOR)
    job = start(pair, "verify")
    pair.world.run_until(lambda: job.bytes_scanned > 0)
    pair.run(pair.volume.doubt(extents([4 * 8], [5 * 8])))
    pair.world.run_until(job.finished)
    assert job.result == "failed"
    assert history.chain.suspects.open.starts.tolist() == before
    assert suspects(pair) == [(1, 3), (4, 6), (7, 7)]


@pytest.mark.parametrize("steps", range(8, 24))
def test_a_host_that_writes_over_a_suspect_block_does_not_make_its_past_right(
    pair: SimulatedPair, steps: int
) -> None:
    """Whenever in the scan it does: the secondary is as wrong as ever for the points before."""
    spoil(pair, [4, 12])
    synchronised(pair, "verify")
    job = start(pair, "verify")
    pair.world.run_until(lambda: job.bytes_scanned >= 18 * BLOCK)
    for _ in range(steps):
        pair.world.step()
    number = pair.write(12 * BLOCK, pair.random.randbytes(BLOCK))
    pair.world.run_until(job.finished)
    synchronised(pair, "verify")
    chain = pair.volume.require_history().chain
    for write in (0, number - 1):
        with pytest.raises(PointSuspect):
            chain.check_trusted(write, f"write:{write}")
    suspect = {row["start"] for row in chain.suspects.rows if row["from_write"] == 0}
    assert 12 * 8 in suspect


def assert_doubted(pair: SimulatedPair, write: int) -> None:
    """The point is refused, for it would put back what is wrong."""
    point = pair.run(pair.volume.resolve(f"write:{write}"))
    assert pair.point(point.text) != pair.states[write]
    with pytest.raises(PointSuspect):
        pair.run(pair.lifecycle.jobs.restores.plan(point))


def test_a_full_scan_says_nothing_of_what_it_could_not_compare(pair: SimulatedPair) -> None:
    """Or its bad sector would be answered, and put back, with what the secondary has wrong."""
    spoil(pair, [5, 12])
    synchronised(pair, "verify")
    pair.primary.medium.bad_sectors.add(12 * BLOCK // SECTOR)
    job = start(pair, "full")
    pair.world.run_until(job.finished)
    assert job.result == "failed"
    assert figures(job) == (BLOCK, BLOCK)
    chain = pair.volume.require_history().chain
    assert chain.suspects.open.starts.tolist() == [12 * 8]
    with pytest.raises(OSError, match="5"):
        pair.read(pair.volume, 12 * BLOCK, BLOCK)


@pytest.mark.parametrize("kind", ["verify", "full"])
@pytest.mark.parametrize("end", ["kill", "stop", "power_cut"])
def test_a_life_that_could_not_compare_a_block_does_not_leave_it_to_the_next_as_equal(
    pair: SimulatedPair, kind: JobKind, end: str
) -> None:
    spoil(pair, [12])
    synchronised(pair, "verify")
    pair.primary.medium.bad_sectors.add(12 * BLOCK // SECTOR)
    job = start(pair, kind)
    pair.world.run_until(lambda: job.bytes_scanned >= 18 * BLOCK)
    getattr(pair, end)()
    pair.start(readable=False)
    pair.idle()
    last = pair.volume.last_job
    assert last is not None
    assert (last.kind, last.result) == (kind, "failed")
    assert "cannot be read" in str(last.error)
    assert pair.volume.require_history().chain.suspects.open.starts.tolist() == [12 * 8]
    assert_doubted(pair, 0)


def found_early(pair: SimulatedPair, mocker: MockerFixture, block: int) -> Job:
    """A verify that has confirmed that the block differs, and has most of the volume to go."""
    mocker.patch.object(full_scan, "GATHERED", 0)
    spoil(pair, [block])
    job = start(pair, "verify")
    pair.world.run_until(lambda: job.bytes_different == BLOCK and job.phase == "scanning")
    return job


def test_who_writes_over_what_was_found_does_not_make_its_past_right(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    before = pair.volume.write_number
    job = found_early(pair, mocker, 8)
    number = pair.write(8 * BLOCK, pair.random.randbytes(BLOCK))
    close_map(pair)
    later = pair.write(9 * BLOCK, pair.random.randbytes(BLOCK))
    pair.world.run_until(job.finished)
    assert figures(job) == (BLOCK, 0)
    assert_doubted(pair, 0)
    assert_doubted(pair, before)
    assert suspects(pair) == [(1, 3), (4, 6), (7, 7), (number, number)]
    pair.run(pair.lifecycle.jobs.restores.plan(pair.run(pair.volume.resolve(f"write:{later}"))))


@pytest.mark.parametrize("phase", ["scanning", "revising"])
def test_what_was_found_counts_although_the_scan_is_cancelled(
    pair: SimulatedPair, mocker: MockerFixture, phase: str
) -> None:
    if phase == "scanning":
        job = found_early(pair, mocker, 8)
    else:
        spoil(pair, [8, 10, 12, 14, 16])
        job = start(pair, "verify")
        pair.world.run_until(lambda: job.bytes_different == BLOCK)
    assert job.phase == phase
    job.cancel()
    pair.world.run_until(job.finished)
    assert job.result == "cancelled"
    assert_doubted(pair, 0)
    assert [code for code, _ in pair.volume.alerts()] == [events.SUSPECTS]
    assert events.DIFFERENCES in pair.events
    pair.power_cut()
    pair.start()
    assert_doubted(pair, 0)


@pytest.mark.parametrize("late", range(8))
def test_what_was_found_counts_whenever_the_scan_is_cancelled_behind_that(
    pair: SimulatedPair, late: int
) -> None:
    """Also while it looks into the chain for what that makes suspect."""
    pair.stop()
    pair.start()  # its maps' entries are on the disk alone
    spoil(pair, [8])
    job = start(pair, "verify")
    pair.world.run_until(lambda: job.bytes_different == BLOCK)
    for _ in range(late):
        pair.world.step()
    job.cancel()
    job.interrupt()  # the service stops, too
    pair.world.run_until(job.finished)
    assert job.result == "cancelled"
    assert_doubted(pair, 0)


def test_what_was_found_counts_although_the_secondary_is_given_up(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    """A disk that dies is the best reason to doubt it."""
    mocker.patch.object(side_by_side, "MOST_UNREADABLE", 2 * BLOCK)
    at = (pair.superblock.base_offset + 18 * BLOCK) // SECTOR
    pair.secondary.medium.bad_sectors.update(range(at, at + 4 * 8))
    job = found_early(pair, mocker, 8)
    pair.world.run_until(job.finished)
    assert job.result == "failed"
    assert events.DIFFERENCES in pair.events
    pair.secondary.medium.bad_sectors.clear()
    pair.run(pair.lifecycle.attach(pair.secondary))
    pair.idle()
    assert_doubted(pair, 0)


def test_what_differs_is_looked_at_again_before_long(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    """And not when the scan of a large volume ends: hosts write over it meanwhile."""
    mocker.patch.object(full_scan, "TURN_NS", 0)
    spoil(pair, [1])
    job = start(pair, "verify")
    pair.world.run_until(lambda: job.bytes_different == BLOCK)
    assert job.bytes_scanned < pair.volume.size / 2


@pytest.mark.parametrize("end", ["stop", "kill", "power_cut"])
def test_what_could_be_read_only_behind_a_restart_is_in_doubt_before_it_is_copied(
    pair: SimulatedPair, end: str
) -> None:
    """What is equal afterwards says nothing any more of what it was."""
    spoil(pair, [5, 12])
    pair.primary.medium.bad_sectors.add(12 * BLOCK // SECTOR)
    job = start(pair, "full")
    pair.world.run_until(lambda: job.bytes_copied == BLOCK)
    assert job.result is None
    assert pair.volume.require_history().chain.suspects.open.starts.tolist() == [5 * 8]
    getattr(pair, end)()
    pair.primary.medium.bad_sectors.clear()
    pair.start()
    last = pair.volume.last_job
    assert last is not None
    assert (last.kind, last.result) == ("full", "done")
    assert figures(last) == (2 * BLOCK, 2 * BLOCK)
    assert pair.point(f"write:{newest(pair)}") == pair.read(pair.volume)
    assert {5 * 8, 12 * 8} == set(pair.volume.require_history().chain.suspects.rows["start"])
    assert_doubted(pair, 0)


@pytest.mark.parametrize("kind", ["verify", "full"])
def test_what_comes_to_be_out_of_sync_later_does_not_explain_what_was_found(
    pair: SimulatedPair, kind: JobKind
) -> None:
    spoil(pair, [8, 14])
    job = start(pair, kind)
    pair.world.run_until(lambda: job.bytes_different == BLOCK)
    pair.lifecycle.losses.primary_failed(OSError(5, "a write beside it failed"), 9 * BLOCK, BLOCK)
    pair.world.run_until(job.finished)
    pair.idle()
    assert pair.volume.state == "protected"
    assert {8 * 8, 14 * 8} <= set(pair.volume.require_history().chain.suspects.rows["start"])
    assert_doubted(pair, 0)


def test_a_scan_gives_a_bad_disk_up_though_it_revises_in_between(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    """Each bad sector may take seconds: what a disk does not give is counted to the end."""
    mocker.patch.object(full_scan, "TURN_NS", 0)
    mocker.patch.object(side_by_side, "MOST_UNREADABLE", 6 * BLOCK)
    base = pair.superblock.base_offset // SECTOR
    for block in range(3, 23, 2):
        pair.secondary.medium.bad_sectors.add(base + block * 8)
    job = start(pair, "verify")
    pair.world.run_until(job.finished)
    assert job.result == "failed"
    assert "in one scan" in str(job.error)
