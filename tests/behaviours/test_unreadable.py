"""Disks of which a scan can read nothing, or next to nothing: it ends, and says so.

DESIGN.md, section 4, rule 8: a secondary that fails never stops the host; its writes are tracked.
"""

from errno import EIO

import pytest
from pytest_mock import MockerFixture

from appliance import events
from appliance.cdp import side_by_side
from appliance.cdp.interfaces import READ, DiskRequest
from appliance.cdp.jobs import Job, JobKind
from appliance.errors import DiskFailed, DiskUnreadable
from appliance.simulated.disk import SimulatedDisk
from tests.cdp.simulated_pair import REGION, SimulatedPair

BLOCK = 4096
MOST = 4 * BLOCK


@pytest.fixture
def pair(mocker: MockerFixture) -> SimulatedPair:
    mocker.patch.object(side_by_side, "MOST_UNREADABLE", MOST)
    pair = SimulatedPair(seed=7)
    pair.start()
    pair.write_at_random(30)
    return pair


def spoil(disk: SimulatedDisk, offset: int, length: int) -> None:
    disk.medium.bad_sectors.update(range(offset // 512, (offset + length) // 512))


def ended(pair: SimulatedPair, kind: JobKind) -> Job:
    job = pair.lifecycle.jobs.synchronise(kind)
    pair.world.run_until(job.finished)
    return job


@pytest.mark.parametrize("kind", ["verify", "full"])
def test_a_secondary_that_gives_nothing_is_lost(pair: SimulatedPair, kind: JobKind) -> None:
    spoil(pair.secondary, 0, pair.secondary.size)
    before = pair.primary.medium.counters.reads
    job = ended(pair, kind)
    tried = pair.primary.medium.counters.reads - before
    assert job.result == "failed"
    assert isinstance(job.error, DiskUnreadable)
    assert job.error.fields["disk"] == "s"
    assert tried < 20, "not block by block to the end"
    pair.world.run_until(lambda: events.SECONDARY_LOST in pair.events)
    assert pair.volume.protection.value == "tracking"
    assert pair.write(0, b"on" * BLOCK), "hosts do not notice"


@pytest.mark.parametrize("kind", ["verify", "full"])
def test_the_scan_that_was_given_up_is_not_begun_again(pair: SimulatedPair, kind: JobKind) -> None:
    size = pair.superblock.volume_size
    spoil(pair.secondary, pair.superblock.base_offset, size)
    ended(pair, kind)
    pair.world.run_until(lambda: pair.volume.protection.value == "tracking")
    pair.secondary.medium.bad_sectors.clear()
    pair.run(pair.lifecycle.attach(pair.secondary))
    pair.world.run_until(lambda: pair.volume.protection.value == "protected")
    pair.idle()
    assert pair.volume.last_job is not None
    assert pair.volume.last_job.kind == "resync"
    assert pair.volume.job is None


def test_what_is_bad_is_counted_once(pair: SimulatedPair) -> None:
    """A block is read again as it is looked at again."""
    offset = pair.superblock.base_offset + pair.superblock.volume_size - MOST
    spoil(pair.secondary, offset, MOST)
    assert ended(pair, "full").result == "done"


def test_what_the_primary_gives_at_the_second_try_is_no_fault_of_the_secondary(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    perform = pair.primary.medium.perform
    tried: set[tuple[int, int]] = set()

    def perform_at_the_second_try(request: DiskRequest, covers: int) -> OSError | None:
        place = request.offset, request.length
        if request.kind == READ and request.offset < 4 * MOST and place not in tried:
            tried.add(place)
            return OSError(EIO, "at first")
        return perform(request, covers)

    mocker.patch.object(pair.primary.medium, "perform", perform_at_the_second_try)
    assert ended(pair, "verify").result == "done"
    assert len(tried) > MOST // BLOCK
    assert pair.volume.protection.value == "protected"


def test_a_resync_writes_anew_what_the_secondary_does_not_give(pair: SimulatedPair) -> None:
    pair.stop()
    pair.start(with_secondary=False)
    for region in range(1, 5):
        pair.write(region * REGION, b"away" * (REGION // 4))
    pair.stop()
    spoil(pair.secondary, pair.superblock.base_offset + REGION, 4 * REGION)
    pair.start()
    assert pair.volume.protection.value == "protected"
    assert events.SECONDARY_LOST not in pair.events


def test_some_bad_sectors_are_repaired_and_lose_nobody(pair: SimulatedPair) -> None:
    spoil(pair.secondary, pair.superblock.base_offset + 8 * BLOCK, MOST)
    job = ended(pair, "full")
    assert job.result == "done"
    assert pair.volume.protection.value == "protected"
    assert ended(pair, "verify").bytes_different == 0


def test_a_primary_that_gives_nothing_ends_the_scan_and_serves_on(pair: SimulatedPair) -> None:
    whole = pair.read(pair.volume)
    spoil(pair.primary, 0, pair.superblock.volume_size)
    job = ended(pair, "verify")
    assert job.result == "failed"
    assert isinstance(job.error, DiskFailed)
    assert job.error.fields["disk"] == "p"
    assert pair.volume.protection.value != "tracking"
    assert pair.read(pair.volume, 0, BLOCK) == whole[:BLOCK], "from the secondary"
