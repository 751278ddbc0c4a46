"""Checkpoints: what goes in comes out, one slot always stands, and nonsense is damage."""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.cdp import checkpoint, format, superblock
from appliance.cdp.chain import Chain
from appliance.cdp.checkpoint import Checkpoints, Loaded, Tail
from appliance.cdp.delta_map import DeltaMap, MapKind, MapOrder
from appliance.cdp.extents import Extents, extents
from appliance.cdp.format import PAGE
from appliance.cdp.interfaces import FLUSH, WRITE, DiskRequest
from appliance.cdp.memory import BufferPool
from appliance.cdp.points import Gap, Snapshot
from appliance.cdp.policies import Ack, Policies, Throttle
from appliance.cdp.superblock import Superblock
from appliance.cdp.suspects import Suspects, Suspicion
from appliance.cdp.sync_progress import Phase, ScanKind, SyncProgress
from appliance.cdp.tasks import Cancelled, Task
from appliance.errors import FormatDamaged, NoRoom
from appliance.simulated.disk import SimulatedDisk
from appliance.simulated.medium import Medium
from appliance.simulated.world import World

u32 = st.integers(0, 2**32 - 1)
number = st.integers(0, format.NUMBER_LIMIT - 1)
time_ns = st.integers(-(2**63), 2**63 - 1)
names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=18
)


@pytest.fixture(scope="module")
def geometry() -> Superblock:
    world = World(1)
    primary = SimulatedDisk(world, Medium("p", 1 << 20))
    secondary = SimulatedDisk(world, Medium("s", 16 << 20))
    return superblock.plan("finance", primary, secondary, 1).for_peer()


@st.composite
def extents_of_it(draw: st.DrawFn) -> Extents:
    """Of the volume of `geometry`, which has 1904 sectors."""
    starts = draw(st.lists(st.integers(0, 200), max_size=4))
    return extents(np.array(starts, np.int64) * 8, np.array(starts, np.int64) * 8 + 8)


@st.composite
def scans(draw: st.DrawFn) -> SyncProgress:
    return SyncProgress(
        draw(st.sampled_from(ScanKind)),
        draw(st.sampled_from(Phase)),
        draw(st.booleans()),
        draw(number),
        draw(number),
        draw(number),
        draw(extents_of_it()),
    )


@st.composite
def chains(draw: st.DrawFn, segment_count: int = 32) -> Chain:
    free = list(range(1, segment_count))
    maps = []
    write = 0
    for map_id in range(draw(st.integers(0, 5))):
        first = write + draw(st.integers(1, 1000))
        write = first + draw(st.integers(0, 1000))
        own = [free.pop() for _ in range(draw(st.integers(1, 4)))]
        index = [free.pop()] if draw(st.booleans()) else []
        maps.append(
            DeltaMap(
                id=map_id + 1,
                kind=draw(st.sampled_from(list(MapKind))),
                order=draw(st.sampled_from(list(MapOrder))),
                epoch=draw(number),
                first_write=first,
                last_write=write,
                opened=draw(time_ns),
                closed=draw(time_ns),
                before_crc=draw(u32),
                payload_bytes=draw(number),
                records=draw(number),
                record_segments=own,
                index_segments=index,
                index_crc=draw(u32),
                indexed=bool(index),
                entry_count=draw(number),
                mark_count=draw(number),
                _entries=None,
                _marks=None,
            )
        )
    snapshots = [
        Snapshot(name, draw(number), draw(time_ns), draw(st.booleans()))
        for name in draw(st.lists(names, max_size=4, unique=True))
    ]
    gaps = [Gap(draw(number), draw(number), draw(names)[:10], draw(time_ns)) for _ in range(2)]
    return Chain(
        next_write=draw(number),
        next_map=draw(number),
        epoch=draw(number),
        elapsed_ns=draw(number),
        clock_epoch=draw(u32),
        floor=draw(number),
        floor_time=draw(time_ns),
        baseline_whole=draw(st.booleans()),
        incomplete_from=draw(number),
        maps=maps,
        snapshots={snapshot.name: snapshot for snapshot in snapshots},
        gaps=gaps,
        restoring=draw(st.one_of(st.none(), st.tuples(number, st.integers(1, 2**40)))),
        suspects=Suspects().plus(
            *(
                Suspicion(blocks, draw(number), draw(number), draw(number))
                for blocks in draw(st.lists(extents_of_it(), max_size=2))
            )
        ),
        scan=draw(st.one_of(st.none(), scans())),
        paused=draw(st.booleans()),
    )


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_what_goes_in_comes_out(geometry: Superblock, data: st.DataObject) -> None:
    chain = data.draw(chains())
    tail, order = Tail(0, data.draw(u32)), data.draw(number)
    policies = Policies(data.draw(st.sampled_from(Ack)), Throttle(data.draw(u32), data.draw(u32)))
    raw = checkpoint.encode(geometry, 7, chain, tail, order, policies)
    assert not len(raw) % PAGE
    loaded = checkpoint.decode(geometry, raw, "it")
    assert loaded == Loaded(7, geometry.generation, chain, tail, order, policies)
    if chain.scan is not None:
        assert loaded.chain.scan is not None
        for ours, theirs in zip(chain.scan.compare, loaded.chain.scan.compare, strict=True):
            assert np.array_equal(ours, theirs)


