"""Superblocks: geometry, copies, and what a buggy or hostile writer could put there."""

import random
import struct
from dataclasses import fields, replace
from typing import Any

import construct
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.cdp import format, superblock
from appliance.cdp.format import PAGE, PRIMARY, SECONDARY
from appliance.cdp.memory import BufferPool
from appliance.cdp.superblock import LEAST_SEGMENTS, RING_SLOTS, TAIL, Superblock, copies
from appliance.cdp.tasks import Task
from appliance.errors import DiskTooSmall, FormatDamaged, FormatTooNew
from appliance.simulated.disk import SimulatedDisk
from appliance.simulated.medium import Medium
from appliance.simulated.world import World

GIB = 1 << 30


class SizedDisk:
    """As much of a disk as planning looks at."""

    def __init__(self, size: int, logical_block: int = 512) -> None:
        self.identity = Medium("d", PAGE).identity
        self.size = size
        self.logical_block = logical_block


def plan(primary: int, secondary: int, blocks: tuple[int, int] = (512, 512)) -> Superblock:
    return superblock.plan(
        "finance",
        SizedDisk(primary, blocks[0]),  # type: ignore[arg-type]
        SizedDisk(secondary, blocks[1]),  # type: ignore[arg-type]
        created=1,
    )


@given(
    st.integers(2 * TAIL, 1 << 44),
    st.integers(1 << 20, 1 << 45),
    st.sampled_from([(512, 512), (512, 4096), (4096, 512), (4096, 4096)]),
)
@settings(max_examples=200, deadline=None)
def test_every_plan_can_be_and_fits_its_disks(
    primary: int, secondary: int, blocks: tuple[int, int]
) -> None:
    try:
        planned = plan(primary, secondary, blocks)
    except DiskTooSmall as error:
        needed = error.fields["needed"]
        assert isinstance(needed, int)
        assert needed > secondary
        return
    assert superblock.decode(superblock.encode(planned), "it") == planned
    assert superblock.decode(superblock.encode(planned.for_peer()), "it") == planned.for_peer()
    superblock.check_fits(planned, primary, "it")
    superblock.check_fits(planned.for_peer(), secondary, "it")
    assert planned.volume_size <= primary - TAIL
    assert planned.sector == blocks[0]
    assert planned.payload_align == max(blocks)
    assert planned.segment_count >= LEAST_SEGMENTS
    first, second = copies(PRIMARY, primary)
    assert planned.bitmap_offset + planned.bitmap_pages * PAGE == first
    assert planned.ring_offset + RING_SLOTS * PAGE == second


def test_a_primary_that_is_all_tail_is_too_small() -> None:
    with pytest.raises(DiskTooSmall):
        plan(2 * TAIL - 1, GIB)


def test_a_secondary_needs_room_for_the_base_and_some_history() -> None:
    with pytest.raises(DiskTooSmall) as caught:
        plan(GIB, GIB)
    needed = caught.value.fields["needed"]
    assert isinstance(needed, int)
    assert plan(GIB, needed).segment_count >= LEAST_SEGMENTS


def test_a_child_follows_its_parent_and_siblings_do_not_follow_each_other() -> None:
    parent = plan(GIB, 4 * GIB)
    child, sibling = parent.child(), parent.child()
    assert child.follows(parent)
    assert child.child().follows(parent)
    assert not parent.follows(child)
    assert not child.follows(sibling)
    assert child.sequence > parent.sequence


def test_generations_that_the_peer_has_borne_are_remembered_so_far_back() -> None:
    oldest = plan(GIB, 4 * GIB)
    youngest = oldest.child()
    for _ in range(format.PARENTS - 1):
        youngest = youngest.shared(youngest.parents[0]).child()
    assert superblock.decode(superblock.encode(youngest), "it") == youngest
    assert youngest.follows(oldest)
    assert not youngest.shared(youngest.parents[0]).child().follows(oldest)


def test_generations_made_alone_leave_those_that_the_peer_has_borne() -> None:
    oldest = plan(GIB, 4 * GIB)
    youngest = oldest
    for starts in range(3 * format.PARENTS):
        before, youngest = youngest, youngest.child()
        assert youngest.follows(oldest)
        assert youngest.follows(before) == (starts < format.PARENTS)
    assert superblock.decode(superblock.encode(youngest), "it") == youngest


def test_what_the_peer_still_bears_is_forgotten_last() -> None:
    """It was to be given the present generation, again and again, and never was."""
    oldest = plan(GIB, 4 * GIB)
    youngest = oldest
    for _ in range(3 * format.PARENTS):
        youngest = youngest.child().shared(oldest.generation)
        assert youngest.follows(oldest)
    assert len(set(youngest.parents)) == format.PARENTS


def test_a_generation_made_alone_is_known_for_that_until_it_is_shared() -> None:
    parent = plan(GIB, 4 * GIB)
    child = superblock.decode(superblock.encode(parent.child()), "it")
    assert (parent.alone, child.alone, child.for_peer().alone) == (False, True, False)
    shared = child.shared(parent.generation)
    assert superblock.decode(superblock.encode(shared), "it") == shared
    assert (shared.alone, shared.generation) == (False, child.generation)
    assert shared.sequence > child.sequence
    assert parent.has_layout_of(child)


# What a buggy or hostile writer could put there, under a right checksum


