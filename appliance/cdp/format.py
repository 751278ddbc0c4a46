"""Every structure that Ebbtide writes to a disk, byte by byte (docs/format.md).

Invariants:

* All numbers are little-endian.  Extents and locations count sectors of 512
  bytes, whatever the disk's own sector; fields called *offset* or *size* count
  bytes.
* Every structure opens with the same envelope: magic, CRC-32C, length, and the
  id of the volume set.  The CRC covers everything behind itself up to length,
  so a structure is believed only whole, and only on the set that it belongs to.
* `construct` defines the layout.  Bulk rows are NumPy dtypes and the hot path
  uses precompiled `struct.Struct`s; tests hold each of them equal to its
  `construct` definition, and the two CRC-32C implementations equal to each
  other.
"""

import struct
from typing import Any, Final

import construct
import crcmod.predefined
import google_crc32c
import numpy as np
import numpy.typing as npt
from construct import Array, Bytes, Const, Int8ul, Int32ul, Int64sl, Int64ul

from appliance.errors import FormatDamaged, FormatTooNew

SUPERBLOCK_MAGIC: Final = b"EbbSuper"
INTENT_MAGIC: Final = b"EbbIntnt"
BITMAP_MAGIC: Final = b"EbbBitmp"
SEGMENT_MAGIC: Final = b"EbbSegmt"
RECORD_MAGIC: Final = b"EbbRecrd"
CHECKPOINT_MAGIC: Final = b"EbbChkpt"

PAGE: Final = 4096
"""Every structure starts on, and is padded to, a multiple of this."""

PRIMARY: Final = 1
SECONDARY: Final = 2

KNOWN_RO_COMPAT: Final = 0
KNOWN_INCOMPAT: Final = 0

ZEROS: Final = 0xFFFF_FFFF_FFFF_FFFF
"""The location of an entry whose data is zeros and lies nowhere."""
LOST: Final = 0xFFFF_FFFF_FFFF_FFFE
"""The location of an entry whose data could not be read from either disk when it was folded."""
NO_SEGMENT: Final = 0xFFFF_FFFF

NUMBER_LIMIT: Final = 1 << 62
"""No count of writes, orders, maps or epochs ever comes so far: what claims it is damaged."""

PARENTS: Final = 16
"""Generations back that a superblock remembers."""

crc32c_cold = crcmod.predefined.mkCrcFun("crc-32c")
"""CRC-32C as crcmod defines it; for metadata that is read and written seldom."""
crc32c = google_crc32c.value
"""The same polynomial, fast; for payload and journal headers."""

ENVELOPE = struct.Struct("<8sII16s")
"""magic, crc, length, set id"""
CRC_OFFSET: Final = 8
CRC_FROM: Final = 12
"""The CRC covers the bytes from here to the structure's length."""


def _sealed(magic: bytes, *fields: Any) -> construct.Struct:
    return construct.Struct(
        "magic" / Const(magic),
        "crc" / Int32ul,
        "length" / Int32ul,
        "set_id" / Bytes(16),
        *fields,
    )


Superblock = _sealed(
    SUPERBLOCK_MAGIC,
    "compat" / Int32ul,  # ALONE; unknown bits: carry on
    "ro_compat" / Int32ul,  # unknown bits: read only
    "incompat" / Int32ul,  # unknown bits: refuse
    "role" / Int32ul,  # PRIMARY or SECONDARY
    "sequence" / Int64ul,  # of two copies, the higher is the newer
    "disk_id" / Bytes(16),
    "peer_id" / Bytes(16),  # disk_id of the other disk of the pair
    "generation" / Bytes(16),
    "parents" / Array(PARENTS, Bytes(16)),  # newest first, zeros where there is none
    "name" / Bytes(64),  # UTF-8, padded with zeros
    "created" / Int64sl,  # ns since 1970
    "volume_size" / Int64ul,
    "sector" / Int32ul,  # the primary's logical sector, as hosts see it
    "payload_align" / Int32ul,  # of each write's data in a record
    "region_size" / Int32ul,  # of the dirty region log
    "ring_offset" / Int64ul,  # on the primary
    "ring_slots" / Int32ul,
    "bitmap_pages" / Int32ul,
    "bitmap_offset" / Int64ul,
    "checkpoint_offset" / Int64ul,  # on the secondary: two slots, one behind the other
    "checkpoint_size" / Int64ul,  # of one slot
    "base_offset" / Int64ul,
    "history_offset" / Int64ul,
    "segment_size" / Int32ul,
    "segment_count" / Int32ul,
)
ALONE: Final = 1
"""Bit of `compat`: the generation was made without the other disk, which never bore it."""

