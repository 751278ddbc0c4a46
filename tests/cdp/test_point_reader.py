"""Reading points through the reader of scattered pieces, over a simulated secondary."""

from collections.abc import Sequence

import numpy as np
import pytest
from pytest_mock import MockerFixture

from appliance.cdp.extents import Extents
from appliance.cdp.interfaces import BLOCK, SECTOR, DiskRequest
from appliance.cdp.point_reader import PointReader
from appliance.errors import DiskFailed, FormatDamaged
from tests.cdp.simulated_pair import SimulatedPair


def a_pair_with_a_past(primary_block: int = 512, secondary_block: int = 512) -> SimulatedPair:
    """Data in the base image, in history, and zeros."""
    pair = SimulatedPair(3, primary_block=primary_block, secondary_block=secondary_block)
    pair.primary.medium.view[: pair.superblock.volume_size] = pair.random.randbytes(
        pair.superblock.volume_size
    )
    pair.start()
    pair.write_at_random(24)
    return pair


def newest(pair: SimulatedPair) -> PointReader:
    history = pair.volume.require_history()
    return history.reader(pair.run(history.pit_map(history.chain.newest_write)))


def in_blocks(*numbers: int) -> Extents:
    """One extent for each block."""
    starts = np.array(numbers) * (BLOCK // SECTOR)
    return Extents(starts, starts + BLOCK // SECTOR)


def watch_reads(pair: SimulatedPair, mocker: MockerFixture) -> list[Sequence[DiskRequest]]:
    """What is submitted to the secondary from now on."""
    submitted: list[Sequence[DiskRequest]] = []
    submit = pair.secondary.submit

    def watched(requests: Sequence[DiskRequest]) -> None:
        submitted.append(requests)
        submit(requests)

    mocker.patch.object(pair.secondary, "submit", watched)
    return submitted


@pytest.mark.parametrize("blocks", [(512, 512), (512, 4096), (4096, 512), (4096, 4096)])
def test_extents_read_as_the_volume_was(blocks: tuple[int, int]) -> None:
    pair = a_pair_with_a_past(*blocks)
    reader, now = newest(pair), pair.states[max(pair.states)]
    unit = blocks[0]
    for _ in range(40):
        count = pair.random.randrange(2, 12, 2)
        bounds = sorted(pair.random.sample(range(len(now) // unit + 1), count))
        starts = np.array(bounds[0::2]) * (unit // SECTOR)
        ends = np.array(bounds[1::2]) * (unit // SECTOR)
        buffer = pair.run(reader.read_extents(Extents(starts, ends)))
        wanted = b"".join(
            now[start * SECTOR : end * SECTOR] for start, end in zip(starts, ends, strict=True)
        )
        assert bytes(buffer.view[: len(wanted)]) == wanted
        buffer.release()


def test_pieces_are_read_in_one_submission_sorted_and_joined(mocker: MockerFixture) -> None:
    pair = SimulatedPair(1)
    pair.start()
    reader = newest(pair)
    submitted = watch_reads(pair, mocker)
    pair.run(reader.read_extents(in_blocks(1, 2, 5, 3))).release()
    base = pair.superblock.base_offset
    assert [
        [(request.offset, request.length) for request in requests] for requests in submitted
    ] == [[(base + BLOCK, 3 * BLOCK), (base + 5 * BLOCK, BLOCK)]]


def test_an_entry_is_read_once_however_many_pieces_are_seen_of_it(mocker: MockerFixture) -> None:
    pair = SimulatedPair(1)
    pair.start()
    pair.write(0, b"a" * 4 * BLOCK)
    pair.write(BLOCK, b"b" * BLOCK)
    reader = newest(pair)
    submitted = watch_reads(pair, mocker)
    buffer = pair.run(reader.read(0, 4 * BLOCK))
    assert bytes(buffer.view[: 4 * BLOCK]) == b"a" * BLOCK + b"b" * BLOCK + b"a" * 2 * BLOCK
    assert sum(request.length for (*requests,) in submitted for request in requests) == 5 * BLOCK


def test_zeros_need_no_reading(mocker: MockerFixture) -> None:
    pair = SimulatedPair(1)
    pair.start()
    pair.write(0, b"", zero=BLOCK)
    reader = newest(pair)
    submitted = watch_reads(pair, mocker)
    buffer = pair.run(reader.read(0, BLOCK))
    assert not any(buffer.view[:BLOCK])
    assert not any(submitted)


def damage(pair: SimulatedPair, reader: PointReader, block: int) -> int:
    """Spoil the data of a block in history; returns the write that it is of."""
    pair.flush()
    (piece,) = reader.pit_map.pieces_of(in_blocks(block))
    assert piece.entry is not None
    pair.secondary.medium.contents[piece.entry.location * SECTOR] ^= 1
    return piece.entry.write


def test_damaged_history_is_told_and_never_shown() -> None:
    pair = SimulatedPair(1)
    pair.start()
    pair.write(BLOCK, b"a" * BLOCK)
    reader = newest(pair)
    damage(pair, reader, 1)
    with pytest.raises(FormatDamaged, match="primary sector 8 fails its checksum"):
        pair.run(reader.read_extents(in_blocks(0, 1, 2)))


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "to be compared"])
def test_what_was_folded_while_it_was_read_is_read_from_the_base(checked: bool) -> None:
    pair = SimulatedPair(1)
    pair.start()
    pair.write(BLOCK, b"a" * BLOCK)
    history = pair.volume.require_history()
    write = damage(pair, newest(pair), 1)  # its segment was reused
    base = pair.superblock.base_offset + BLOCK
    pair.secondary.medium.contents[base : base + BLOCK] = b"f" * BLOCK
    answers = iter([write - 1, write, write])
    reader = PointReader(
        pair.secondary,
        history.superblock,
        pair.pool,
        newest(pair).pit_map,
        lambda: next(answers),
    )
    buffer = pair.run(reader.read_extents(in_blocks(1), checked))
    assert bytes(buffer.view[:BLOCK]) == b"f" * BLOCK


def test_a_secondary_that_cannot_be_read_is_told() -> None:
    pair = SimulatedPair(1)
    pair.start()
    reader = newest(pair)
    pair.secondary.medium.bad_sectors.add((pair.superblock.base_offset + 5 * BLOCK) // SECTOR)
    with pytest.raises(DiskFailed):
        pair.run(reader.read_extents(in_blocks(1, 5, 9)))
    pair.run(reader.read_extents(in_blocks(1, 9))).release()
