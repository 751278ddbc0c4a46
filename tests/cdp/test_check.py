"""`check` and `dump` over sound and odd pairs.  Damage to each structure: see `behaviours`."""

import errno
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.cdp.chain import Chain
from appliance.cdp.check import findings
from appliance.cdp.check.check import Check
from appliance.cdp.check.findings import KINDS, Finding
from appliance.cdp.check.report import LISTED, Report
from appliance.cdp.checkpoint import Checkpoints, Tail
from appliance.cdp.dump import Dump, Structure
from appliance.cdp.format import ENTRY, MARK, PAGE, PRIMARY, crc32c, seal_in_place
from appliance.cdp.interfaces import READ, SECTOR
from appliance.cdp.points import Gap, Snapshot
from appliance.cdp.superblock import copies
from appliance.errors import DiskFailed, FormatDamaged
from appliance.events import KINDS as EVENTS
from tests.cdp.simulated_pair import SimulatedPair, codes


@pytest.fixture(scope="module")
def lives() -> tuple[SimulatedPair, tuple[bytes, bytes]]:
    pair = SimulatedPair(1, secondary_size=2 << 20)
    pair.start()
    pair.write_at_random(40)
    pair.idle()
    pair.run(pair.volume.take_snapshot("one"))
    pair.write_at_random(10)
    pair.stop()
    return pair, pair.images()


@pytest.fixture
def pair(lives: tuple[SimulatedPair, tuple[bytes, bytes]]) -> Iterator[SimulatedPair]:
    found, images = lives
    states = dict(found.states)
    found.put_back(images)
    yield found
    found.states = states


def texts(found: list[Finding]) -> str:
    return "\n".join(str(finding) for finding in found)


# Sound pairs


def test_a_pair_that_stopped_in_order_is_sound(pair: SimulatedPair) -> None:
    found, verdict = pair.check()
    assert not found, texts(found)
    assert verdict.errors == verdict.warnings == verdict.notes == 0


def test_the_order_of_the_disks_does_not_matter(pair: SimulatedPair) -> None:
    found, _ = pair.check(pair.secondary, pair.primary)
    assert not found


def test_nothing_is_written(pair: SimulatedPair) -> None:
    before = pair.images()
    writes = [disk.medium.counters.writes for disk in (pair.primary, pair.secondary)]
    pair.check()
    assert pair.images() == before
    assert writes == [disk.medium.counters.writes for disk in (pair.primary, pair.secondary)]