IntentSlot = _sealed(
    INTENT_MAGIC,
    "sequence" / Int64ul,
    "number_ceiling" / Int64ul,  # write numbers below this may have been handed out
    "stable_write" / Int64ul,  # the journal was flushed behind this write
    "count" / Int32ul,
    "flags" / Int32ul,  # RESTORING; other bits are not looked at
    "regions" / Array(construct.this.count, Int32ul),
)
INTENT_HEADER = struct.Struct("<8sII16sQQQII")
RESTORING: Final = 1
"""A restore has begun to write on the primary and has not ended: hosts are kept out."""
INTENT_CAPACITY: Final = 1000
"""Regions in one slot; (4096 - 64) / 4 would fit 1008."""

BitmapPage = _sealed(
    BITMAP_MAGIC,
    "page" / Int32ul,
    "reserved" / Int32ul,
    "bits" / Bytes(PAGE - 40),  # bit n of byte m: region page * REGIONS_PER_PAGE + 8 m + n
)
REGIONS_PER_PAGE: Final = 8 * (PAGE - 40)

SegmentHeader = _sealed(
    SEGMENT_MAGIC,
    "map_id" / Int64ul,
    "epoch" / Int64ul,
    "first_write" / Int64ul,  # of the map
    "opened" / Int64sl,  # the map, ns since 1970
    "kind" / Int32ul,  # of the map
    "segment" / Int32ul,
    "successor" / Int32ul,  # where the stream goes on, or NO_SEGMENT
    "previous_crc" / Int32ul,  # of the last record before this segment
)
SEGMENT_HEADER = struct.Struct("<8sII16sQQQqIIII")

RecordHeader = _sealed(
    RECORD_MAGIC,
    "map_id" / Int64ul,
    "epoch" / Int64ul,
    "first_write" / Int64ul,
    "last_write" / Int64ul,
    "order" / Int64ul,  # appliance-wide
    "wall" / Int64sl,  # ns since 1970, a label
    "elapsed" / Int64ul,  # ns that the volume has been in service
    "clock_epoch" / Int32ul,  # +1 whenever the wall clock was stepped
    "previous_crc" / Int32ul,  # of the record before
    "payload_size" / Int32ul,  # padded to PAGE
    "count" / Int32ul,
    "flags" / Int32ul,  # MID_WRITE
    "reserved" / Bytes(20),
)
RECORD_HEADER = struct.Struct("<8sII16sQQQQQqQIIIII20x")
MID_WRITE: Final = 1
"""A record whose last write goes on in the next record: it ends at no point."""

Entry = construct.Struct(
    "start" / Int64ul,  # on the primary, in sectors
    "location" / Int64ul,  # on the secondary, in sectors, or ZEROS or LOST
    "write" / Int64ul,
    "length" / Int32ul,  # in sectors
    "crc" / Int32ul,  # of the payload; 0 for zeros
)
ENTRY = struct.Struct("<QQQII")
ENTRY_DTYPE = np.dtype(
    [("start", "<u8"), ("location", "<u8"), ("write", "<u8"), ("length", "<u4"), ("crc", "<u4")]
)
RECORD_ENTRIES: Final = (PAGE - RECORD_HEADER.size) // ENTRY.size
"""Entries in one record, whose header is one page."""
ENTRY_BYTES: Final = 64 << 10
"""Payload that one entry, and so one CRC, covers at most."""