def example() -> Chain:
    """Two maps, two snapshots and a gap."""
    first = DeltaMap(1, MapKind.HOST, 1, 1, 9, 5, 0, closed=6, records=3, record_segments=[1, 2])
    second = DeltaMap(4, MapKind.RECOVERY, 2, 12, 12, 7, 9, closed=8, records=1)
    second.record_segments, second.index_segments, second.indexed = [5], [3], True
    for delta_map in (first, second):
        delta_map.forget()
    return Chain(
        next_map=5,
        epoch=3,
        baseline_whole=True,
        maps=[first, second],
        snapshots={"a": Snapshot("a", 3, 5), "b": Snapshot("b", 12, 8, True)},
        gaps=[Gap(10, 11, "why", 6)],
    )


def encoded(geometry: Superblock, chain: Chain, number: int = 1) -> bytes:
    return checkpoint.encode(geometry, number, chain, Tail(0, 0), 1, Policies())


def test_what_does_not_fit_a_slot_is_refused(geometry: Superblock) -> None:
    chain = example()
    chain.snapshots = {str(n): Snapshot(str(n), 3, 5) for n in range(20_000)}
    with pytest.raises(NoRoom, match="directory"):
        encoded(geometry, chain)


def test_any_flipped_bit_is_damage_or_padding(geometry: Superblock) -> None:
    raw = encoded(geometry, example())
    whole = checkpoint.decode(geometry, raw, "it")
    covered = PAGE + format.unseal(format.Checkpoint, raw[:PAGE], "it").body_size
    source = random.Random(1)
    for bit in sorted(source.sample(range(len(raw) * 8), 600)):
        spoilt = bytearray(raw)
        spoilt[bit >> 3] ^= 1 << (bit & 7)
        if bit >> 3 < covered:
            with pytest.raises(FormatDamaged):
                checkpoint.decode(geometry, bytes(spoilt), "it")
        else:
            assert checkpoint.decode(geometry, bytes(spoilt), "it") == whole


@pytest.mark.parametrize("length", [0, 31, PAGE - 1, PAGE, PAGE + 1, PAGE + 100])
def test_a_truncated_one_is_damage(geometry: Superblock, length: int) -> None:
    with pytest.raises(FormatDamaged):
        checkpoint.decode(geometry, encoded(geometry, example())[:length], "it")


def test_one_of_another_volume_is_damage(geometry: Superblock) -> None:
    other = replace(geometry, set_id=bytes(16))
    with pytest.raises(FormatDamaged, match="another volume"):
        checkpoint.decode(geometry, encoded(other, example()), "it")


# A buggy or hostile writer, whose checksums are right


def resealed(geometry: Superblock, spoil: Any) -> bytes:
    """The example, its body spoilt, under right checksums."""
    raw = encoded(geometry, example())
    parsed = format.unseal(format.Checkpoint, raw[:PAGE], "it")
    body = bytearray(raw[PAGE : PAGE + parsed.body_size])
    header = {
        name: parsed[name] for name in parsed if name not in ("_io", "magic", "crc", "length")
    }
    body = spoil(header, body) or body
    header["body_crc"] = format.crc32c(bytes(body))
    return format.seal(format.Checkpoint, PAGE, **header) + bytes(body)


def row(body: bytearray, index: int, **fields: int) -> None:
    rows = np.frombuffer(body, format.MAP_DTYPE, 2).copy()
    for name, value in fields.items():
        rows[index][name] = value
    body[: rows.nbytes] = rows.tobytes()


SEGMENTS_AT = 2 * format.MAP_DTYPE.itemsize
NAME_AT = SEGMENTS_AT + 4 * 4 + 24


Spoil = Callable[[dict[str, Any], bytearray], object]