def test_all_of_the_volume_is_read_on_both_disks(pair: SimulatedPair) -> None:
    """A sector that cannot be read is found wherever it lies, before it is needed."""
    size = pair.superblock.volume_size
    for sector in range(3, size // SECTOR, 17):
        for disk, base in ((pair.primary, 0), (pair.secondary, pair.superblock.base_offset)):
            disk.medium.bad_sectors.add(base // SECTOR + sector)
            found, verdict = pair.check()
            assert verdict.errors >= 1, f"{disk.identity.id} sector {sector}"
            assert codes(found) <= {"EC502", "EC503", "EC504"}
            disk.medium.bad_sectors.clear()


@pytest.mark.parametrize("seed", range(2, 8))
def test_any_life_leaves_a_sound_pair(seed: int) -> None:
    """However it ended; a power cut may leave unflushed records behind the journal's end."""
    blocks = (512, 4096)
    pair = SimulatedPair(
        seed, primary_block=blocks[seed % 2], secondary_block=blocks[seed // 2 % 2]
    )
    for _ in range(3):
        pair.start(until_protected=pair.random.random() < 0.8)
        pair.write_at_random(pair.random.randrange(60))
        pair.random.choice([pair.stop, pair.kill, pair.power_cut])()
        for disks in ((), (pair.primary,), (pair.secondary,)):
            found, verdict = pair.check(*disks)
            assert not verdict.errors, texts(found)
            assert codes(found) <= {"EC408"}, texts(found)


def test_a_pair_that_was_just_made_is_sound() -> None:
    found, verdict = SimulatedPair(1).check()
    assert not codes(found), texts(found)
    assert {"EC205", "EC506"} <= {finding.code for finding in found}
    assert not verdict.errors


def test_a_pair_after_a_crash_tells_what_is_left_to_do(pair: SimulatedPair) -> None:
    pair.start()
    pair.write_at_random(5)
    pair.kill()
    found, verdict = pair.check()
    assert {finding.code for finding in found} == {"EC204", "EC409", "EC505"}
    assert verdict.notes == 3


def test_one_disk_alone(pair: SimulatedPair) -> None:
    for disk, role in ((pair.primary, "primary"), (pair.secondary, "secondary")):
        found, verdict = pair.check(disk)
        assert [finding.code for finding in found] == ["EC113"]
        assert f"the {role} of volume 'finance'" in found[0].reason
        assert not verdict.errors


def test_the_same_role_twice(pair: SimulatedPair) -> None:
    found, verdict = pair.check(pair.secondary, pair.secondary.reopen())
    assert codes(found) == {"EC111"}
    assert verdict.errors == 2


def test_progress_reaches_its_end(pair: SimulatedPair) -> None:
    seen: list[tuple[int, int]] = []
    disks = (pair.primary, pair.secondary)
    check = Check(disks, pair.pool, lambda _: None, lambda done, total: seen.append((done, total)))
    pair.run(check.run())
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(done <= total for done, total in seen)
    done, total = seen[-1]
    assert done > total * 0.8


# Contents


def test_a_difference_is_told_to_the_sector(pair: SimulatedPair) -> None:
    pair.primary.medium.contents[PAGE * 3 + 5] ^= 1
    pair.primary.medium.contents[PAGE * 3 + 515] ^= 1
    pair.primary.medium.contents[PAGE * 9 + 5] ^= 1
    found, verdict = pair.check()
    assert codes(found) == {"EC501"}
    assert [(f.offset, f.length) for f in found] == [(PAGE * 3, 1024), (PAGE * 9, 512)]
    assert verdict.errors == 2


def test_dirty_regions_are_not_compared(pair: SimulatedPair) -> None:
    pair.start(with_secondary=False)
    pair.write(PAGE, b"\x55" * PAGE)
    pair.stop()
    found, verdict = pair.check()
    assert not verdict.errors, texts(found)
    assert {finding.code for finding in found} == {"EC112", "EC205", "EC505"}
    region = pair.superblock.region_size
    assert f"{region} bytes" in texts(found)
    pair.primary.medium.contents[2 * region] ^= 1
    found, _ = pair.check()
    assert codes(found) == {"EC501"}


def test_a_pulled_disk_ends_the_check(pair: SimulatedPair) -> None:
    pair.primary.medium.remove()
    with pytest.raises(DiskFailed):
        pair.check()


def test_a_read_error_that_goes_away_is_survived(pair: SimulatedPair) -> None:
    pair.secondary.medium.fail_next(READ, errno.EIO, 1)
    _, verdict = pair.check()
    assert verdict.errors + verdict.warnings <= 1


# The directory


def spoil_directory(pair: SimulatedPair, **changes: object) -> None:
    """Write a checkpoint that no sound service would."""
    checkpoints = Checkpoints(pair.secondary, pair.superblock.for_peer(), pair.pool)
    loaded = pair.run(checkpoints.load())
    chain: Chain = replace(loaded.chain, **changes)  # type: ignore[arg-type]
    tail = Tail(loaded.tail.segment, loaded.tail.crc)
    pair.run(checkpoints.store(chain, tail, loaded.next_order, loaded.policies))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"snapshots": {"lost": Snapshot("lost", 10_000, 1)}}, "EC306", "snapshot 'lost'"),
        ({"gaps": [Gap(30, 20, "why")]}, "EC307", "writes 30 to 20"),
        ({"gaps": [Gap(10, 20, "why"), Gap(15, 25, "why")]}, "EC307", "writes 15 to 25"),
        ({"next_map": 1}, "EC305", "the next delta map is 1"),
    ],
)
def test_a_directory_that_contradicts_itself(
    pair: SimulatedPair, changes: dict[str, object], code: str, words: str
) -> None:
    spoil_directory(pair, **changes)
    found, verdict = pair.check()
    assert code in codes(found)
    assert words in texts(found)
    assert verdict.errors


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("entry_count", "entries: the directory says"),
        ("payload_bytes", "bytes: the directory says"),
        ("last_write", "last write: the directory says"),
        ("records", "records can be read"),
    ],
)
def test_a_row_that_says_other_things_than_its_records(
    pair: SimulatedPair, field: str, words: str
) -> None:
    loaded = pair.run(Checkpoints(pair.secondary, pair.superblock, pair.pool).load())
    last = loaded.chain.maps[-1]
    setattr(last, field, getattr(last, field) + 1)
    spoil_directory(pair, maps=loaded.chain.maps)
    found, verdict = pair.check()
    assert verdict.errors
    assert words in texts(found)


def test_a_generation_that_nobody_knows(pair: SimulatedPair) -> None:
    stranger = replace(pair.superblock.for_peer(), generation=bytes(16))
    checkpoints = Checkpoints(pair.secondary, stranger, pair.pool)
    loaded = pair.run(checkpoints.load())
    pair.run(checkpoints.store(loaded.chain, loaded.tail, loaded.next_order, loaded.policies))
    found, _ = pair.check()
    assert codes(found) == {"EC304"}


