"""Damage to each structure on the media: `check` names it, and the service never gives wrong data.

A pair lives for a while (writes, zeros, a snapshot, folds, indexes, a crash);
then one structure is spoilt on the medium, in one of several ways.  Started
over it, the service refuses with a clear error, or hosts read what they wrote
and every point reads as it was, or not at all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from appliance.cdp.check.findings import Finding
from appliance.cdp.checkpoint import Checkpoints, Loaded
from appliance.cdp.dirty_region_log import CEILING_STEP, DirtyRegionLog
from appliance.cdp.format import PAGE, PRIMARY, SECONDARY, ZEROS
from appliance.cdp.interfaces import SECTOR
from appliance.cdp.pit_map import PitMap
from appliance.cdp.stream import Stream, as_rows
from appliance.cdp.superblock import RING_SLOTS, copies
from appliance.errors import EbbtideError, FormatDamaged
from appliance.simulated.medium import Medium
from tests.cdp.simulated_pair import PRIMARY_SIZE, SimulatedPair, codes

SECONDARY_SIZE = 2 << 20
Place = tuple[int, int]
"""Offset and length on a medium."""


@dataclass
class Scene:
    """A pair at rest, after a crash, and its media then, at some moment before, and of another
    pair in the same moment of its life."""

    pair: SimulatedPair
    now: tuple[bytes, bytes]
    before: tuple[bytes, bytes]
    foreign: tuple[bytes, bytes]
    loaded: Loaded
    contents: bytes
    """What hosts read last."""

    def disk(self, side: int) -> Medium:
        return (self.pair.primary if side == PRIMARY else self.pair.secondary).medium

    def record_places(self) -> tuple[Place, Place]:
        """A record's header and its payload, in the newest closed map, which has no index."""
        superblock = self.pair.superblock
        segment = self.loaded.chain.maps[-1].record_segments[-1]
        begin = superblock.segment_offset(segment)
        stream = Stream(self.pair.secondary, superblock, self.pair.pool)
        view = self.disk(SECONDARY).view[begin : begin + superblock.segment_size]
        page = 1
        while True:
            record = stream.record(view, segment, page)
            rows = [row for row in as_rows(record.entries) if row["location"] != ZEROS]
            if rows:
                first = rows[0]
                payload = (int(first["location"]) * SECTOR, int(first["length"]) * SECTOR)
                return (begin + page * PAGE, PAGE), payload
            page += 1 + record.payload // PAGE


def live(seed: int) -> tuple[SimulatedPair, tuple[bytes, bytes]]:
    pair = SimulatedPair(seed, secondary_size=SECONDARY_SIZE)
    pair.start()
    for writes in (60, 30):
        pair.write_at_random(writes)
        pair.idle()
    pair.flush()
    before = pair.images()
    pair.run(pair.volume.take_snapshot("before"))
    pair.write_at_random(20)
    pair.idle(0.1)
    pair.stop()
    pair.start()
    pair.write_at_random(12)
    pair.idle()  # retires, so that slots of several ages are in the ring
    pair.write_at_random(25)
    pair.flush()
    return pair, before


@pytest.fixture(scope="module")
def scene() -> Scene:
    pair, before = live(1)
    contents = pair.read(pair.volume)
    pair.kill()
    now = pair.images()
    other, _ = live(2)
    other.kill()
    loaded = pair.run(Checkpoints(pair.secondary, pair.superblock, pair.pool).load())
    assert loaded.chain.floor, "something was folded"
    assert {delta_map.indexed for delta_map in loaded.chain.maps} == {False, True}
    return Scene(pair, now, before, other.images(), loaded, contents)


@pytest.fixture
def fresh(scene: Scene) -> Iterator[Scene]:
    """The scene with its media as they were, and put back in the end."""
    states = dict(scene.pair.states)
    scene.pair.put_back(scene.now)
    yield scene
    scene.pair.states = states


@dataclass(frozen=True)
class Target:
    """A structure: on which side, where, and the code that its damage is named by."""

    name: str
    side: int
    place: Callable[[Scene], Place]
    code: str


def _superblock(role: int, copy: int) -> Callable[[Scene], Place]:
    size = PRIMARY_SIZE if role == PRIMARY else SECONDARY_SIZE
    return lambda scene: (copies(role, size)[copy], PAGE)


def _slot(scene: Scene, age: int) -> Place:
    """The slot of the ring that is `age` older than the newest one."""
    superblock, contents = scene.pair.superblock, scene.disk(PRIMARY).contents
    found = []
    for slot in range(RING_SLOTS):
        at = superblock.ring_offset + slot * PAGE
        found.append((int.from_bytes(contents[at + 32 : at + 40], "little"), at))
    return sorted(found, reverse=True)[age][1], PAGE


def _checkpoint(scene: Scene, age: int, *, body: bool = False) -> Place:
    slots = Checkpoints(scene.pair.secondary, scene.pair.superblock, scene.pair.pool)
    return slots.offset(scene.loaded.number - age) + (PAGE if body else 0), 512 if body else PAGE


