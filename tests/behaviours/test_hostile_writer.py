"""Nonsense under right checksums, as a bug or an attacker would write it.

`check` and the service answer with findings and errors of their own, in finite
time: no other exception, no request outside the disk, no hang.
"""

import random
from collections.abc import Callable, Iterator

import pytest

from appliance.cdp import format
from appliance.cdp.checkpoint import Checkpoints
from appliance.cdp.format import PAGE
from appliance.cdp.stream import Stream
from appliance.cdp.superblock import RING_SLOTS, copies
from appliance.errors import EbbtideError, FormatDamaged
from tests.cdp.simulated_pair import PRIMARY_SIZE, SECONDARY_SIZE, SimulatedPair, codes

STEPS = 60_000
"""Far more than any of these lives takes."""


@pytest.fixture(scope="module")
def lived() -> tuple[SimulatedPair, tuple[bytes, bytes]]:
    pair = SimulatedPair(1, secondary_size=2 << 20)
    pair.start()
    pair.write_at_random(60)
    pair.idle()
    pair.write_at_random(20)
    pair.flush()
    pair.kill()
    return pair, pair.images()


@pytest.fixture
def pair(lived: tuple[SimulatedPair, tuple[bytes, bytes]]) -> Iterator[SimulatedPair]:
    found, images = lived
    states = dict(found.states)
    found.put_back(images)
    yield found
    found.states = states


def pages_of(pair: SimulatedPair, magic: bytes) -> list[tuple[bool, int]]:
    """Where whole pages with that magic lie: on the primary?, offset."""
    found = []
    for on_primary, disk in ((True, pair.primary), (False, pair.secondary)):
        contents = disk.medium.contents
        at = contents.find(magic)
        while at >= 0:
            if not at % PAGE:
                found.append((on_primary, at))
            at = contents.find(magic, at + 1)
    return found


def reseal(pair: SimulatedPair, on_primary: bool, offset: int) -> None:
    disk = pair.primary if on_primary else pair.secondary
    page = disk.medium.view[offset : offset + PAGE]
    format.seal_in_place(page, PAGE)


MAGICS = {
    "superblock": format.SUPERBLOCK_MAGIC,
    "intent slot": format.INTENT_MAGIC,
    "bitmap page": format.BITMAP_MAGIC,
    "checkpoint": format.CHECKPOINT_MAGIC,
    "segment": format.SEGMENT_MAGIC,
    "record": format.RECORD_MAGIC,
}
USED = {"superblock": 520, "intent slot": 120, "bitmap page": 80, "checkpoint": 210, "segment": 80}
"""Bytes of a page that mean something."""


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", MAGICS)
def test_random_nonsense(pair: SimulatedPair, name: str, seed: int) -> None:
    source = random.Random(seed)
    places = pages_of(pair, MAGICS[name])
    for on_primary, offset in source.sample(places, min(len(places), 3)):
        contents = (pair.primary if on_primary else pair.secondary).medium.contents
        for _ in range(source.randrange(1, 4)):
            at = source.randrange(32, USED.get(name, 400))
            value = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
            width = source.choice([1, 4, 8])
            contents[offset + at : offset + at + width] = bytes([value]) * width
        reseal(pair, on_primary, offset)
    assert_bearable(pair)


def assert_bearable(pair: SimulatedPair) -> None:
    pair.check()
    try:
        pair.start(until_protected=False)
        for _ in range(STEPS):
            if pair.volume.job is None:
                break
            pair.world.step()
        else:
            raise AssertionError("it goes round in circles")
        pair.point(f"write:{pair.volume.history.chain.newest_write}")  # type: ignore[union-attr]
    except (EbbtideError, OSError, AttributeError) as error:
        if isinstance(error, AttributeError):
            assert pair.volume.history is None


Spoil = Callable[[SimulatedPair], None]


def put(on_primary: bool, offset: int, at: int, raw: bytes) -> Spoil:
    def spoil(pair: SimulatedPair) -> None:
        contents = (pair.primary if on_primary else pair.secondary).medium.contents
        contents[offset + at : offset + at + len(raw)] = raw
        reseal(pair, on_primary, offset)

    return spoil


def every_slot(at: int, raw: bytes) -> Spoil:
    def spoil(pair: SimulatedPair) -> None:
        for slot in range(RING_SLOTS):
            put(True, pair.superblock.ring_offset + slot * PAGE, at, raw)(pair)

    return spoil


def every_record(at: int, raw: bytes) -> Spoil:
    def spoil(pair: SimulatedPair) -> None:
        for on_primary, offset in pages_of(pair, format.RECORD_MAGIC):
            put(on_primary, offset, at, raw)(pair)

    return spoil


def every_segment(at: int, raw: bytes) -> Spoil:
    def spoil(pair: SimulatedPair) -> None:
        for on_primary, offset in pages_of(pair, format.SEGMENT_MAGIC):
            put(on_primary, offset, at, raw)(pair)

    return spoil


