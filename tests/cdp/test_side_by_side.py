"""Looking at the same blocks of both disks: what differs, how it is read, and who waits for it."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from appliance.cdp import side_by_side
from appliance.cdp.extents import Extents, extents, one
from appliance.cdp.interfaces import BLOCK, SECTOR
from appliance.cdp.memory import Buffer
from appliance.cdp.side_by_side import SECTORS, SideBySide, differing, placed
from appliance.cdp.tasks import Completion, Task
from appliance.errors import DiskFailed
from tests.cdp.simulated_pair import SimulatedPair

BLOCKS = 12
"""Compared in a property."""


@given(
    st.sets(st.integers(0, BLOCKS * BLOCK - 1), max_size=6),
    st.integers(1, BLOCKS),
    st.sets(st.integers(0, 40), min_size=BLOCKS, max_size=BLOCKS),
)
def test_every_sector_with_a_byte_that_differs_is_told_and_no_other(
    spoiled: set[int], size: int, where: set[int]
) -> None:
    ours, theirs = Buffer(BLOCKS * BLOCK), Buffer(BLOCKS * BLOCK)
    for at in spoiled:
        theirs.view[at] = 1
    # What lies behind the size, in a buffer used before, does not count.
    wanted = sorted({at // SECTOR for at in spoiled if at < size * BLOCK})
    numbers = differing(ours, theirs, size * BLOCK)
    assert numbers.tolist() == wanted

    blocks = sorted(where)
    on_volume = [blocks[n // SECTORS] * SECTORS + n % SECTORS for n in wanted]
    found = placed(numbers, _blocks(*blocks))
    assert found.total == len(wanted)
    for start, end in zip(found.starts.tolist(), found.ends.tolist(), strict=True):
        assert set(range(start, end)) <= set(on_volume)


def _blocks(*numbers: int) -> Extents:
    starts = np.array(numbers) * SECTORS
    return extents(starts, starts + SECTORS)


@pytest.fixture
def pair() -> SimulatedPair:
    """Blocks 1 and 5 are in history, all others in the base image alone."""
    pair = SimulatedPair(11)
    size = pair.superblock.volume_size
    pair.primary.medium.view[:size] = pair.random.randbytes(size)
    pair.start()
    for block in (1, 5):
        pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
    return pair


def now(pair: SimulatedPair) -> SideBySide:
    history = pair.volume.require_history()
    pit_map = pair.run(history.pit_map(history.chain.newest_write))
    return SideBySide(pair.primary, history, pit_map, pair.pool, gives_up=True)


def spoil_base(pair: SimulatedPair, *blocks: int) -> None:
    for block in blocks:
        at = pair.superblock.base_offset + block * BLOCK
        pair.secondary.medium.view[at : at + SECTOR] = bytes(SECTOR)


@pytest.mark.parametrize("long", [1, BLOCKS * BLOCK])
@pytest.mark.parametrize(("first", "behind"), [(6, 11), (0, 8), (1, 2)])
def test_a_range_looks_as_its_blocks_do(
    pair: SimulatedPair, mocker: MockerFixture, long: int, first: int, behind: int
) -> None:
    """In the base image alone, across history, and in history alone; compared here or beside."""
    mocker.patch.object(side_by_side, "LONG", long)
    disks = now(pair)
    spoil_base(pair, 1, 2, 7, 9)  # history hides the first
    found = pair.run(disks.look_at(first * BLOCK, (behind - first) * BLOCK))
    same = pair.run(disks.look(one(first * SECTORS, behind * SECTORS)))
    wanted = [block * SECTORS for block in (2, 7, 9) if first <= block < behind]
    assert found.starts.tolist() == same.starts.tolist() == wanted
    assert found.ends.tolist() == same.ends.tolist() == [start + 1 for start in wanted]


def test_what_the_base_image_has_alone_costs_each_disk_one_read(pair: SimulatedPair) -> None:
    disks = now(pair)
    before = [disk.medium.counters.copy() for disk in (pair.primary, pair.secondary)]
    assert not pair.run(disks.look_at(6 * BLOCK, 5 * BLOCK))
    for disk, then in zip((pair.primary, pair.secondary), before, strict=True):
        spent = disk.medium.counters - then
        assert (spent.reads, spent.bytes_read) == (1, 5 * BLOCK)


@pytest.mark.parametrize("disk", ["primary", "secondary"])
def test_a_bad_sector_costs_its_block_and_no_more(pair: SimulatedPair, disk: str) -> None:
    disks = now(pair)
    spoil_base(pair, 7)
    is_ours = disk == "primary"
    ill = pair.primary if is_ours else pair.secondary
    base = 0 if is_ours else pair.superblock.base_offset
    ill.medium.bad_sectors.add((base + 9 * BLOCK) // SECTOR + 3)
    found = pair.run(disks.look_at(6 * BLOCK, 5 * BLOCK))
    bad = range(9 * SECTORS, 10 * SECTORS)
    assert _sectors(found) == {7 * SECTORS}.union(() if is_ours else bad)
    assert _sectors(disks.unreadable) == set(bad if is_ours else ())


def _sectors(found: Extents) -> set[int]:
    spans = zip(found.starts.tolist(), found.ends.tolist(), strict=True)
    return {sector for start, end in spans for sector in range(start, end)}


def test_a_disk_that_has_gone_ends_the_look(pair: SimulatedPair) -> None:
    disks = now(pair)
    pair.secondary.medium.remove()
    with pytest.raises(DiskFailed):
        pair.run(disks.look_at(6 * BLOCK, 5 * BLOCK))


def test_hosts_are_answered_while_a_long_comparison_runs(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    mocker.patch.object(side_by_side, "LONG", BLOCK)
    disks = now(pair)
    held: list[Callable[[], None]] = []

    def hold(work: Callable[[], object]) -> Completion[object]:
        completion: Completion[object] = Completion()
        held.append(lambda: completion.succeed(work()))
        return completion

    mocker.patch.object(pair.world, "offload", hold)
    look = Task(disks.look_at(6 * BLOCK, 5 * BLOCK))
    pair.world.run_until(lambda: bool(held))
    pair.write(0, b"x" * BLOCK)
    held[0]()
    assert not pair.world.run_until(look)
