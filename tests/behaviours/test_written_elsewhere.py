"""The primary was written by another box between two lives: it is told, and compared whole.

DESIGN.md, section 4, rule 9.
"""

import pytest

from appliance import events
from tests.cdp.simulated_pair import REGION, SimulatedPair

BLOCK = 4096


@pytest.fixture
def pair() -> SimulatedPair:
    pair = SimulatedPair(seed=4)
    pair.start()
    pair.write(0, b"\x11" * BLOCK)
    pair.write(2 * BLOCK, b"\x22" * BLOCK)
    return pair


def write_elsewhere(pair: SimulatedPair, offset: int, data: bytes) -> None:
    pair.primary.medium.contents[offset : offset + len(data)] = data


def assert_compared_whole(pair: SimulatedPair, contents: bytes) -> None:
    assert pair.read(pair.volume) == contents, "the primary is what counts"
    window = pair.volume.window()
    assert window is not None
    assert pair.point(f"write:{window.newest_write}") == contents


@pytest.mark.parametrize("offset", [0, 2 * BLOCK], ids=["older", "newest"])
def test_one_of_the_last_blocks_gives_it_away(pair: SimulatedPair, offset: int) -> None:
    pair.stop()
    write_elsewhere(pair, offset + 512, b"\x77" * 512)
    write_elsewhere(pair, 5 * REGION, b"\x88" * BLOCK)  # where nobody of us has written
    contents = pair.images()[0][: pair.superblock.volume_size]

    pair.start()

    assert events.WRITTEN_ELSEWHERE in pair.events
    assert_compared_whole(pair, contents)
    assert [gap.reason for gap in pair.volume.gaps()] == ["the disks had parted"]


def test_after_a_crash_as_well(pair: SimulatedPair) -> None:
    """The regions with an intent excuse themselves, the others do not."""
    pair.idle()  # retires what was written
    pair.write(4 * REGION, b"\x33" * BLOCK)
    pair.kill()
    write_elsewhere(pair, 0, b"\x77" * BLOCK)
    write_elsewhere(pair, 5 * REGION, b"\x88" * BLOCK)
    contents = pair.images()[0][: pair.superblock.volume_size]

    pair.start()

    assert events.WRITTEN_ELSEWHERE in pair.events
    assert_compared_whole(pair, contents)


@pytest.mark.parametrize("way", ["stop", "kill", "power_cut"])
def test_our_own_writes_raise_no_alarm(pair: SimulatedPair, way: str) -> None:
    pair.write_at_random(20)
    getattr(pair, way)()

    pair.start()

    assert events.WRITTEN_ELSEWHERE not in pair.events
