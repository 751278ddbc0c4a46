"""Disks that are Ebbtide's, and do not belong here: nothing is guessed, and nothing is written."""

import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest

from appliance.cdp import superblock
from appliance.cdp.format import PARENTS, PRIMARY, SECONDARY
from appliance.cdp.pair import check_pair
from appliance.cdp.superblock import Superblock
from appliance.errors import EbbtideError, FormatDamaged, WrongDisk
from tests.cdp.simulated_pair import SimulatedPair, codes


def lived(seed: int, name: str = "finance") -> SimulatedPair:
    pair = SimulatedPair(seed, name=name)
    pair.start()
    pair.write_at_random(30)
    pair.stop()
    return pair


@pytest.fixture(scope="module")
def lives() -> tuple[SimulatedPair, tuple[bytes, bytes], tuple[bytes, bytes]]:
    pair = lived(1)
    return pair, pair.images(), lived(2, "archive").images()


@pytest.fixture
def pair(
    lives: tuple[SimulatedPair, tuple[bytes, bytes], tuple[bytes, bytes]],
) -> Iterator[SimulatedPair]:
    found, images, _ = lives
    states = dict(found.states)
    found.put_back(images)
    yield found
    found.states = states


@pytest.fixture
def foreign(
    lives: tuple[SimulatedPair, tuple[bytes, bytes], tuple[bytes, bytes]],
) -> tuple[bytes, bytes]:
    return lives[2]


def put(pair: SimulatedPair, role: int, made: Superblock) -> None:
    """Write a superblock as some other life would have."""
    disk = pair.primary if role == PRIMARY else pair.secondary
    pair.run(superblock.store(disk, pair.pool, made))


def assert_refused(pair: SimulatedPair, error: type[EbbtideError], match: str) -> None:
    """The service does not start over these disks, and leaves them alone."""
    pair.kill()
    before = pair.images()
    with pytest.raises(error, match=match):
        pair.start()
    assert pair.images() == before


def test_the_secondary_of_another_volume(pair: SimulatedPair, foreign: tuple[bytes, bytes]) -> None:
    pair.put_back((pair.images()[0], foreign[1]))
    found, verdict = pair.check()
    assert "EC111" in codes(found)
    assert verdict.errors == 1
    assert_refused(pair, WrongDisk, "volume 'archive' of another set")


def test_a_blank_secondary(pair: SimulatedPair) -> None:
    pair.put_back((pair.images()[0], bytes(pair.secondary.size)))
    found, _ = pair.check()
    assert codes(found) == {"EC101"}
    assert_refused(pair, FormatDamaged, "no trace")


def test_two_secondaries(pair: SimulatedPair) -> None:
    """A twin: the same set and role under an id of its own."""
    theirs = pair.load(pair.secondary)
    put(pair, SECONDARY, replace(theirs, disk_id=secrets.token_bytes(16)).next())
    found, _ = pair.check()
    assert "EC111" in codes(found)
    assert_refused(pair, WrongDisk, "not the secondary of this primary")


def test_a_primary_in_the_secondary_s_place(pair: SimulatedPair) -> None:
    ours = pair.load(pair.primary)
    with pytest.raises(WrongDisk, match="not the secondary"):
        check_pair(ours, ours, "p")
    with pytest.raises(WrongDisk, match="not the secondary"):
        check_pair(pair.load(pair.secondary), ours, "p")


def test_a_secondary_that_served_hosts_alone(pair: SimulatedPair) -> None:
    put(pair, SECONDARY, pair.load(pair.secondary).child())
    found, _ = pair.check()
    assert "EC111" in codes(found)
    assert_refused(pair, WrongDisk, "has served hosts since")


def test_siblings(pair: SimulatedPair) -> None:
    """Both have served hosts without the other: only a person can choose."""
    put(pair, PRIMARY, pair.load(pair.primary).child())
    put(pair, SECONDARY, pair.load(pair.secondary).child())
    found, _ = pair.check()
    assert "EC111" in codes(found)
    assert_refused(pair, WrongDisk, "both disks have served hosts")


def test_a_secondary_that_stayed_behind_is_taken_back(pair: SimulatedPair) -> None:
    for _ in range(3):
        pair.start(with_secondary=False)
        pair.write_at_random(5)
        pair.stop()
    found, verdict = pair.check()
    assert {"EC112"} <= {finding.code for finding in found}
    assert not verdict.errors
    contents = pair.states[max(pair.states)]
    pair.start()
    assert pair.read(pair.volume) == contents
    assert pair.point(f"write:{pair.volume.window().newest_write}") == contents  # type: ignore[union-attr]


def test_write_numbers_do_not_come_again_without_the_secondary(pair: SimulatedPair) -> None:
    seen = 0
    for _ in range(3):
        pair.start(with_secondary=False)
        assert pair.volume.write_number >= seen
        pair.write_at_random(3)
        seen = pair.volume.write_number
        pair.kill()


def test_a_secondary_that_stayed_behind_too_long_is_refused(pair: SimulatedPair) -> None:
    """Another was given so many generations since: it cannot be told from a stranger."""
    ours = pair.load(pair.primary).child()
    for _ in range(PARENTS - 1):
        ours = ours.shared(ours.parents[0]).child()
    check_pair(ours, pair.load(pair.secondary), "s")
    put(pair, PRIMARY, ours.shared(ours.parents[0]).child())
    assert_refused(pair, WrongDisk, "both disks have served hosts")


def test_a_pair_that_contradicts_itself_about_its_layout(pair: SimulatedPair) -> None:
    theirs = pair.load(pair.secondary)
    put(pair, SECONDARY, replace(theirs, segment_count=theirs.segment_count - 1).next())
    found, _ = pair.check()
    assert "EC111" in codes(found)
    assert_refused(pair, WrongDisk, "laid out otherwise")


def test_a_clone_of_the_secondary_from_earlier_gives_no_wrong_data(pair: SimulatedPair) -> None:
    """The stale twin bears all the right ids; what gives it away is that its journal ends too
    early."""
    stale = pair.images()[1]
    pair.start()
    pair.write_at_random(20)
    contents = pair.read(pair.volume)
    pair.stop()
    pair.put_back((pair.images()[0], stale))
    found, verdict = pair.check()
    assert "EC410" in codes(found)
    assert verdict.errors
    pair.start()
    assert pair.read(pair.volume) == contents
    right, refused = pair.hold_against_states()
    assert right
    assert refused
    newest = pair.volume.window()
    assert newest is not None
    assert pair.point(f"write:{newest.newest_write}") == contents


def test_disks_of_another_size(pair: SimulatedPair) -> None:
    """A copy on a smaller disk lacks its end, and says so."""
    primary, secondary = pair.images()
    cut = secondary[: pair.superblock.segment_offset(20)] + bytes(
        len(secondary) - pair.superblock.segment_offset(20)
    )
    theirs = pair.load(pair.secondary)
    with pytest.raises(FormatDamaged, match="bytes, the disk has"):
        superblock.check_fits(theirs, pair.superblock.segment_offset(20), "s")
    pair.put_back((primary, cut))
    found, _ = pair.check()
    assert "EC102" in codes(found)
