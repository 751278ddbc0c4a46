"""The dirty region log goes bad while the service is down: what it cannot tell counts as dirty.

Each story leaves a block that only the log knows to differ, and takes that
knowledge away.  DESIGN.md, section 4, rule 3.
"""

from collections.abc import Callable

import pytest

from appliance.cdp.dirty_region_log import decode_slot
from appliance.cdp.format import PAGE
from appliance.cdp.interfaces import SECTOR
from appliance.cdp.superblock import RING_SLOTS
from tests.cdp.simulated_pair import REGION, SimulatedPair

BLOCK = 4096
FAR = 5 * REGION
"""A region that history says nothing of, so that the head cannot give the difference away."""


def cannot_be_read(pair: SimulatedPair, offset: int) -> None:
    pair.primary.medium.bad_sectors.add(offset // SECTOR)


def has_a_flipped_bit(pair: SimulatedPair, offset: int) -> None:
    pair.primary.medium.contents[offset + 100] ^= 1


def is_of_another_volume(pair: SimulatedPair, offset: int) -> None:
    other = SimulatedPair(seed=77)
    page = other.primary.medium.contents[offset : offset + PAGE]
    pair.primary.medium.contents[offset : offset + PAGE] = page


Damage = Callable[[SimulatedPair, int], None]
DAMAGES: list[Damage] = [cannot_be_read, has_a_flipped_bit, is_of_another_volume]


def assert_equal_disks(pair: SimulatedPair) -> None:
    window = pair.volume.window()
    assert window is not None
    assert pair.point(f"write:{window.newest_write}") == pair.read(pair.volume)


def newest_slot(pair: SimulatedPair) -> int:
    """Where the slot of intents lies that was written last."""
    sequences: dict[int, int] = {}
    for slot in range(RING_SLOTS):
        offset = pair.superblock.ring_offset + slot * PAGE
        raw = bytes(pair.primary.medium.contents[offset : offset + PAGE])
        sequences[decode_slot(pair.superblock, raw, "slot").sequence] = offset
    return sequences[max(sequences)]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_page_of_the_bitmap(damage: Damage) -> None:
    pair = SimulatedPair(seed=1)
    pair.start()
    pair.write(0, b"\x11" * BLOCK)
    pair.stop()
    pair.start(with_secondary=False)
    pair.write(FAR, b"\x22" * BLOCK)
    pair.stop()
    damage(pair, pair.superblock.bitmap_offset)

    pair.start()

    assert_equal_disks(pair)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_the_newest_slot_of_intents(damage: Damage) -> None:
    pair = SimulatedPair(seed=2)
    pair.start()
    pair.write(0, b"\x11" * BLOCK)
    pair.flush()
    before = pair.images()[1]
    pair.write(FAR, b"\x22" * BLOCK)
    # The service is killed with the record of that write still on its way.
    pair.put_back((pair.images()[0], before))
    damage(pair, newest_slot(pair))

    pair.start()

    assert_equal_disks(pair)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_numbers_that_a_lost_slot_reserved_do_not_come_again(damage: Damage) -> None:
    """A slot may have raised the ceiling of write numbers."""
    pair = SimulatedPair(seed=3)
    pair.start(with_secondary=False)
    number = pair.write(0, b"\x11" * BLOCK)
    pair.kill()
    damage(pair, newest_slot(pair))

    pair.start()

    assert pair.write(0, b"\x22" * BLOCK) > number