def test_an_index_that_contradicts_its_records(pair: SimulatedPair) -> None:
    """Under a right checksum: the index is what readers would believe."""
    loaded = pair.run(Checkpoints(pair.secondary, pair.superblock, pair.pool).load())
    indexed = next(delta_map for delta_map in loaded.chain.maps if delta_map.indexed)
    offset = pair.superblock.segment_offset(indexed.index_segments[0])
    size = indexed.entry_count * ENTRY.size + indexed.mark_count * MARK.size
    contents = pair.secondary.medium.contents
    contents[offset + 28] ^= 1  # the CRC of its first entry
    indexed.index_crc = crc32c(bytes(contents[offset : offset + size]))
    spoil_directory(pair, maps=loaded.chain.maps)
    found, _ = pair.check()
    assert codes(found) == {"EC407"}


def test_a_disk_of_a_newer_release(pair: SimulatedPair) -> None:
    for offset in copies(PRIMARY, pair.primary.size):
        page = pair.primary.medium.view[offset : offset + PAGE]
        page[40:44] = b"\x01\0\0\0"  # incompat
        seal_in_place(page, PAGE)
    found, verdict = pair.check()
    assert codes(found) == {"EC106"}
    assert verdict.errors == 1


# Reporting


def test_many_of_one_kind_are_counted_and_not_listed(pair: SimulatedPair) -> None:
    told: list[Finding] = []
    report = Report(told.append)
    for number in range(LISTED + 7):
        report(findings.PAYLOAD, pair.primary, "segment", f"number {number}")
    report.tell_rest()
    assert len(told) == LISTED + 1
    assert str(told[-1]).endswith("7 more were found")
    assert report.count("error") == LISTED + 7


def test_codes_are_unique_and_explained() -> None:
    assert len(KINDS) > 30
    assert not set(KINDS) & set(EVENTS)
    for code, kind in KINDS.items():
        assert code == kind.code
        assert code.startswith("EC")
        assert kind.explanation.endswith(".")
        assert "  " not in kind.explanation.replace(".  ", ". ")


def test_every_code_is_found_somewhere() -> None:
    """No dead codes: each is reported by a room of the engine."""
    rooms = Path(findings.__file__).parent.glob("*.py")
    source = "".join(room.read_text() for room in rooms if room.name != "findings.py")
    names = [name for name, value in vars(findings).items() if value in KINDS.values()]
    assert len(names) == len(KINDS)
    assert [name for name in names if f"findings.{name}" not in source] == []


# dump


def dumped(pair: SimulatedPair, side: str) -> list[Structure]:
    shown: list[Structure] = []
    disk = pair.primary if side == "primary" else pair.secondary
    pair.run(Dump(disk, pair.pool, shown.append).run())
    return shown


def test_dump_shows_every_structure_of_a_primary(pair: SimulatedPair) -> None:
    shown = dumped(pair, "primary")
    assert [s.what for s in shown] == [
        "superblock",
        "superblock",
        *(f"intent slot {n}" for n in range(14)),
        "bitmap page 0",
    ]
    assert shown[0].fields["name"] == "finance"
    assert shown[0].fields["role"] == 1
    assert not any(s.damage for s in shown)
    json.dumps([s.fields for s in shown])


def test_dump_shows_every_structure_of_a_secondary(pair: SimulatedPair) -> None:
    shown = dumped(pair, "secondary")
    loaded = pair.run(Checkpoints(pair.secondary, pair.superblock, pair.pool).load())
    whats = [s.what for s in shown]
    for delta_map in loaded.chain.maps:
        assert f"delta map {delta_map.id}" in whats
        for segment in delta_map.record_segments:
            assert f"segment {segment}" in whats
    records = [s for s in shown if s.what.startswith("record")]
    assert len(records) == sum(delta_map.records for delta_map in loaded.chain.maps)
    entries = sum(len(record.fields["entries"]) for record in records)
    assert entries == sum(delta_map.entry_count for delta_map in loaded.chain.maps)
    assert "snapshot" in whats
    assert not any(s.damage for s in shown)
    json.dumps([s.fields for s in shown])


def test_dump_shows_what_is_damaged(pair: SimulatedPair) -> None:
    offset = pair.superblock.ring_offset
    pair.primary.medium.contents[offset + 40] ^= 1
    slot = next(s for s in dumped(pair, "primary") if s.offset == offset)
    assert slot.damage == "its checksum is wrong"
    assert slot.fields["magic"] == "EbbIntnt"


def test_dump_of_a_foreign_disk_says_so(pair: SimulatedPair) -> None:
    pair.primary.medium.contents[:] = bytes(pair.primary.size)
    with pytest.raises(FormatDamaged, match="there is none"):
        dumped(pair, "primary")
