"""Synchronisation as claimed: what was changed behind our back is found, told and mended."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from pytest_mock import MockerFixture

from appliance import events
from appliance.cdp import comparison, full_scan, side_by_side, synchronise
from appliance.cdp.changes import Changes
from appliance.cdp.delta_map import MapKind
from appliance.cdp.extents import EMPTY, Extents, byte_ranges, extents, subtract, union
from appliance.cdp.full_scan import FullScan
from appliance.cdp.interfaces import BLOCK, SECTOR
from appliance.cdp.jobs import Job, JobKind
from appliance.cdp.pit_map import PitMap
from appliance.cdp.policies import MIB, Throttle
from appliance.cdp.tasks import Completion
from appliance.errors import PointInGap, PointSuspect
from tests.cdp.simulated_pair import SimulatedPair, codes

BLOCKS = 23
"""Of the small volume."""


@pytest.fixture(autouse=True)
def in_small_steps(mocker: MockerFixture) -> None:
    """So that a small volume takes many."""
    mocker.patch.object(comparison, "STEP", 2 * BLOCK)
    mocker.patch.object(comparison, "WINDOW", 2 * BLOCK)
    mocker.patch.object(side_by_side, "LONG", 2 * BLOCK)
    mocker.patch.object(synchronise, "STEP", 2 * BLOCK)
    mocker.patch.object(full_scan, "CHUNK", 4 * BLOCK)
    mocker.patch.object(full_scan, "SAVE_NS", 0)


@pytest.fixture
def pair() -> SimulatedPair:
    """Three closed maps over a full base: blocks 1–3, then 4–6, then 1 again."""
    pair = SimulatedPair(5, secondary_size=2 << 20)
    size = pair.superblock.volume_size
    pair.primary.medium.view[:size] = pair.random.randbytes(size)
    pair.start()
    for blocks in ((1, 2, 3), (4, 5, 6), (1,)):
        close_map(pair)
        for block in blocks:
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
    close_map(pair)
    pair.idle()  # a checkpoint names them now: recovery does not read their payload again
    return pair


def newest(pair: SimulatedPair) -> int:
    """The newest point."""
    window = pair.volume.window()
    assert window is not None
    return window.newest_write


def close_map(pair: SimulatedPair) -> None:
    assert pair.volume.history is not None
    pair.volume.history.journal.close_map()


def spoil(pair: SimulatedPair, blocks: Sequence[int]) -> None:
    """Change what the secondary would answer for these blocks now, behind the appliance's back."""
    history = pair.volume.history
    assert history is not None
    pit_map = pair.run(history.pit_map(history.chain.newest_write))
    for block in blocks:
        for piece in pit_map.pieces(block * 8, block * 8 + 8):
            if piece.entry is None:
                at = pair.superblock.base_offset + piece.start * SECTOR
            else:
                at = (piece.entry.location + piece.start - piece.entry.start) * SECTOR
            view = pair.secondary.medium.view[at : at + (piece.end - piece.start) * SECTOR]
            view[:] = bytes(byte ^ 0xFF for byte in view)


def start(pair: SimulatedPair, kind: JobKind) -> Job:
    return pair.lifecycle.jobs.synchronise(kind)


def synchronised(pair: SimulatedPair, kind: JobKind) -> Job:
    job = start(pair, kind)
    pair.world.run_until(job.finished)
    assert job.result == "done", job.error
    return job


def suspects(pair: SimulatedPair) -> list[tuple[int, int]]:
    """First and last writes of the maps that the timeline calls suspect."""
    return [(m.first_write, m.last_write) for m in pair.volume.maps() if m.suspect]


def figures(job: Job) -> tuple[int, int]:
    return job.bytes_different, job.bytes_copied


def test_verify_of_equal_disks_finds_nothing_and_writes_nothing(pair: SimulatedPair) -> None:
    number = pair.volume.write_number
    job = synchronised(pair, "verify")
    assert figures(job) == (0, 0)
    assert job.bytes_scanned == job.bytes_total == pair.volume.size
    assert pair.volume.write_number == number
    assert not suspects(pair)
    assert not pair.volume.alerts()


def test_verify_tells_exactly_what_differs_and_changes_nothing(pair: SimulatedPair) -> None:
    spoil(pair, [2, 5, 12])
    number = pair.volume.write_number
    assert figures(synchronised(pair, "verify")) == (3 * BLOCK, 0)
    assert pair.volume.write_number == number
    assert events.DIFFERENCES in pair.events
    assert [code for code, _ in pair.volume.alerts()] == [events.SUSPECTS]
    assert figures(synchronised(pair, "verify")) == (3 * BLOCK, 0)


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