Mark = construct.Struct("write" / Int64ul, "wall" / Int64sl, "clock_epoch" / Int64ul)
MARK = struct.Struct("<QqQ")
MARK_DTYPE = np.dtype([("write", "<u8"), ("wall", "<i8"), ("clock_epoch", "<u8")])
"""When a record was made: its last write and its time."""

MapRow = construct.Struct(
    "id" / Int64ul,
    "first_write" / Int64ul,
    "last_write" / Int64ul,
    "opened" / Int64sl,
    "closed" / Int64sl,
    "payload_bytes" / Int64ul,
    "entries" / Int64ul,
    "marks" / Int64ul,
    "index_crc" / Int32ul,
    "kind" / Int8ul,
    "order" / Int8ul,
    "suspect" / Int8ul,
    "indexed" / Int8ul,
    "record_segments" / Int32ul,
    "index_segments" / Int32ul,
    "records" / Int64ul,  # how many belong to the map; the stream behind them does not
    "before_crc" / Int32ul,  # of the record before the map's first
    "reserved" / Int32ul,
    "epoch" / Int64ul,
)
MAP_DTYPE = np.dtype(
    [
        ("id", "<u8"),
        ("first_write", "<u8"),
        ("last_write", "<u8"),
        ("opened", "<i8"),
        ("closed", "<i8"),
        ("payload_bytes", "<u8"),
        ("entries", "<u8"),
        ("marks", "<u8"),
        ("index_crc", "<u4"),
        ("kind", "u1"),
        ("order", "u1"),
        ("suspect", "u1"),
        ("indexed", "u1"),
        ("record_segments", "<u4"),
        ("index_segments", "<u4"),
        ("records", "<u8"),
        ("before_crc", "<u4"),
        ("reserved", "<u4"),
        ("epoch", "<u8"),
    ]
)

SnapshotRow = construct.Struct(
    "write" / Int64ul,
    "time" / Int64sl,
    "pinned" / Int64ul,
    "name" / Bytes(72),
)
SNAPSHOT_DTYPE = np.dtype([("write", "<u8"), ("time", "<i8"), ("pinned", "<u8"), ("name", "S72")])

GapRow = construct.Struct(
    "from_write" / Int64ul, "to_write" / Int64ul, "time" / Int64sl, "reason" / Bytes(40)
)
GAP_DTYPE = np.dtype(
    [("from_write", "<u8"), ("to_write", "<u8"), ("time", "<i8"), ("reason", "S40")]
)

CompareRow = construct.Struct("start" / Int64ul, "length" / Int64ul)  # both in sectors
COMPARE_DTYPE = np.dtype([("start", "<u8"), ("length", "<u8")])

SuspectRow = construct.Struct(
    "start" / Int64ul,  # on the primary, in sectors
    "length" / Int64ul,  # in sectors
    "from_write" / Int64ul,  # points from this write on are suspect
    "to_write" / Int64ul,  # to this one, or 2^64 - 1: to the newest
    "seen_write" / Int64ul,  # the newest write when the blocks were found different
)
SUSPECT_DTYPE = np.dtype(
    [
        ("start", "<u8"),
        ("length", "<u8"),
        ("from_write", "<u8"),
        ("to_write", "<u8"),
        ("seen_write", "<u8"),
    ]
)

