"""The rig's power cut, told apart from the machine that suffers it."""

import struct
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_tests.rig import power_cut, write_log
from hil_tests.rig.power_cut import Cut, Manner, Piece
from hil_tests.rig.write_log import DamagedLog, Entry, Flag

SECTORS = 12
SECTOR = 512


def block(number: int, count: int = 1) -> bytes:
    return bytes([number]) * (SECTOR * count)


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """Each write has data of its own; discards read as zeros."""
    log: list[Entry] = []
    for number in range(1, draw(st.integers(0, 14)) + 1):
        kind = draw(st.sampled_from(["write", "write", "write", "fua", "flush", "discard"]))
        first = draw(st.integers(0, SECTORS - 1))
        count = draw(st.integers(1, SECTORS - first))
        if kind == "flush":
            log.append(Entry(0, 0, Flag.FLUSH, None))
        elif kind == "discard":
            log.append(Entry(first, count, Flag.DISCARD, None))
        else:
            flags = Flag.FUA if kind == "fua" else Flag(0)
            log.append(Entry(first, count, flags, block(number, count)))
    return log


def stored(pieces: Sequence[Piece]) -> bytes:
    disk = bytearray(b"\xff" * (SECTORS * SECTOR))
    for piece in pieces:
        disk[piece.offset : piece.offset + len(piece.data)] = piece.data
    return bytes(disk)


def after(log: Sequence[Entry], manner: Manner, seed: int = 0) -> tuple[bytes, Cut]:
    pieces, cut = power_cut.survivors(log, SECTOR, manner, Random(seed))
    return stored(pieces), cut


def history(log: Sequence[Entry], sector: int) -> list[tuple[int, bytes, bool]]:
    """What a sector was told: where in the log, what, and whether with FUA."""
    told = []
    for index, entry in enumerate(log):
        if entry.sector <= sector < entry.sector + entry.count:
            start = (sector - entry.sector) * SECTOR
            data = entry.data[start : start + SECTOR] if entry.data else bytes(SECTOR)
            told.append((index, data, bool(entry.flags & Flag.FUA)))
    return told


@given(logs(), st.sampled_from(Manner), st.integers(0, 1 << 32))
def test_no_sector_is_older_than_what_is_owed(log: list[Entry], manner: Manner, seed: int) -> None:
    disk, _ = after(log, manner, seed)
    flushed = max((index for index, entry in enumerate(log) if entry.flushes), default=-1)
    for sector in range(SECTORS):
        told = history(log, sector)
        owed = [index for index, _, fua in told if index < flushed or fua]
        allowed = {data for index, data, _ in told if not owed or index >= owed[-1]}
        if not owed:
            allowed.add(b"\xff" * SECTOR)
        assert disk[sector * SECTOR : (sector + 1) * SECTOR] in allowed


@given(logs())
def test_what_is_kept_whole_is_what_the_machine_saw(log: list[Entry]) -> None:
    disk, cut = after(log, Manner.KEEPS_ALL)
    for sector in range(SECTORS):
        last = [data for _, data, _ in history(log, sector)][-1:] or [b"\xff" * SECTOR]
        assert disk[sector * SECTOR : (sector + 1) * SECTOR] == last[0]
    assert cut.lost == cut.torn == 0


def test_without_a_flush_all_may_be_lost() -> None:
    log = [Entry(0, 4, Flag(0), block(1, 4)), Entry(4, 1, Flag(0), block(2))]
    assert after(log, Manner.LOSES_ALL) == (
        b"\xff" * (SECTORS * SECTOR),
        Cut(Manner.LOSES_ALL, owed=0, kept=0, torn=0, lost=2),
    )


def test_a_write_behind_the_last_flush_is_not_owed() -> None:
    log = [
        Entry(0, 1, Flag(0), block(1)),
        Entry(0, 0, Flag.FLUSH, None),
        Entry(0, 1, Flag(0), block(2)),
    ]
    assert after(log, Manner.LOSES_ALL)[0][:SECTOR] == block(1)


def test_every_outcome_of_two_writes_comes_up() -> None:
    """Also the later one alone, and a torn one."""
    log = [Entry(0, 2, Flag(0), block(1, 2)), Entry(2, 2, Flag(0), block(2, 2))]
    seen = {
        tuple(disk[sector * SECTOR] != 0xFF for sector in range(4))
        for seed in range(400)
        for disk in [after(log, Manner.KEEPS_SOME, seed)[0]]
    }
    assert len(seen) == 16


def test_the_same_seed_cuts_the_same() -> None:
    log = [Entry(sector, 2, Flag(0), block(sector + 1, 2)) for sector in range(SECTORS - 1)]
    assert after(log, Manner.KEEPS_SOME, 7) == after(log, Manner.KEEPS_SOME, 7)


# The log as it lies in its file


def lay(path: Path, log: Sequence[Entry], sector: int = SECTOR) -> int:
    """As `blklogwrites` writes it; its length."""
    with path.open("wb") as stream:
        stream.write(struct.pack("<QQQI", 0x6A736677736872, 1, 0, sector).ljust(sector, b"\0"))
        for entry in log:
            head = struct.pack("<QQQQ", entry.sector, entry.count, entry.flags, 0)
            stream.write(head.ljust(sector, b"\0") + (entry.data or b""))
        return stream.tell()


@given(log=logs())
def test_a_log_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, log: list[Entry]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    length = lay(path, log)
    assert list(write_log.entries(path, SECTOR, SECTORS * SECTOR, length)) == log


def test_what_came_after_the_moment_is_not_read(tmp_path: Path) -> None:
    log = [Entry(0, 1, Flag(0), block(1)), Entry(0, 0, Flag.FLUSH, None)]
    moment = lay(tmp_path / "log", log[:1])
    lay(tmp_path / "log", log)
    assert list(write_log.entries(tmp_path / "log", SECTOR, 1 << 20, moment)) == log[:1]


def test_a_write_of_zeros_may_end_in_a_hole(tmp_path: Path) -> None:
    length = lay(tmp_path / "log", [Entry(3, 2, Flag(0), None)])
    assert list(write_log.entries(tmp_path / "log", SECTOR, 1 << 20, length)) == [
        Entry(3, 2, Flag(0), bytes(2 * SECTOR))
    ]


@pytest.mark.parametrize(
    "entry", [Entry(SECTORS, 1, Flag(0), block(1)), Entry(0, 0, Flag(0), None)]
)
def test_an_entry_that_makes_no_sense(tmp_path: Path, entry: Entry) -> None:
    length = lay(tmp_path / "log", [entry])
    with (tmp_path / "log").open("r+b") as stream:
        stream.seek(SECTOR + 16)
        stream.write(struct.pack("<Q", 1 << 40 if not entry.count else entry.flags))
    with pytest.raises(DamagedLog):
        list(write_log.entries(tmp_path / "log", SECTOR, SECTORS * SECTOR, length))


def test_the_pieces_lie_where_they_belong(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * (SECTORS * SECTOR))
    pieces = [Piece(SECTOR, block(1)), Piece(3 * SECTOR, block(2, 2)), Piece(SECTOR, block(3))]
    power_cut.write(disk, pieces)
    assert disk.read_bytes() == stored(pieces)