def test_full_copies_exactly_what_differs_and_the_newest_point_is_right(
    pair: SimulatedPair,
) -> None:
    spoil(pair, [2, 5, 6, 12])
    before = pair.volume.write_number
    assert figures(synchronised(pair, "full")) == (4 * BLOCK, 4 * BLOCK)
    after = pair.volume.write_number
    assert pair.point(f"write:{after}") == pair.read(pair.volume)
    fix_up = pair.volume.maps()[-1]
    assert (fix_up.kind, fix_up.first_write, fix_up.last_write) == ("fix_up", before + 1, after)
    assert not fix_up.suspect
    assert suspects(pair) == [(1, 3), (4, 6), (7, 7)]
    with pytest.raises(PointInGap):
        pair.run(pair.volume.resolve(f"write:{before + 1}"))
    pair.write(0, pair.random.randbytes(BLOCK))
    assert figures(synchronised(pair, "verify")) == (0, 0)
    assert suspects(pair) == [(1, 3), (4, 6), (7, 7)], "what was repaired is never cleared"
    pair.stop()
    assert codes(pair.check()[0]) == {"EC403"}, "the spoiled payload of older maps, and no more"
    pair.start()
    assert suspects(pair) == [(1, 3), (4, 6), (7, 7)]


def test_a_suspicion_ends_with_the_map_that_writes_the_block_again(pair: SimulatedPair) -> None:
    spoil(pair, [4])
    synchronised(pair, "verify")
    rewritten = pair.write(4 * BLOCK, pair.random.randbytes(BLOCK))
    close_map(pair)
    later = pair.write(9 * BLOCK, pair.random.randbytes(BLOCK))
    assert figures(synchronised(pair, "verify")) == (0, 0)
    assert suspects(pair) == [(4, 6), (7, 7), (rewritten, rewritten)]
    pair.run(pair.lifecycle.jobs.restores.plan(pair.run(pair.volume.resolve(f"write:{later}"))))


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


@pytest.mark.parametrize("step", range(20, 60, 8))
def test_a_checkpoint_of_somebody_elses_loses_nothing_that_a_scan_has_found(
    pair: SimulatedPair, step: int, mocker: MockerFixture
) -> None:
    """Long before its own is due: what lies before its cursor is not looked at again."""
    mocker.patch.object(full_scan, "SAVE_NS", 3600 * 10**9)
    spoil(pair, [2, 5, 6, 12, 20])
    job = start(pair, "verify")
    for _ in range(step):
        pair.world.step()
    assert job.result is None
    assert pair.volume.history is not None
    pair.run(pair.volume.history.checkpoint())
    pair.stop()

    pair.start(until_protected=False)

    going_on = pair.volume.job
    assert going_on is not None
    pair.world.run_until(going_on.finished)
    assert figures(going_on) == (5 * BLOCK, 0)


@pytest.mark.parametrize("kind", ["full", "verify"])
@pytest.mark.parametrize("end", ["kill", "power_cut"])
@pytest.mark.parametrize("step", [*range(2, 60, 6), 23])
def test_a_scan_goes_on_where_a_crash_stopped_it(
    pair: SimulatedPair, kind: JobKind, end: str, step: int
) -> None:
    spoil(pair, [2, 5, 6, 12, 20])
    job = start(pair, kind)
    for _ in range(step * 4):
        if job.finished.finished:
            break
        pair.world.step()
    ended, cursor = job.result, job.bytes_scanned
    getattr(pair, end)()
    pair.start(until_protected=False)
    going_on = pair.volume.job
    if ended is None and job.bytes_done == job.bytes_total > 0 and going_on is None:
        pass  # the crash came between the note of its end and its end
    elif ended is None and cursor:
        assert going_on is not None
        assert going_on.kind == kind
        # All that were under way at the end, and the one whose note was not durable yet.
        assert going_on.bytes_scanned >= cursor - (comparison.AHEAD + 1) * comparison.STEP
        pair.world.run_until(going_on.finished)
        copied = 5 * BLOCK if kind == "full" else 0
        assert figures(going_on) == (5 * BLOCK, copied)
        assert going_on.result == "done"
    elif ended is None:  # the crash came before the scan was noted
        pair.idle()
        synchronised(pair, kind)
    assert pair.volume.job is None
    expected = [(1, 3), (4, 6), (7, 7)]
    assert suspects(pair)[:3] == expected
    if kind == "full":
        assert pair.point(f"write:{newest(pair)}") == pair.read(pair.volume)
        pair.run(
            pair.lifecycle.jobs.restores.plan(
                pair.run(pair.volume.resolve(f"write:{newest(pair)}"))
            )
        )
        assert figures(synchronised(pair, "verify")) == (0, 0)


