"""The counted I/O budget: what a host's write costs the two disks, without a clock.

A change that costs one request more, or a page more, fails here; so the budget
is changed on purpose or not at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from appliance.cdp.policies import Ack
from appliance.simulated.counters import Counters
from tests.simulation.draws import Shape
from tests.simulation.rig import Rig
from tests.simulation.watching import protected_media, watched

SHAPE = Shape(primary=2 << 20, secondary=32 << 20, segment=1 << 20, region=64 << 10)
PAGE = 4096
SECTORS = 8
"""In a host's write of 4 KiB."""


@dataclass
class Spent:
    """What both disks were asked for."""

    primary: Counters
    secondary: Counters


class Meter:
    """A protected rig whose first region and segment have been touched."""

    def __init__(self, rig: Rig, ack: Ack) -> None:
        self.rig = rig
        self.rig.start()
        self.rig.path.ack = ack
        self.rig.write(0, SECTORS)
        self._read = Counters(), Counters()
        self.spend()

    def spend(self) -> Spent:
        """What has been asked for since the meter was last read, all that follows included."""
        primary, secondary = self.rig.primary_medium, self.rig.secondary_medium
        before = self._read
        self.rig.settle()
        self.rig.world.run_idle()
        self._read = primary.counters.copy(), secondary.counters.copy()
        return Spent(self._read[0] - before[0], self._read[1] - before[1])

    def spend_on_writes(self, *firsts: int) -> Spent:
        for first in firsts:
            self.rig.write(first, SECTORS)
        return self.spend()


@contextmanager
def metered(ack: Ack = Ack.BOTH) -> Iterator[Meter]:
    rig = Rig(1, SHAPE, media=protected_media(SHAPE))
    with watched(rig):
        yield Meter(rig, ack)


@pytest.mark.parametrize("ack", list(Ack))
def test_a_write_to_a_known_region_costs_one_write_on_each_disk(ack: Ack) -> None:
    """QD 1: 4 KiB on the primary; a page of header and 4 KiB on the secondary; no flush."""
    with metered(ack) as meter:
        spent = meter.spend_on_writes(16)
    assert spent.primary == Counters(writes=1, bytes_written=PAGE)
    assert spent.secondary == Counters(writes=1, bytes_written=2 * PAGE)


def test_the_first_touch_of_a_region_costs_one_durable_page_more() -> None:
    with metered() as meter:
        spent = meter.spend_on_writes(128)
    assert spent.primary == Counters(writes=2, durable_writes=1, bytes_written=2 * PAGE)
    assert spent.secondary == Counters(writes=1, bytes_written=2 * PAGE)


def test_many_new_regions_in_one_batch_cost_one_durable_page() -> None:
    with metered() as meter:
        spent = meter.spend_on_writes(*(128 * region for region in range(1, 17)))
    assert spent.primary == Counters(writes=17, durable_writes=1, bytes_written=17 * PAGE)
    assert spent.secondary == Counters(writes=1, bytes_written=17 * PAGE)


def test_a_batch_of_32_costs_one_journal_write() -> None:
    """Per host write: one write on the primary, 1/32 on the secondary, 132 KiB / 32 there."""
    with metered() as meter:
        spent = meter.spend_on_writes(*(24 * at % 128 // 8 * 8 for at in range(32)))
    assert spent.primary.writes <= 32
    assert spent.primary.bytes_written == 32 * PAGE
    assert not spent.primary.durable_writes
    assert spent.secondary == Counters(writes=1, bytes_written=33 * PAGE)


def test_neighbours_in_a_batch_are_one_write_on_the_primary() -> None:
    with metered() as meter:
        spent = meter.spend_on_writes(*range(0, 128, SECTORS))
    assert spent.primary == Counters(writes=1, bytes_written=16 * PAGE)


@pytest.mark.parametrize("ack", list(Ack))
def test_a_flush_costs_one_flush_of_each_disk_that_was_acknowledged_for(ack: Ack) -> None:
    with metered(ack) as meter:
        meter.rig.flush()
        spent = meter.spend()
        assert spent.primary == Counters(flushes=1)
        assert spent.secondary == Counters(flushes=1 if ack is Ack.BOTH else 0)


def test_flushes_that_arrive_together_share_two() -> None:
    """One that is under way may not cover what came after it; one more covers all."""
    with metered() as meter:
        for host in range(8):
            meter.rig.flush(host)
        spent = meter.spend()
    assert spent.primary.flushes == spent.secondary.flushes == 2


def test_zeros_cost_a_header_and_no_payload() -> None:
    with metered() as meter:
        meter.rig.write(0, 128, zeros=True)
        spent = meter.spend()
    assert spent.primary == Counters(zeros=1, bytes_zeroed=128 * 512)
    assert spent.secondary == Counters(writes=1, bytes_written=PAGE)


def test_a_segment_costs_one_page_and_no_write_of_its_own() -> None:
    """A MiB of segment holds 127 records of two pages, behind a page that rides along."""
    with metered() as meter:
        spent = Spent(Counters(), Counters())
        for _ in range(127):
            more = meter.spend_on_writes(0)
            spent.secondary.writes += more.secondary.writes
            spent.secondary.bytes_written += more.secondary.bytes_written
    assert spent.secondary.writes == 127
    assert spent.secondary.bytes_written == (2 * 127 + 1) * PAGE


def test_reads_cost_the_primary_alone() -> None:
    with metered() as meter:
        meter.rig.begin_read(0, SECTORS)
        spent = meter.spend()
    assert spent.primary == Counters(reads=1, bytes_read=PAGE)
    assert spent.secondary == Counters()


def test_an_idle_volume_settles_with_one_flush_of_each_and_one_page() -> None:
    """Two seconds after the last write the intents are retired; then nothing is spent."""
    with metered() as meter:
        meter.rig.pass_time(3)
        primary = meter.rig.primary_medium.counters.copy()
        secondary = meter.rig.secondary_medium.counters.copy()
        assert not meter.rig.volume.dirty_regions
        meter.rig.pass_time(30)
        assert meter.rig.primary_medium.counters == primary
        assert meter.rig.secondary_medium.counters == secondary