def _map_segment(scene: Scene) -> Place:
    newest = scene.loaded.chain.maps[-1]
    return scene.pair.superblock.segment_offset(newest.record_segments[-1]), PAGE


def _index(scene: Scene) -> Place:
    delta_map = next(m for m in scene.loaded.chain.maps if m.indexed)
    return scene.pair.superblock.segment_offset(delta_map.index_segments[0]), 64


TARGETS = [
    Target("superblock A of the primary", PRIMARY, _superblock(PRIMARY, 0), "EC102"),
    Target("superblock B of the primary", PRIMARY, _superblock(PRIMARY, 1), "EC102"),
    Target("superblock A of the secondary", SECONDARY, _superblock(SECONDARY, 0), "EC102"),
    Target("superblock B of the secondary", SECONDARY, _superblock(SECONDARY, 1), "EC102"),
    Target("newest intent slot", PRIMARY, lambda scene: _slot(scene, 0), "EC201"),
    Target("older intent slot", PRIMARY, lambda scene: _slot(scene, 3), "EC201"),
    Target(
        "bitmap page", PRIMARY, lambda scene: (scene.pair.superblock.bitmap_offset, PAGE), "EC202"
    ),
    Target("newest checkpoint", SECONDARY, lambda scene: _checkpoint(scene, 0), "EC301"),
    Target("older checkpoint", SECONDARY, lambda scene: _checkpoint(scene, 1), "EC301"),
    Target(
        "newest checkpoint's body",
        SECONDARY,
        lambda scene: _checkpoint(scene, 0, body=True),
        "EC301",
    ),
    Target("segment header", SECONDARY, _map_segment, "EC401"),
    Target("record header", SECONDARY, lambda scene: scene.record_places()[0], "EC402"),
    Target("payload", SECONDARY, lambda scene: scene.record_places()[1], "EC403"),
    Target("index", SECONDARY, _index, "EC406"),
]
BY_NAME = {target.name: target for target in TARGETS}


