"""A piece of history goes bad, and then has to be folded: the secondary is kept, and no point is
told as anything but what it was."""

import pytest

from appliance import events
from appliance.cdp import retention
from appliance.cdp.point_reader import PointReader
from appliance.cdp.points import Snapshot
from appliance.errors import FormatDamaged
from tests.cdp.simulated_pair import SimulatedPair, codes

BLOCK = 4096
SECTOR = 512


@pytest.fixture
def pair() -> SimulatedPair:
    pair = SimulatedPair(seed=11, secondary_size=1 << 20)
    pair.start()
    return pair


def spoil_the_data_of(pair: SimulatedPair, write: int) -> None:
    """Flip a bit of what history keeps of a write."""
    history = pair.volume.history
    assert history is not None
    for delta_map in history.chain.all_maps:
        for row in pair.run(history.rows(delta_map)):
            if int(row["write"]) == write:
                pair.secondary.medium.contents[int(row["location"]) * SECTOR] ^= 1
                return
    pytest.fail(f"write {write} is in no map")


def write_until_folded(pair: SimulatedPair, write: int) -> None:
    """Fill history with writes behind the first blocks until that write is in the base."""
    history = pair.volume.history
    assert history is not None
    for number in range(2000):
        if history.base_write >= write:
            return
        pair.write((8 + number % 14) * BLOCK, pair.random.randbytes(BLOCK))
        if number % 8 == 0:
            pair.idle(1.1)
    pytest.fail("nothing was folded")


def test_what_the_primary_still_holds_is_taken_from_it(pair: SimulatedPair) -> None:
    damaged = pair.write(4 * BLOCK, b"\x5a" * BLOCK)
    pair.flush()
    spoil_the_data_of(pair, damaged)

    write_until_folded(pair, damaged)

    assert events.HISTORY_DAMAGED in pair.events
    assert pair.volume.protection.value == "protected"
    right, _ = pair.hold_against_states()
    assert right > 10


def overwritten(pair: SimulatedPair) -> tuple[int, int]:
    """A write whose data is damaged, and a later one of the same block, in another map."""
    damaged = pair.write(4 * BLOCK, b"\x5a" * BLOCK)
    pair.write(5 * BLOCK, b"\x33" * BLOCK)
    pair.flush()
    spoil_the_data_of(pair, damaged)
    pair.write(20 * BLOCK, b"\x77" * BLOCK)
    pair.volume.require_history().journal.close_map()
    return damaged, pair.write(4 * BLOCK, b"\xa5" * BLOCK)


def test_points_that_need_what_nobody_holds_answer_with_an_error_there(pair: SimulatedPair) -> None:
    damaged, later = overwritten(pair)
    history = pair.volume.require_history()

    assert pair.run(retention.fold(history, pair.primary))

    assert history.base_write >= damaged
    assert history.chain.floor < later, "the window is not shortened for it"
    view = pair.run(pair.volume.open_view(pair.run(pair.volume.resolve(f"write:{later - 1}"))))
    with pytest.raises(OSError, match="read"):
        pair.read(view, 4 * BLOCK, BLOCK)
    assert pair.read(view, 5 * BLOCK, BLOCK) == b"\x33" * BLOCK
    assert pair.point(f"write:{later}") == pair.states[later]
    assert events.HISTORY_DAMAGED in pair.events