def test_absurd_numbers_are_damage_or_do_no_harm() -> None:
    """Each number of a superblock is set to absurd values: what is believed makes sense."""
    planned = plan(GIB, 4 * GIB)
    source = random.Random(1)
    numbers = [
        field.name for field in fields(planned) if isinstance(getattr(planned, field.name), int)
    ]
    absurd = [0, 1, 511, 513, PAGE - 1, 2**31, 2**32 - 1, 2**62, 2**64 - PAGE, 2**64 - 1]
    refused = 0
    for name in numbers:
        for value in [*absurd, source.getrandbits(32)]:
            try:
                spoilt_one: Any = {name: value}
                raw = superblock.encode(replace(planned, **spoilt_one))
            except construct.ConstructError:
                continue  # it does not fit its field
            try:
                found = superblock.decode(raw, "it")
                superblock.check_fits(found, GIB, "it")
            except FormatDamaged:
                refused += 1
            else:
                assert found.segment_size
                assert found.region_size
                assert found.regions <= found.bitmap_pages * format.REGIONS_PER_PAGE
                assert found.ring_offset < GIB
    assert refused > 100


def spoilt(planned: Superblock, **others: object) -> bytes:
    """Sealed again, with fields that `encode` would never write."""
    parsed = format.unseal(format.Superblock, superblock.encode(planned), "it")
    made = {name: parsed[name] for name in parsed if name not in ("_io", "magic", "crc", "length")}
    return format.seal(format.Superblock, PAGE, **{**made, **others})


@pytest.mark.parametrize(
    "others",
    [
        {"name": b"\xff\xfe".ljust(64, b"\0")},
        {"role": 0},
        {"role": 3},
        {"ring_slots": RING_SLOTS + 1},
        {"sector": 520},
        {"payload_align": 512, "sector": 4096},
        {"segment_size": 0},
        {"segment_count": 0},
        {"region_size": 0},
        {"sequence": 2**64 - 1},
    ],
    ids=str,
)
def test_what_no_writer_of_ours_writes_is_damage(others: dict[str, object]) -> None:
    with pytest.raises(FormatDamaged):
        superblock.decode(spoilt(plan(GIB, 4 * GIB), **others), "it")


def test_a_newer_feature_is_told_apart_from_damage() -> None:
    with pytest.raises(FormatTooNew, match="0x4"):
        superblock.decode(spoilt(plan(GIB, 4 * GIB), incompat=4), "it")


# On a disk


@pytest.fixture
def world() -> World:
    return World(1)


@pytest.fixture
def disk(world: World) -> SimulatedDisk:
    return SimulatedDisk(world, Medium("s", 8 << 20))


def made(disk: SimulatedDisk) -> Superblock:
    return plan(1 << 20, disk.size).for_peer()


def test_the_newest_whole_copy_counts(world: World, disk: SimulatedDisk) -> None:
    pool = BufferPool()
    older = made(disk)
    newer = older.child()
    world.run_until(Task(superblock.store(disk, pool, older)))
    for copy in (0, 1):
        offset = copies(SECONDARY, disk.size)[copy]
        kept = bytes(disk.medium.contents)
        disk.medium.contents[offset : offset + PAGE] = superblock.encode(newer)
        assert world.run_until(Task(superblock.load(disk, pool))) == newer
        disk.medium.contents[offset + 100] ^= 1
        assert world.run_until(Task(superblock.load(disk, pool))) == older
        disk.medium.contents[:] = kept


def test_a_crash_while_storing_leaves_the_old_or_the_new_one() -> None:
    """At every step of the two writes, torn as it may be."""
    for steps in range(8):
        for seed in range(6):
            world = World(seed)
            pool = BufferPool()
            disk = SimulatedDisk(world, Medium("s", 8 << 20))
            older = made(disk)
            newer = older.child()
            world.run_until(Task(superblock.store(disk, pool, older)))
            Task(superblock.store(disk, pool, newer))
            for _ in range(steps):
                world.step()
            world = world.power_cut()
            found = world.run_until(Task(superblock.load(disk.reopen(), pool)))
            assert found in (older, newer)


def test_a_blank_disk_has_none(world: World, disk: SimulatedDisk) -> None:
    assert world.run_until(Task(superblock.load(disk, BufferPool()))) is None


def test_a_disk_too_small_for_any_has_none(world: World) -> None:
    tiny = SimulatedDisk(world, Medium("t", TAIL))
    assert world.run_until(Task(superblock.load(tiny, BufferPool()))) is None


def test_an_unreadable_copy_is_read_from_the_other(world: World, disk: SimulatedDisk) -> None:
    pool = BufferPool()
    ours = made(disk)
    world.run_until(Task(superblock.store(disk, pool, ours)))
    disk.medium.bad_sectors.add(copies(SECONDARY, disk.size)[0] // 512)
    assert world.run_until(Task(superblock.load(disk, pool))) == ours


def test_copies_of_different_disks_are_refused(world: World, disk: SimulatedDisk) -> None:
    pool = BufferPool()
    world.run_until(Task(superblock.store(disk, pool, made(disk))))
    offset = copies(SECONDARY, disk.size)[1]
    disk.medium.contents[offset : offset + PAGE] = superblock.encode(made(disk).next())
    with pytest.raises(FormatDamaged, match="different disks"):
        world.run_until(Task(superblock.load(disk, pool)))


def test_a_superblock_of_a_larger_disk_is_refused(world: World, disk: SimulatedDisk) -> None:
    pool = BufferPool()
    larger = plan(1 << 20, 16 << 20).for_peer()
    world.run_until(Task(superblock.store(disk, pool, larger)))
    with pytest.raises(FormatDamaged, match="it needs"):
        world.run_until(Task(superblock.load(disk, pool)))


def test_the_length_is_part_of_what_is_checked() -> None:
    raw = bytearray(superblock.encode(plan(GIB, 4 * GIB)))
    raw[12:16] = struct.pack("<I", 64)
    raw[8:12] = struct.pack("<I", format.crc32c(bytes(raw[12:64])))
    with pytest.raises(FormatDamaged, match="length"):
        superblock.decode(bytes(raw), "it")