def _flip(percent: int, bit: int) -> Callable[[Scene, int, Place], None]:
    def spoil(scene: Scene, side: int, place: Place) -> None:
        offset, length = place
        scene.disk(side).contents[offset + percent * length // 100] ^= 1 << bit

    return spoil


def _zero(scene: Scene, side: int, place: Place) -> None:
    offset, length = place
    scene.disk(side).contents[offset : offset + length] = bytes(length)


def _unreadable(scene: Scene, side: int, place: Place) -> None:
    offset, length = place
    bad = range(offset // SECTOR, -(-(offset + length) // SECTOR))
    scene.disk(side).bad_sectors.update(bad)


def _copied(scene: Scene, side: int, place: Place, image: bytes) -> None:
    offset, length = place
    scene.disk(side).contents[offset : offset + length] = image[offset : offset + length]


DAMAGES = {
    "a bit at the start": _flip(0, 0),
    "a bit in the middle": _flip(50, 3),
    "a bit near the end": _flip(99, 7),
    "zeros": _zero,
    "unreadable": _unreadable,
}


def start_and_compare(scene: Scene) -> None:
    """Start the service: it refuses, or everything that it tells is true."""
    pair = scene.pair
    try:
        pair.start()
    except EbbtideError:
        return
    assert pair.read(pair.volume) == scene.contents
    right, _ = pair.hold_against_states(every=9)
    assert right, "not one point is left"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_damage_is_named_and_never_read_as_data(fresh: Scene, target: Target, damage: str) -> None:
    place = target.place(fresh)
    DAMAGES[damage](fresh, target.side, place)
    found, _ = fresh.pair.check()
    assert_named(found, target.code, place)
    start_and_compare(fresh)


def assert_named(found: Sequence[Finding], code: str, place: Place) -> None:
    """One finding with that code, whose place (if it has one) touches `place`."""
    named = [finding for finding in found if finding.code == code]
    assert named, [str(finding) for finding in found]
    offset, length = place
    assert any(
        finding.offset is None
        or finding.length is None
        or (finding.offset < offset + length and offset < finding.offset + finding.length)
        for finding in named
    ), [str(finding) for finding in named]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_structure_of_another_set_is_named_and_not_believed(fresh: Scene, target: Target) -> None:
    place = target.place(fresh)
    _copied(fresh, target.side, place, fresh.foreign[target.side - 1])
    found, _ = fresh.pair.check()
    expected = "EC105" if target.name.startswith("superblock") else target.code
    assert_named(found, expected, place)
    start_and_compare(fresh)


OLDER = {
    "older intent slot": "EC203",
    "older checkpoint": "EC303",
    "segment header": "EC401",
    "record header": "EC402",
    "payload": "EC403",
}
"""What an older version of a structure, as a disk that lost a write leaves it, is named."""


@pytest.mark.parametrize("name", OLDER)
def test_an_older_version_is_named_and_never_read_as_data(fresh: Scene, name: str) -> None:
    target = BY_NAME[name]
    offset, length = target.place(fresh)
    if name == "older checkpoint":
        length = fresh.pair.superblock.checkpoint_size
    _copied(fresh, target.side, (offset, length), fresh.before[target.side - 1])
    found, _ = fresh.pair.check()
    assert_named(found, OLDER[name], (offset, length))
    start_and_compare(fresh)


@pytest.mark.parametrize("copy", [0, 1])
def test_an_older_superblock_is_named_and_the_newer_one_counts(fresh: Scene, copy: int) -> None:
    pair = fresh.pair
    pair.start(with_secondary=False)  # a generation of its own
    pair.stop()
    _copied(fresh, PRIMARY, _superblock(PRIMARY, copy)(fresh), fresh.now[0])
    found, _ = pair.check()
    assert "EC104" in codes(found)
    assert pair.load(pair.primary).parents[0] == pair.load(pair.secondary).generation


@pytest.mark.parametrize("role", [PRIMARY, SECONDARY])
def test_both_superblocks_gone_is_refused(fresh: Scene, role: int) -> None:
    for copy in (0, 1):
        place = _superblock(role, copy)(fresh)
        _flip(30, 2)(fresh, role, place)
    found, verdict = fresh.pair.check()
    assert "EC103" in codes(found)
    assert verdict.errors
    with pytest.raises(FormatDamaged):
        fresh.pair.start()


def test_both_checkpoints_gone_is_refused(fresh: Scene) -> None:
    for age in (0, 1):
        _flip(1, 2)(fresh, SECONDARY, _checkpoint(fresh, age))
    found, _ = fresh.pair.check()
    assert "EC302" in codes(found)
    with pytest.raises(FormatDamaged, match="checkpoint"):
        fresh.pair.start()


def test_the_secondary_can_be_left_out_when_it_is_damaged(fresh: Scene) -> None:
    """What the refusal advises: hosts are served, and their writes are tracked."""
    for age in (0, 1):
        _flip(1, 2)(fresh, SECONDARY, _checkpoint(fresh, age))
    fresh.pair.start(with_secondary=False)
    assert fresh.pair.read(fresh.pair.volume) == fresh.contents
    assert fresh.pair.volume.state == "tracking"


def test_a_point_that_needs_damaged_data_answers_with_an_error(fresh: Scene) -> None:
    """And only that: the newest state, and points before it, are as good as before."""
    pair = fresh.pair
    segment, page = fresh.loaded.chain.maps[-1].record_segments[-1], 1
    stream = Stream(pair.secondary, pair.superblock, pair.pool)
    begin = pair.superblock.segment_offset(segment)
    view = fresh.disk(SECONDARY).view[begin : begin + pair.superblock.segment_size]
    row = as_rows(stream.record(view, segment, page).entries)[-1]
    fresh.disk(SECONDARY).contents[int(row["location"]) * SECTOR] ^= 1
    pair.start()
    with pytest.raises(OSError, match="read"):
        pair.point(f"write:{row['write']}")
    before = max(number for number in pair.states if number < row["write"])
    assert pair.point(f"write:{before}") == pair.states[before]
    assert pair.read(pair.volume) == fresh.contents


def test_a_damaged_intent_slot_lets_no_write_number_come_again(fresh: Scene) -> None:
    """What the damaged slot had reserved is skipped."""
    pair = fresh.pair
    log = DirtyRegionLog(pair.primary, pair.superblock, pair.pool)
    pair.run(log.load())
    for _ in range(2):
        log.ceiling += CEILING_STEP
        pair.run(log.store_slot())
    reserved = log.ceiling
    _flip(10, 1)(fresh, PRIMARY, _slot(fresh, 0))
    pair.start()
    assert pair.volume.write_number >= reserved - 1


def test_only_both_disks_together_show_a_damaged_base(fresh: Scene) -> None:
    """The base image has no checksums: alone, the secondary looks sound."""
    fresh.pair.start()
    fresh.pair.stop()  # in order: nothing is dirty
    hidden = fresh.pair.run(_newest_map(fresh)).extents
    sector = next(
        sector
        for sector in range(fresh.pair.superblock.volume_size // SECTOR)
        if not any(s <= sector < e for s, e in zip(*map(list, hidden), strict=True))
    )
    base = fresh.pair.superblock.base_offset
    fresh.disk(SECONDARY).contents[base + sector * SECTOR + 7] ^= 1
    alone, verdict = fresh.pair.check(fresh.pair.secondary)
    assert not verdict.errors, [str(finding) for finding in alone]
    found, verdict = fresh.pair.check()
    different = next(finding for finding in found if finding.code == "EC501")
    assert different.offset is not None
    assert different.length is not None
    assert different.offset <= sector * SECTOR < different.offset + different.length
    assert verdict.errors == 1


async def _newest_map(scene: Scene) -> PitMap:
    pair = scene.pair
    stream = Stream(pair.secondary, pair.superblock, pair.pool)
    loaded = await Checkpoints(pair.secondary, pair.superblock, pair.pool).load()
    return PitMap(0, [as_rows((await stream.load(m))[0]) for m in loaded.chain.maps])