def unreadable_on_both(pair: SimulatedPair) -> int:
    """A write whose data neither disk gives any more."""
    lost = pair.write(4 * BLOCK, b"\x5a" * BLOCK)
    pair.write(5 * BLOCK, b"\x33" * BLOCK)
    pair.flush()
    spoil_the_data_of(pair, lost)
    pair.primary.medium.bad_sectors.add(4 * BLOCK // SECTOR)
    return lost


def test_a_block_that_neither_disk_gives_is_told_once_and_healed_by_a_write(
    pair: SimulatedPair,
) -> None:
    lost = unreadable_on_both(pair)
    view = pair.run(pair.volume.open_view(pair.run(pair.volume.resolve(f"write:{lost + 1}"))))

    write_until_folded(pair, lost)
    history = pair.volume.require_history()
    view.close()
    for _ in range(3):
        floor = history.chain.floor
        write_until_folded(pair, floor + 1)

    assert events.SECONDARY_LOST not in pair.events
    assert pair.events.count(events.HISTORY_DAMAGED) == 1
    newest = history.chain.newest_write
    view = pair.run(pair.volume.open_view(pair.run(pair.volume.resolve(f"write:{newest}"))))
    with pytest.raises(OSError, match="read"):
        pair.read(view, 4 * BLOCK, BLOCK)
    assert pair.read(view, 5 * BLOCK, BLOCK) == b"\x33" * BLOCK

    pair.primary.medium.bad_sectors.clear()
    healed = pair.write(4 * BLOCK, b"\x11" * BLOCK)
    assert pair.point(f"write:{healed}") == pair.states[healed]
    pair.world.run_until(
        lambda: pair.volume.protection.value == "protected" and pair.volume.job is None
    )
    write_until_folded(pair, healed)
    assert not history.base_lost
    right, _ = pair.hold_against_states()
    assert right > 5


def test_a_reader_that_is_older_than_the_fold_does_not_see_old_data_either(
    pair: SimulatedPair,
) -> None:
    pair.write(4 * BLOCK, b"\x11" * BLOCK)
    lost = unreadable_on_both(pair)
    pair.volume.require_history().journal.close_map()
    newest = pair.write(9 * BLOCK, b"\x99" * BLOCK)
    view = pair.run(pair.volume.open_view(pair.run(pair.volume.resolve(f"write:{newest}"))))
    history = pair.volume.require_history()

    assert pair.run(retention.fold(history, pair.primary))

    assert history.base_write >= lost
    assert not view.given_up
    with pytest.raises(OSError, match="read"):
        pair.read(view, 4 * BLOCK, BLOCK)
    assert pair.read(view, 9 * BLOCK, BLOCK) == b"\x99" * BLOCK


def test_what_is_lost_stays_lost_after_a_restart_and_the_check_says_so(
    pair: SimulatedPair,
) -> None:
    lost = unreadable_on_both(pair)
    history = pair.volume.require_history()
    history.journal.close_map()
    assert pair.run(retention.fold(history, pair.primary))
    assert history.base_write >= lost
    newest = history.chain.newest_write
    pair.kill()
    found, _ = pair.check()
    assert "EC405" not in codes(found)
    pair.start(until_protected=False, readable=False)
    reader = pair.run(newest_reader(pair, newest))
    with pytest.raises(FormatDamaged, match="neither disk"):
        pair.run(reader.read(4 * BLOCK, BLOCK))
    pair.run(reader.read(5 * BLOCK, BLOCK)).release()


def test_a_damaged_list_of_what_is_lost_costs_the_past_and_not_the_truth(
    pair: SimulatedPair,
) -> None:
    unreadable_on_both(pair)
    history = pair.volume.require_history()
    history.journal.close_map()
    assert pair.run(retention.fold(history, pair.primary))
    residue = history.chain.maps[0]
    place = pair.superblock.segment_offset(residue.index_segments[0])
    pair.secondary.medium.contents[place] ^= 1
    pair.primary.medium.bad_sectors.clear()
    pair.kill()
    found, _ = pair.check()
    assert {"EC404", "EC406"} <= codes(found)
    pair.start()
    newest = pair.volume.require_history().chain.newest_write
    assert pair.point(f"write:{newest}") == pair.read(pair.volume)
    pair.hold_against_states()


async def newest_reader(pair: SimulatedPair, write: int) -> PointReader:
    history = pair.volume.history
    assert history is not None
    return history.reader(await history.pit_map(write))


def test_a_full_history_still_has_room_to_say_what_is_lost(pair: SimulatedPair) -> None:
    lost = unreadable_on_both(pair)
    history = pair.volume.require_history()
    history.journal.close_map()
    while history.segments.take() is not None:
        pass

    assert pair.run(retention.fold(history, pair.primary))

    assert history.base_write >= lost
    assert history.base_lost


def test_a_pin_behind_what_is_lost_does_not_end_all_folding(pair: SimulatedPair) -> None:
    unreadable_on_both(pair)
    history = pair.volume.require_history()
    history.journal.close_map()
    assert pair.run(retention.fold(history, pair.primary))
    pair.write(9 * BLOCK, b"9" * BLOCK)
    history.chain.snapshots["pin"] = Snapshot("pin", history.chain.newest_write, 0, True)
    last = pair.write(9 * BLOCK, b"8" * BLOCK)
    history.journal.close_map()

    assert pair.run(retention.fold(history, pair.primary))

    assert history.chain.floor == last


def test_what_was_given_up_comes_free_before_more_is_folded(pair: SimulatedPair) -> None:
    pair.write(9 * BLOCK, b"9" * BLOCK)
    history = pair.volume.require_history()
    history.journal.close_map()
    taken = history.segments.take()
    assert taken is not None
    history.segments.release([taken])
    free, floor = history.segments.free, history.chain.floor

    for _ in range(2):
        assert pair.run(retention.free_some(history, pair.primary))

    assert (history.segments.free, history.chain.floor) == (free + 1, floor)


def test_what_was_written_into_a_lost_block_is_repaired_when_it_is_folded_too(
    pair: SimulatedPair,
) -> None:
    damaged = pair.write(4 * BLOCK, b"\x5a" * BLOCK)
    pair.flush()
    spoil_the_data_of(pair, damaged)
    history = pair.volume.require_history()
    history.journal.close_map()
    # So that only the first map is folded, and then only the second.
    history.chain.snapshots["pin"] = Snapshot("pin", damaged, 0, True)
    partly = pair.write(4 * BLOCK, b"\x11" * SECTOR)
    history.journal.close_map()
    pair.write(4 * BLOCK + SECTOR, b"\x22" * (BLOCK - SECTOR))
    pair.flush()
    history.journal.close_map()
    for last in (damaged, partly):
        assert pair.run(retention.fold(history, pair.primary))
        assert history.base_write == last
        pair.world.run_until(
            lambda: pair.volume.protection.value == "protected" and pair.volume.job is None
        )
        newest = history.chain.newest_write
        assert pair.point(f"write:{newest}") == pair.read(pair.volume)