def test_a_held_scan_stays_held_over_a_restart(pair: SimulatedPair) -> None:
    job = start(pair, "verify")
    job.pause()
    pair.idle()
    pair.stop()
    pair.start(until_protected=False)
    held = pair.volume.job
    assert held is not None
    pair.idle()
    assert held.paused
    assert held.result is None
    held.go_on()
    pair.world.run_until(held.finished)
    assert held.result == "done"


def test_a_cancelled_scan_is_over_for_good(pair: SimulatedPair) -> None:
    job = start(pair, "full")
    job.cancel()
    pair.world.run_until(job.finished)
    assert job.result == "cancelled"
    pair.idle()
    pair.stop()
    pair.start()
    assert pair.volume.job is None


def test_after_a_cancelled_copy_hosts_write_maps_of_their_own(pair: SimulatedPair) -> None:
    spoil(pair, [2, 5, 12, 20])
    job = start(pair, "full")
    pair.world.run_until(lambda: job.bytes_copied > 0)
    job.cancel()
    pair.world.run_until(job.finished)
    assert job.result == "cancelled"
    pair.write(0, pair.random.randbytes(BLOCK))
    assert pair.volume.maps()[-1].kind == "host"
    assert pair.volume.maps()[-2].kind == "fix_up"
    assert suspects(pair)[-1][1] == newest(pair), "what was copied by half is trusted by nobody"
    assert figures(synchronised(pair, "full"))[0] < 4 * BLOCK
    point = pair.run(pair.volume.resolve(f"write:{newest(pair)}"))
    pair.run(pair.lifecycle.jobs.restores.plan(point))
    assert pair.point(point.text) == pair.read(pair.volume)


def test_no_false_alarm_under_writes_that_hit_what_is_compared(pair: SimulatedPair) -> None:
    """Whole and half blocks, in front of the scan, behind it and right under it."""
    spoil(pair, [20])
    for _ in range(8):
        job = start(pair, "verify")
        while job.result is None:
            block = pair.random.randrange(19)
            offset = block * BLOCK + pair.random.choice([0, 0, 3]) * SECTOR
            pair.write(
                offset, pair.random.randbytes(pair.random.choice([SECTOR, BLOCK, 2 * BLOCK]))
            )
        assert figures(job) == (BLOCK, 0)


def test_writes_during_a_full_scan_win(pair: SimulatedPair) -> None:
    spoil(pair, [2, 5, 12, 20])
    job = start(pair, "full")
    while job.result is None:
        block = pair.random.choice([2, 5, 9, 12, 20])
        pair.write(block * BLOCK + SECTOR, pair.random.randbytes(SECTOR))
    assert job.result == "done"
    assert pair.point(f"write:{newest(pair)}") == pair.read(pair.volume)
    assert figures(synchronised(pair, "verify")) == (0, 0)
    gaps = pair.volume.gaps()
    looked_at = 0
    for number, state in pair.states.items():
        if any(gap.from_write <= number <= gap.to_write for gap in gaps):
            continue
        inside = [m for m in pair.volume.maps() if m.first_write <= number <= m.last_write]
        if not any(m.suspect for m in inside) and number:
            assert pair.point(f"write:{number}") == state
            looked_at += 1
    assert looked_at


def test_a_bad_sector_of_the_secondary_differs_and_is_mended(pair: SimulatedPair) -> None:
    at = (pair.superblock.base_offset + 12 * BLOCK) // SECTOR
    pair.secondary.medium.bad_sectors.add(at + 3)
    assert figures(synchronised(pair, "verify")) == (BLOCK, 0)
    assert figures(synchronised(pair, "full")) == (BLOCK, BLOCK)
    assert pair.point(f"write:{newest(pair)}") == pair.read(pair.volume)