Checkpoint = _sealed(
    CHECKPOINT_MAGIC,
    "number" / Int64ul,  # of two slots, the higher is the newer
    "generation" / Bytes(16),
    "epoch" / Int64ul,
    "next_write" / Int64ul,
    "next_map" / Int64ul,  # the map that the stream goes on with
    "next_order" / Int64ul,
    "elapsed" / Int64ul,
    "clock_epoch" / Int32ul,
    "tail_segment" / Int32ul,  # where the stream goes on behind this checkpoint
    "tail_crc" / Int32ul,  # of the last record before
    "reserved" / Int32ul,
    "floor_write" / Int64ul,  # the oldest restorable point
    "floor_time" / Int64sl,
    "baseline" / Int32ul,  # 1: the base image is whole
    "ack" / Int32ul,
    "incomplete_from" / Int64ul,  # points from this write on await a resync, or 0
    "restore_to" / Int64ul,  # a running restore, or 0
    "restore_from" / Int64ul,
    "throttle_floor" / Int32ul,  # MiB/s that a synchronisation does under any load
    "throttle_ceiling" / Int32ul,  # MiB/s that it never exceeds, or 0
    "sync_kind" / Int32ul,  # of a scan that has not ended, or 0
    "sync_phase" / Int32ul,
    "sync_paused" / Int32ul,
    "owed_paused" / Int32ul,  # a person holds the baseline or resync
    "sync_cursor" / Int64ul,  # the volume is scanned up to this byte
    "sync_different" / Int64ul,  # bytes
    "sync_copied" / Int64ul,  # bytes
    "maps" / Int32ul,
    "segments" / Int32ul,
    "snapshots" / Int32ul,
    "gaps" / Int32ul,
    "compare" / Int32ul,
    "suspects" / Int32ul,
    "body_size" / Int32ul,
    "body_crc" / Int32ul,
)
"""Behind this page: rows of maps, then their segments' numbers (u32), snapshots, gaps, the compare
delta map of a scan that has not ended, suspects."""


def seal(definition: construct.Struct, size: int, **fields: Any) -> bytes:
    """Build a structure of `size` bytes, zero-padded, with its CRC in place."""
    body = definition.build({"crc": 0, "length": size, **fields})
    raw = bytearray(size)
    raw[: len(body)] = body
    seal_in_place(memoryview(raw), size, crc32c_cold)
    return bytes(raw)


def seal_in_place(raw: memoryview, length: int, crc: Any = crc32c) -> int:
    """Put the CRC of `raw[:length]` in its place; returns it."""
    value: int = crc(bytes(raw[CRC_FROM:length]))
    raw[CRC_OFFSET:CRC_FROM] = value.to_bytes(4, "little")
    return value


def unseal(definition: construct.Struct, raw: bytes | memoryview, what: str) -> Any:
    """Parse a structure; FormatDamaged if it is not whole.

    `what` names it for people.
    """
    check_envelope(raw, definition.subcons[0].subcon.value, what, crc32c_cold)
    try:
        return definition.parse(bytes(raw))
    except construct.ConstructError as error:
        raise FormatDamaged(what=what, reason=str(error).splitlines()[0]) from error


def check_envelope(raw: bytes | memoryview, magic: bytes, what: str, crc: Any = crc32c) -> None:
    """FormatDamaged unless `raw` is one whole page with that magic, its length and its CRC."""
    if len(raw) < PAGE:
        raise FormatDamaged(what=what, reason="it is cut short")
    found, stored, length, _ = ENVELOPE.unpack_from(raw)
    if found != magic:
        raise FormatDamaged(what=what, reason="it does not carry its magic")
    if length != PAGE:
        raise FormatDamaged(what=what, reason=f"its length {length} cannot be")
    if crc(bytes(raw[CRC_FROM:PAGE])) != stored:
        raise FormatDamaged(what=what, reason="its checksum is wrong")


def refuse_unknown_features(superblock: Any, what: str) -> None:
    """FormatTooNew if the superblock needs a feature that this release does not know.

    Unknown `ro_compat` flags refuse too: the engine has no read-only mode.
    """
    unknown = (superblock.incompat & ~KNOWN_INCOMPAT) | (superblock.ro_compat & ~KNOWN_RO_COMPAT)
    if unknown:
        raise FormatTooNew(what=what, flags=f"{unknown:#x}")


def pages(size: int) -> int:
    """`size` bytes rounded up to whole pages, in bytes."""
    return -(-size // PAGE) * PAGE


Rows = npt.NDArray[np.void]
