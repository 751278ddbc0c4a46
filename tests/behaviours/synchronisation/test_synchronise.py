"""Synchronisation as claimed: what was changed behind our back is found, told and mended."""

import pytest
from pytest_mock import MockerFixture

from appliance import events
from appliance.cdp.delta_map import MapKind
from appliance.cdp.extents import byte_ranges, extents, subtract, union
from appliance.cdp.full_scan import FullScan
from appliance.cdp.interfaces import BLOCK, SECTOR
from appliance.cdp.jobs import JobKind
from appliance.cdp.pit_map import PitMap
from appliance.errors import PointInGap
from tests.behaviours.synchronisation.changed_pair import (
    figures,
    newest,
    spoil,
    start,
    suspects,
    synchronised,
)
from tests.cdp.simulated_pair import SimulatedPair, codes


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


@pytest.mark.parametrize("late", range(12))
def test_a_host_wins_in_a_block_of_which_it_has_written_a_part_before(
    pair: SimulatedPair, late: int
) -> None:
    """What it writes once more, while the other sectors of that block are being copied."""
    spoil(pair, [2, 12])
    job = start(pair, "full")
    while job.bytes_different < 2 * BLOCK:
        pair.world.step()
    assert job.phase == "revising"
    pair.begin_write(12 * BLOCK, pair.random.randbytes(SECTOR))
    while job.phase != "copying":
        pair.world.step()
    for _ in range(late):
        pair.world.step()
    again = pair.begin_write(12 * BLOCK, pair.random.randbytes(SECTOR))
    pair.world.run_until(again)
    pair.world.run_until(job.finished)
    assert pair.point(f"write:{newest(pair)}") == pair.read(pair.volume)


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


@pytest.mark.parametrize("kind", ["full", "verify", "resync"])
@pytest.mark.parametrize("busy", [False, True])
def test_progress_is_honest_while_the_work_grows(
    pair: SimulatedPair, kind: JobKind, busy: bool
) -> None:
    """What is done only grows, is never more than all, and in the end it is all; what people see of
    it never goes back unless more was found to do."""
    spoil(pair, [2, 5, 6, 12, 20])
    if kind == "resync":
        pair.run(pair.volume.log.set_out_of_sync([0, 1, 4]))
    job = start(pair, kind)
    done, total = 0, 1
    while job.result is None:
        assert done <= job.bytes_done <= job.bytes_total or not job.bytes_total
        assert job.bytes_done * total >= done * job.bytes_total or total < job.bytes_total
        assert (job.eta_seconds() or 0) >= 0
        done, total = job.bytes_done, job.bytes_total
        if busy:
            pair.write(pair.random.choice([2, 9, 20]) * BLOCK, pair.random.randbytes(SECTOR))
        pair.world.step()
    assert job.result == "done"
    assert job.bytes_total == job.bytes_done
    assert job.bytes_total >= job.bytes_different


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