def test_a_bad_sector_of_the_primary_is_no_difference(pair: SimulatedPair) -> None:
    pair.primary.medium.bad_sectors.add(12 * BLOCK // SECTOR)
    job = start(pair, "verify")
    pair.world.run_until(job.finished)
    assert job.result == "failed"
    assert "cannot be read" in str(job.error)
    assert job.bytes_different == 0
    assert job.bytes_scanned == pair.volume.size


def test_the_fix_up_map_holds_the_copies_and_the_hosts_changes(pair: SimulatedPair) -> None:
    """Claim 10, as the chain has it on disk."""
    spoil(pair, [2, 5])
    synchronised(pair, "full")
    history = pair.volume.history
    assert history is not None
    fix_up = history.chain.all_maps[-1]
    assert fix_up.kind is MapKind.FIX_UP
    rows = pair.run(history.rows(fix_up))
    assert sorted(rows["start"].tolist()) == [16, 40]


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


def test_a_scan_that_is_cancelled_while_it_looks_at_the_hosts_watches_no_longer(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    looks: list[Changes] = []

    async def never_the_second_time(changes: Changes) -> Extents:
        looks.append(changes)
        if len(looks) == 2:
            await Completion[None]()
        return EMPTY

    mocker.patch.object(Changes, "all", never_the_second_time)
    job = start(pair, "verify")
    pair.world.run_until(lambda: len(looks) == 2)
    job.cancel()
    pair.world.run_until(job.finished)
    assert pair.volume.history is not None
    assert not pair.volume.history.journal.watched


@pytest.mark.parametrize("kind", ["full", "verify", "resync"])
@pytest.mark.parametrize("busy", [False, True])
def test_progress_is_honest_while_the_work_grows(
    pair: SimulatedPair, kind: JobKind, busy: bool
) -> None:
    """It only grows, is never more than all, and in the end it is all."""
    spoil(pair, [2, 5, 6, 12, 20])
    if kind == "resync":
        pair.run(pair.volume.log.set_out_of_sync([0, 1, 4]))
    job = start(pair, kind)
    done = total = 0
    while job.result is None:
        assert done <= job.bytes_done <= job.bytes_total or not job.bytes_total
        assert total <= job.bytes_total
        assert (job.eta_seconds() or 0) >= 0
        done, total = job.bytes_done, job.bytes_total
        if busy:
            pair.write(pair.random.choice([2, 9, 20]) * BLOCK, pair.random.randbytes(SECTOR))
        pair.world.step()
    assert job.result == "done"
    assert job.bytes_total == job.bytes_done or busy
    assert job.bytes_total >= job.bytes_different


def test_the_throttle_and_what_it_holds_survive_a_restart(pair: SimulatedPair) -> None:
    slow = Throttle(1, 1)
    policies = replace(pair.lifecycle.volume.require_history().policies, throttle=slow)
    pair.run(pair.lifecycle.set_policies(policies))
    pair.power_cut()
    pair.start()
    history = pair.volume.require_history()
    assert history.policies.throttle == slow
    began = pair.world.clock.monotonic_ns()
    synchronised(pair, "verify")
    seconds = (pair.world.clock.monotonic_ns() - began) / 1e9
    assert seconds >= 0.9 * pair.volume.size / MIB - 2 * comparison.STEP / MIB
    history.policies = replace(policies, throttle=Throttle(16, 0))
    began = pair.world.clock.monotonic_ns()
    synchronised(pair, "verify")
    assert (pair.world.clock.monotonic_ns() - began) / 1e9 < seconds / 5


def test_the_maps_of_a_synchronisation_by_name(pair: SimulatedPair, mocker: MockerFixture) -> None:
    """Claim 10: fix-up is revised compare and host change, merged, and the host's data wins."""
    scans: list[FullScan] = []
    run = FullScan.run

    async def noted(scan: FullScan) -> None:
        scans.append(scan)
        await run(scan)

    mocker.patch.object(FullScan, "run", noted)
    spoil(pair, [2, 5, 6, 12, 20])
    written: dict[int, tuple[int, int]] = {}
    job = start(pair, "full")
    while job.result is None:
        if job.phase == "copying" and job.bytes_copied < 4 * BLOCK:
            block = pair.random.choice([2, 6, 9, 12, 20])
            offset = block * BLOCK + pair.random.randrange(7) * SECTOR
            length = pair.random.choice([1, 2]) * SECTOR
            written[pair.write(offset, pair.random.randbytes(length))] = (offset, length)
        pair.world.step()
    [scan] = scans
    revised, host_change = scan.revised, scan.host_change
    assert host_change is not None
    history = pair.volume.require_history()
    fix_ups = [m for m in history.chain.maps if m.kind is MapKind.FIX_UP]
    rows = [pair.run(history.rows(m)) for m in fix_ups]
    fix_up = PitMap(fix_ups[-1].last_write, rows)
    ranges = [written[number] for number in written if number >= fix_ups[0].first_write]
    hosts = extents(
        [offset // SECTOR for offset, _ in ranges],
        [(offset + length) // SECTOR for offset, length in ranges],
    )
    assert subtract(hosts, revised), "hosts wrote elsewhere, too"
    covered = extents(*fix_up.extents)
    assert str(union(revised, hosts)) == str(covered)
    assert not subtract(hosts, pair.run(host_change.all()))
    assert str(revised) == "16+8 40+16 96+8 160+8 (4 extents, 40 sectors)"
    assert str(scan.scan_map) == "(0 extents, 0 sectors)"
    assert str(fix_up) == f"PIT map of write {fix_up.write}: {covered} above the base"
    assert str(fix_ups[0]).startswith(f"fix-up delta map {fix_ups[0].id}: closed, writes ")
    newest = pair.run(history.reader(fix_up).read_extents(covered))
    ours = pair.read(pair.volume)
    assert bytes(newest.view[: covered.total * SECTOR]) == b"".join(
        ours[offset : offset + length] for offset, length in byte_ranges(covered)
    )
    newest.release()
