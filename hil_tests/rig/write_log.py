"""What a disk was told, in order: the log that QEMU's `blklogwrites` keeps.

The layout is that of the kernel's dm-log-writes (drivers/md/dm-log-writes.c): a superblock of one
sector, then entries; an entry is one sector (`<QQQQ`: first sector, sectors, flags, length of a
mark), followed by its data unless it is a flush, a discard or a mark.

The superblock counts entries only as of the last flush, so nobody asks it: entries follow each
other to the first sector of zeros.

A request's place in the log is given out when it is issued, and the request is answered only when
its entry is written.  So at any moment the file's length bounds what was issued by then, and holds
all that was answered by then; below it there may be holes, which fill as what is in flight ends.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Final

_ENTRY: Final = struct.Struct("<QQQQ")


class Flag(IntFlag):
    """Of an entry."""

    FLUSH = 1
    FUA = 2
    DISCARD = 4
    MARK = 8


class DamagedLog(Exception):
    """An entry that no disk was ever told: outside the disk, or with unknown flags."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request that changes a disk, or a flush; a flush may carry a write behind it."""

    sector: int
    """In sectors of the log, as is `count`."""
    count: int
    flags: Flag
    data: bytes | None
    """None where there is none: a flush alone, or a discard, which reads as zeros."""

    @property
    def flushes(self) -> bool:
        return bool(self.flags & Flag.FLUSH)


def entries(log: Path, sector: int, disk_size: int, until: int) -> Iterator[Entry]:
    """The entries that begin before byte `until` of a log whose sectors have `sector` bytes, of a
    disk of so many bytes.

    Nothing may be in flight any more.  Raises DamagedLog.
    """
    for place, entry in placed_entries(log, sector, disk_size):
        if place >= until:
            return
        yield entry


def placed_entries(log: Path, sector: int, disk_size: int) -> Iterator[tuple[int, Entry]]:
    """All entries, each with the byte of the log at which it begins; as `entries`."""
    with log.open("rb") as stream:
        stream.seek(sector)
        while any(head := stream.read(sector)):
            place = stream.tell() - sector
            first, count, flags, _ = _ENTRY.unpack_from(head)
            if flags > sum(Flag) or (first + count) * sector > disk_size:
                raise DamagedLog(f"{log}: sectors {first} + {count}, flags {flags:#x}")
            data = None
            if count and not flags & (Flag.DISCARD | Flag.MARK):
                # A write of zeros may end in a hole behind the end of the file.
                data = stream.read(count * sector).ljust(count * sector, b"\0")
            yield place, Entry(first, count, Flag(flags), data)