ALL_ONES = b"\xff" * 8
HOSTILE: dict[str, tuple[Spoil, str]] = {
    "slots that count four billion regions": (every_slot(56, ALL_ONES[:4]), "EC201"),
    "slots of regions that are not there": (every_slot(64, ALL_ONES[:4]), "EC201"),
    "slots whose ceiling cannot be": (every_slot(40, ALL_ONES), "EC201"),
    "slots of another volume": (every_slot(16, bytes(16)), "EC201"),
    "a bitmap of regions that are not there": (
        lambda pair: put(True, pair.superblock.bitmap_offset, 3000, ALL_ONES)(pair),
        "EC202",
    ),
    "a bitmap page of another number": (
        lambda pair: put(True, pair.superblock.bitmap_offset, 32, b"\x01")(pair),
        "EC202",
    ),
    "records of another volume": (every_record(16, bytes(16)), "EC402"),
    "records of four billion entries": (every_record(100, ALL_ONES[:4]), "EC402"),
    "records of four gigabytes": (every_record(96, b"\x00\xf0\xff\xff"), "EC402"),
    "records whose writes are not their entries'": (every_record(48, bytes(8)), "EC402"),
    "entries outside the volume": (every_record(128, ALL_ONES[:7]), "EC402"),
    "entries that reach behind the volume": (every_record(152, b"\xff\xff\x00\x00"), "EC402"),
    "entries without length": (every_record(152, bytes(4)), "EC402"),
    "entries whose data lies before the record": (every_record(136, b"\x01" + bytes(7)), "EC402"),
    "entries whose data lies behind the disk": (every_record(136, bytes(5) + b"\x01"), "EC402"),
    "entries whose data wraps around": (every_record(136, b"\xfe" + ALL_ONES[:7]), "EC402"),
    "segments of another volume": (every_segment(16, bytes(16)), "EC401"),
    "segments that follow themselves": (every_segment(72, bytes(4)), "EC401"),
    "segments of a kind that is none": (every_segment(64, ALL_ONES[:4]), "EC401"),
    "segments that name a successor beyond the disk": (every_segment(72, ALL_ONES[:4]), "EC401"),
    "segments of another number": (every_segment(68, ALL_ONES[:4]), "EC401"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_known_nonsense_is_named(pair: SimulatedPair, name: str) -> None:
    spoil, code = HOSTILE[name]
    spoil(pair)
    found, _ = pair.check()
    assert code in codes(found), [str(finding) for finding in found]
    assert_bearable(pair)


@pytest.mark.parametrize("size", [0, PAGE, 64 << 10, 100_000 // 512 * 512])
def test_a_disk_that_was_cut_off(pair: SimulatedPair, size: int) -> None:
    """What lies behind the cut reads as zeros; the front copy of the superblock is whole."""
    primary, secondary = pair.images()
    pair.put_back((primary, secondary[:size].ljust(len(secondary), b"\0")))
    assert_bearable(pair)


def test_both_superblocks_of_noise() -> None:
    pair = SimulatedPair(1)
    noise = random.Random(1).randbytes(PAGE)
    for disk, role, size in (
        (pair.primary, format.PRIMARY, PRIMARY_SIZE),
        (pair.secondary, format.SECONDARY, SECONDARY_SIZE),
    ):
        for offset in copies(role, size):
            disk.medium.contents[offset : offset + PAGE] = noise
    found, verdict = pair.check()
    assert {finding.code for finding in found} == {"EC101"}
    assert verdict.errors == 2


def test_a_chain_of_segments_that_goes_in_circles_ends(pair: SimulatedPair) -> None:
    """The tail's segment names itself as its successor."""
    loaded = pair.run(Checkpoints(pair.secondary, pair.superblock, pair.pool).load())
    segment = loaded.tail.segment
    offset = pair.superblock.segment_offset(segment)
    put(False, offset, 72, segment.to_bytes(4, "little"))(pair)
    assert_bearable(pair)


@pytest.mark.parametrize(
    ("at", "raw", "reason"),
    [
        (16, bytes(16), "another volume"),
        (100, ALL_ONES[:4], "counts 4294967295 entries"),
        (100, bytes(4), "counts 0 entries"),
        (96, b"\x00\xf0\xff\xff", "does not fit"),
        (96, b"\x01\x00\x00\x00", "does not fit"),
        (48, bytes(8), "not those of its entries"),
        (32, ALL_ONES, "cannot be"),
        (128, ALL_ONES[:7], "outside the volume"),
        (152, b"\xff\xff\x00\x00", "outside the volume"),
        (152, bytes(4), "outside the volume"),
        (136, b"\x01" + bytes(7), "lies elsewhere"),
        (136, bytes(5) + b"\x01", "lies elsewhere"),
        (136, b"\xfe" + ALL_ONES[:7], "lies elsewhere"),
    ],
)
def test_a_record_that_cannot_be_is_damage(
    pair: SimulatedPair, at: int, raw: bytes, reason: str
) -> None:
    loaded = pair.run(Checkpoints(pair.secondary, pair.superblock, pair.pool).load())
    segment = loaded.chain.maps[-1].record_segments[0]
    begin = pair.superblock.segment_offset(segment)
    view = pair.secondary.medium.view[begin : begin + pair.superblock.segment_size]
    stream = Stream(pair.secondary, pair.superblock, pair.pool)
    assert stream.record(view, segment, 1).entries
    put(False, begin + PAGE, at, raw)(pair)
    with pytest.raises(FormatDamaged, match=reason):
        stream.record(view, segment, 1)