HOSTILE: dict[str, Spoil] = {
    "more maps than the body holds": lambda header, body: header.update(maps=2**32 - 1),
    "a body larger than the slot": lambda header, body: header.update(body_size=2**32 - 1),
    "a body that ends early": lambda header, body: body[:-1],
    "a tail outside the history": lambda header, body: header.update(tail_segment=2**32 - 1),
    "a tail inside a map": lambda header, body: header.update(tail_segment=5),
    "a policy that is none": lambda header, body: header.update(ack=2),
    "a number that cannot be": lambda header, body: header.update(number=2**64 - 1),
    "an epoch that cannot be": lambda header, body: header.update(epoch=2**63),
    "a segment outside the history": lambda header, body: body.__setitem__(
        slice(SEGMENTS_AT, SEGMENTS_AT + 4), struct.pack("<I", 10_000)
    ),
    "a segment in two maps": lambda header, body: body.__setitem__(
        slice(SEGMENTS_AT, SEGMENTS_AT + 4), struct.pack("<I", 5)
    ),
    "maps out of order": lambda header, body: row(body, 1, id=1),
    "writes out of order": lambda header, body: row(body, 1, first_write=8),
    "a map that ends before it begins": lambda header, body: row(body, 1, last_write=11),
    "a kind that is none": lambda header, body: row(body, 0, kind=77),
    "an order that is none": lambda header, body: row(body, 0, order=0),
    "more segments than there are": lambda header, body: row(body, 1, record_segments=2**32 - 1),
    "a write that cannot be": lambda header, body: row(body, 1, last_write=2**64 - 1),
    "a name that is no text": lambda header, body: body.__setitem__(NAME_AT, 0xFF),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nonsense_under_a_right_checksum_is_damage(geometry: Superblock, name: str) -> None:
    def spoil(header: dict[str, Any], body: bytearray) -> bytearray | None:
        made = HOSTILE[name](header, body)
        if isinstance(made, bytearray):
            header["body_size"] = len(made)
            return made
        return None

    with pytest.raises(FormatDamaged):
        checkpoint.decode(geometry, resealed(geometry, spoil), "it")


@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_any_byte_under_a_right_checksum_is_damage_or_makes_sense(
    geometry: Superblock, at: int, byte: int
) -> None:
    def spoil(header: dict[str, Any], body: bytearray) -> None:
        body[at % len(body)] = byte

    try:
        loaded = checkpoint.decode(geometry, resealed(geometry, spoil), "it")
    except FormatDamaged:
        return
    named = [n for delta_map in loaded.chain.maps for n in delta_map.segments]
    assert len(named) == len(set(named))
    assert all(n < geometry.segment_count for n in named)


# The two slots


class Slots:
    """Checkpoints on a simulated disk."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed)
        primary = SimulatedDisk(self.world, Medium("p", 1 << 20))
        self.disk = SimulatedDisk(self.world, Medium("s", 16 << 20))
        self.geometry = superblock.plan("finance", primary, self.disk, 1).for_peer()
        self.pool = BufferPool()
        self.checkpoints = Checkpoints(self.disk, self.geometry, self.pool)
        for floor in (1, 2):
            self.store(floor)

    def storing(self, floor: int) -> Task[None]:
        return Task(self.checkpoints.store(Chain(floor=floor), Tail(0, 0), 1, Policies()))

    def store(self, floor: int) -> None:
        self.world.run_until(self.storing(floor))

    def load(self) -> Loaded:
        fresh = Checkpoints(self.disk, self.geometry, self.pool)
        return self.world.run_until(Task(fresh.load()))


def test_the_newest_counts_and_the_other_stands_in_for_it() -> None:
    slots = Slots()
    assert slots.load().chain.floor == 2
    slots.disk.medium.contents[slots.checkpoints.offset(2) + 50] ^= 1
    assert slots.load().chain.floor == 1
    slots.disk.medium.contents[slots.checkpoints.offset(1) + 50] ^= 1
    with pytest.raises(FormatDamaged, match="checkpoint slot"):
        slots.load()


def test_an_unreadable_slot_is_stood_in_for() -> None:
    slots = Slots()
    slots.disk.medium.bad_sectors.add(slots.checkpoints.offset(2) // 512)
    assert slots.load().chain.floor == 1


def test_everything_is_flushed_before_a_slot_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots()
    seen: list[DiskRequest] = []
    submit = slots.disk.submit

    def watched(requests: Sequence[DiskRequest]) -> None:
        seen.extend(requests)
        submit(requests)

    monkeypatch.setattr(slots.disk, "submit", watched)
    slots.store(3)
    assert [request.kind for request in seen] == [FLUSH, WRITE]
    assert seen[-1].durable


@pytest.mark.parametrize("seed", range(12))
def test_one_that_is_cancelled_does_not_land_on_the_next(seed: int) -> None:
    """Both go to the same slot: the first has landed before its task is over."""
    slots = Slots(seed)
    storing = slots.storing(3)
    while not storing.finished:
        slots.world.step()
        if slots.disk.outstanding:
            storing.cancel()
    with pytest.raises(Cancelled):
        storing.result()
    assert not slots.disk.outstanding
    slots.store(4)
    assert slots.load().chain.floor == 4


def test_a_power_cut_leaves_the_old_or_the_new_one() -> None:
    for steps in range(6):
        for seed in range(8):
            slots = Slots(seed)
            slots.storing(3)
            for _ in range(steps):
                slots.world.step()
            slots.world = slots.world.power_cut()
            slots.disk = slots.disk.reopen()
            assert slots.load().chain.floor in (2, 3)
