"""What hosts write before a synchronisation, and beside it, is told apart (claims 3–10)."""

import pytest
from pytest_mock import MockerFixture

from appliance.cdp import full_scan
from appliance.cdp.extents import intersect, one
from appliance.cdp.interfaces import BLOCK
from appliance.cdp.jobs import JobKind
from tests.behaviours.synchronisation.changed_pair import (
    figures,
    newest,
    spoil,
    start,
    synchronised,
)
from tests.cdp.simulated_pair import REGION, SimulatedPair


def test_what_is_under_way_as_a_scan_begins_settles_first(pair: SimulatedPair) -> None:
    """It is in the PIT map, and does not look different: of equal disks each block is read once,
    and no host waits for a second look."""
    pair.write(0, pair.random.randbytes(8 * BLOCK))  # their intents are known from now on
    for _ in range(4):
        before = pair.primary.medium.counters.copy()
        pair.primary.medium.stall()
        writes = [
            pair.begin_write(block * BLOCK, pair.random.randbytes(BLOCK)) for block in range(8)
        ]
        job = start(pair, "verify")
        pair.idle(0.5)
        assert not any(write.finished for write in writes)
        pair.primary.medium.release()
        pair.world.run_until(job.finished)
        assert figures(job) == (0, 0)
        assert (pair.primary.medium.counters - before).bytes_read == pair.volume.size


def test_what_hosts_write_beside_a_scan_is_not_looked_at_again(pair: SimulatedPair) -> None:
    """The scan delta map has it, and no range is locked for it."""
    for _ in range(8):
        before = pair.primary.medium.counters.copy()
        job = start(pair, "verify")
        for _ in range(24):
            block = pair.random.randrange(12)
            pair.begin_write(block * BLOCK, pair.random.randbytes(BLOCK))
            for _ in range(pair.random.randrange(8)):
                pair.world.step()
        pair.world.run_until(job.finished)
        assert figures(job) == (0, 0)
        assert (pair.primary.medium.counters - before).bytes_read == pair.volume.size


def test_what_hosts_write_beside_a_full_scan_joins_no_map_from_before_it(
    pair: SimulatedPair,
) -> None:
    last = pair.write(9 * BLOCK, pair.random.randbytes(BLOCK))
    job = start(pair, "full")
    pair.world.run_until(lambda: job.bytes_scanned > 0)
    beside = pair.write(9 * BLOCK, pair.random.randbytes(BLOCK))
    pair.world.run_until(job.finished)
    assert last in [delta_map.last_write for delta_map in pair.volume.maps()]
    assert beside in [delta_map.first_write for delta_map in pair.volume.maps()]


def test_what_a_resync_copies_joins_no_map_of_a_host(pair: SimulatedPair) -> None:
    last = pair.write(9 * BLOCK, pair.random.randbytes(BLOCK))
    spoil(pair, [2])
    pair.run(pair.volume.log.set_out_of_sync([0]))
    assert figures(synchronised(pair, "resync")) == (BLOCK, BLOCK)
    after = pair.write(9 * BLOCK, pair.random.randbytes(BLOCK))
    assert [(m.kind, m.first_write, m.last_write) for m in pair.volume.maps()[-3:]] == [
        ("host", last, last),
        ("fix_up", last + 1, after - 1),
        ("host", after, after),
    ]


@pytest.mark.parametrize("gathered", [1 << 18, 0], ids=["one turn", "many turns"])
@pytest.mark.parametrize("kind", ["full", "verify"])
def test_what_a_host_writes_once_it_was_found_is_right_again(
    pair: SimulatedPair, kind: JobKind, gathered: int, mocker: MockerFixture
) -> None:
    """Before the copy begins: it needs none, and no point from then on is in doubt for it."""
    mocker.patch.object(full_scan, "GATHERED", gathered)
    spoil(pair, [2, 12, 20])
    job = start(pair, kind)
    pair.world.run_until(lambda: job.bytes_different == BLOCK)
    pair.write(2 * BLOCK, pair.random.randbytes(BLOCK))
    assert job.phase != "copying"
    pair.world.run_until(job.finished)
    assert job.bytes_copied == (2 * BLOCK if kind == "full" else 0)
    suspects = pair.volume.require_history().chain.suspects
    assert not intersect(suspects.open, one(2 * 8, 3 * 8))
    left = 0 if kind == "full" else 2 * BLOCK
    assert figures(synchronised(pair, "verify")) == (left, 0)


def test_what_a_host_writes_before_the_second_look_at_it_is_not_told(pair: SimulatedPair) -> None:
    spoil(pair, [2, 5, 8, 12, 20])
    job = start(pair, "verify")
    pair.world.run_until(lambda: job.bytes_different == BLOCK)
    pair.write(20 * BLOCK, pair.random.randbytes(BLOCK))
    assert job.bytes_different < 4 * BLOCK, "it is not there yet"
    pair.world.run_until(job.finished)
    assert figures(job) == (4 * BLOCK, 0)


def test_what_a_host_writes_before_its_copy_is_not_copied(pair: SimulatedPair) -> None:
    spoil(pair, [2, 5, 12, 20])
    job = start(pair, "full")
    pair.world.run_until(lambda: job.phase == "copying")
    pair.write(20 * BLOCK, pair.random.randbytes(BLOCK))
    assert job.bytes_copied < 3 * BLOCK, "it is not there yet"
    pair.world.run_until(job.finished)
    assert figures(job) == (4 * BLOCK, 3 * BLOCK)
    assert pair.point(f"write:{newest(pair)}") == pair.read(pair.volume)


def test_what_a_resync_has_settled_is_listed_no_more(pair: SimulatedPair) -> None:
    """If the secondary goes then, only what is written without it is looked at."""
    for region in range(4):
        pair.write(region * REGION, pair.random.randbytes(BLOCK))
    assert pair.volume.dirty_regions == 4
    synchronised(pair, "resync")
    assert pair.volume.dirty_regions == 0
    pair.secondary.medium.remove()
    pair.write(4 * REGION, pair.random.randbytes(BLOCK))
    assert pair.volume.protection.value == "tracking"
    pair.secondary.medium.replug()
    pair.secondary = pair.secondary.reopen()
    pair.run(pair.lifecycle.attach(pair.secondary))
    pair.world.run_until(lambda: pair.volume.protection.value == "protected")
    last = pair.volume.last_job
    assert last is not None
    assert (last.kind, last.bytes_scanned) == ("resync", REGION)
