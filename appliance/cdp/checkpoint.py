"""Checkpoints: the chain's directory, in two alternating slots.

A checkpoint names every settled map with its segments, and where the stream of
records goes on behind them.  The secondary is flushed before a slot is
written, so that a checkpoint never names what is not on the medium (a map with
a record in flight is not settled, for the flush does not cover that); and the
slot before stays whole until this one is durable.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.cdp import disk_io, format
from appliance.cdp.chain import Chain
from appliance.cdp.delta_map import DeltaMap, MapKind, MapOrder
from appliance.cdp.extents import Extents
from appliance.cdp.format import (
    COMPARE_DTYPE,
    GAP_DTYPE,
    MAP_DTYPE,
    PAGE,
    SNAPSHOT_DTYPE,
    SUSPECT_DTYPE,
    Rows,
    crc32c,
    pages,
)
from appliance.cdp.interfaces import SECTOR, Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.points import Gap, Snapshot
from appliance.cdp.policies import Ack, Policies, Throttle
from appliance.cdp.superblock import Superblock
from appliance.cdp.suspects import Suspects
from appliance.cdp.sync_progress import Phase, ScanKind, SyncProgress, limited
from appliance.errors import DiskFailed, FormatDamaged, NoRoom

SLOTS = 2
SYNC_SHARE = 8
"""Compare delta map and suspects take at most an eighth of a slot each, coarser if need be."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the stream of records goes on: its first segment, and the CRC of the record before."""

    segment: int
    crc: int


@dataclass(slots=True)
class Loaded:
    """A checkpoint as it was read."""

    number: int
    generation: bytes
    chain: Chain
    tail: Tail
    next_order: int
    policies: Policies


def encode(
    superblock: Superblock,
    number: int,
    chain: Chain,
    tail: Tail,
    next_order: int,
    policies: Policies,
) -> bytes:
    """Header page and body; NoRoom if it does not fit a slot."""
    settled = chain.settled
    maps = np.zeros(len(settled), MAP_DTYPE)
    for row, delta_map in zip(maps, settled, strict=True):
        _fill_row(row, delta_map)
        row["suspect"] = chain.is_suspect(delta_map)
    snapshots = np.array(
        [(s.write, s.time_ns, s.pinned, s.name.encode()) for s in chain.snapshots.values()],
        SNAPSHOT_DTYPE,
    )
    gaps = np.array(
        [(g.from_write, g.to_write, g.time_ns, g.reason.encode()) for g in chain.gaps], GAP_DTYPE
    )
    segments = np.array([n for delta_map in settled for n in delta_map.segments], "<u4")
    share = (superblock.checkpoint_size - PAGE) // SYNC_SHARE
    scan = chain.scan
    suspects = _on_volume(superblock, chain.suspects.limited(share // SUSPECT_DTYPE.itemsize).rows)
    compare = _on_volume(superblock, _compare_rows(scan, share // COMPARE_DTYPE.itemsize))
    tables = (maps, segments, snapshots, gaps, compare, suspects)
    body = b"".join(table.tobytes() for table in tables)
    if PAGE + pages(len(body)) > superblock.checkpoint_size:
        raise NoRoom(reason="the directory of the history is full")
    header = format.seal(
        format.Checkpoint,
        PAGE,
        set_id=superblock.set_id,
        number=number,
        generation=superblock.generation,
        epoch=chain.epoch,
        next_write=chain.next_write,
        next_map=chain.unsettled.id if chain.unsettled else chain.next_map,
        next_order=next_order,
        elapsed=chain.elapsed_ns,
        clock_epoch=chain.clock_epoch,
        tail_segment=tail.segment,
        tail_crc=tail.crc,
        reserved=0,
        floor_write=chain.floor,
        floor_time=chain.floor_time,
        baseline=int(chain.baseline_whole),
        ack=policies.ack,
        throttle_floor=policies.throttle.floor,
        throttle_ceiling=policies.throttle.ceiling,
        sync_kind=scan.kind if scan else 0,
        sync_phase=scan.phase if scan else 0,
        sync_paused=int(scan.paused) if scan else 0,
        owed_paused=int(chain.paused),
        sync_cursor=scan.cursor if scan else 0,
        sync_different=scan.different if scan else 0,
        sync_copied=scan.copied if scan else 0,
        incomplete_from=chain.incomplete_from,
        restore_to=chain.restoring[0] if chain.restoring else 0,
        restore_from=chain.restoring[1] if chain.restoring else 0,
        maps=len(maps),
        segments=len(segments),
        snapshots=len(snapshots),
        gaps=len(gaps),
        compare=len(compare),
        suspects=len(suspects),
        body_size=len(body),
        body_crc=crc32c(body),
    )
    return header + body.ljust(pages(len(body)), b"\0")


_SAME_NAME = (
    *("id", "first_write", "last_write", "opened", "closed", "payload_bytes", "records"),
    *("before_crc", "epoch", "index_crc", "kind", "order", "indexed"),
)
"""Fields of a row that are the map's attributes of the same name."""


def _fill_row(row: Any, delta_map: DeltaMap) -> None:
    for name in _SAME_NAME:
        row[name] = getattr(delta_map, name)
    row["entries"], row["marks"] = delta_map.entry_count, delta_map.mark_count
    row["record_segments"] = len(delta_map.record_segments)
    row["index_segments"] = len(delta_map.index_segments)


def decode(superblock: Superblock, raw: bytes, what: str) -> Loaded:
    """FormatDamaged if anything in it cannot be."""
    header = format.unseal(format.Checkpoint, raw[:PAGE], what)
    if header.set_id != superblock.set_id:
        raise FormatDamaged(what=what, reason="it belongs to another volume")
    body = raw[PAGE : PAGE + header.body_size]
    if len(body) != header.body_size or crc32c(body) != header.body_crc:
        raise FormatDamaged(what=what, reason="the checksum of its body is wrong")
    counts = tuple(header[name] for name in _TABLES)
    dtypes = tuple(_TABLES.values())
    sizes = [count * dtype.itemsize for count, dtype in zip(counts, dtypes, strict=True)]
    if sum(sizes) != len(body):
        raise FormatDamaged(what=what, reason="its tables do not add up to its body")
    tables: list[Any] = []
    at = 0
    for count, dtype, size in zip(counts, dtypes, sizes, strict=True):
        tables.append(np.frombuffer(body, dtype, count, at))
        at += size
    maps, segments, snapshots, gaps, compare, suspects = tables
    try:
        chain = Chain(
            next_write=header.next_write,
            next_map=header.next_map,
            epoch=header.epoch,
            elapsed_ns=header.elapsed,
            clock_epoch=header.clock_epoch,
            floor=header.floor_write,
            floor_time=header.floor_time,
            baseline_whole=bool(header.baseline),
            incomplete_from=header.incomplete_from,
            maps=_maps(superblock, maps, segments),
            snapshots={
                s.name: s
                for s in (
                    Snapshot(r["name"].decode(), int(r["write"]), int(r["time"]), bool(r["pinned"]))
                    for r in snapshots
                )
            },
            gaps=[
                Gap(int(r["from_write"]), int(r["to_write"]), r["reason"].decode(), int(r["time"]))
                for r in gaps
            ],
            restoring=(header.restore_to, header.restore_from) if header.restore_from else None,
            suspects=Suspects(_checked(superblock, suspects)),
            scan=_scan(header, _checked(superblock, compare)),
            paused=bool(header.owed_paused),
        )
        policies = Policies(
            Ack(header.ack), Throttle(header.throttle_floor, header.throttle_ceiling)
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatDamaged(what=what, reason=str(error)) from error
    named = {segment for delta_map in chain.maps for segment in delta_map.segments}
    if header.tail_segment >= superblock.segment_count or header.tail_segment in named:
        raise FormatDamaged(what=what, reason=f"its tail lies in segment {header.tail_segment}")
    counters = ("number", "epoch", "next_write", "next_map", "next_order", "elapsed")
    behind = max(chain.newest_write, chain.maps[-1].id if chain.maps else 0)
    if max(behind, *(header[name] for name in counters)) >= format.NUMBER_LIMIT:
        raise FormatDamaged(what=what, reason="its numbers cannot be")
    return Loaded(
        header.number,
        header.generation,
        chain,
        Tail(header.tail_segment, header.tail_crc),
        header.next_order,
        policies,
    )


_TABLES = {
    "maps": MAP_DTYPE,
    "segments": np.dtype("<u4"),
    "snapshots": SNAPSHOT_DTYPE,
    "gaps": GAP_DTYPE,
    "compare": COMPARE_DTYPE,
    "suspects": SUSPECT_DTYPE,
}
"""The tables of the body, in their order; the header counts the rows of each."""


def _compare_rows(scan: SyncProgress | None, count: int) -> Rows:
    if scan is None:
        return np.empty(0, COMPARE_DTYPE)
    compare = limited(scan.compare, count)
    rows = np.zeros(len(compare.starts), COMPARE_DTYPE)
    rows["start"], rows["length"] = compare.starts, compare.ends - compare.starts
    return rows


def _scan(header: Any, compare: Rows) -> SyncProgress | None:
    """ValueError if there is no such kind or phase."""
    if not header.sync_kind:
        return None
    starts = compare["start"].astype(np.int64)
    return SyncProgress(
        ScanKind(header.sync_kind),
        Phase(header.sync_phase),
        bool(header.sync_paused),
        header.sync_cursor,
        header.sync_different,
        header.sync_copied,
        Extents(starts, starts + compare["length"].astype(np.int64)),
    )


def _on_volume(superblock: Superblock, rows: Rows) -> Rows:
    """Coarser rows may reach behind the volume's end."""
    rows = rows.copy()
    rows["length"] = np.minimum(rows["length"], superblock.volume_size // SECTOR - rows["start"])
    return rows


def _checked(superblock: Superblock, rows: Rows) -> Rows:
    """ValueError if a row lies outside the volume."""
    sectors = superblock.volume_size // SECTOR
    starts, lengths = rows["start"], rows["length"]
    if (lengths == 0).any() or (lengths > sectors).any() or (starts > sectors - lengths).any():
        raise ValueError("what it says of blocks reaches outside the volume")
    return rows


def _maps(superblock: Superblock, rows: Rows, segments: Rows) -> list[DeltaMap]:
    """ValueError where rows and segments contradict each other."""
    maps: list[DeltaMap] = []
    taken: set[int] = set()
    at = 0
    for row in rows:
        count = int(row["record_segments"]) + int(row["index_segments"])
        own = [int(segment) for segment in segments[at : at + count]]
        at += count
        before = len(taken)
        taken.update(own)
        if len(taken) != before + count or any(n >= superblock.segment_count for n in own):
            raise ValueError(f"the segments of map {row['id']} cannot be")
        first, last = int(row["first_write"]), int(row["last_write"])
        if not _continues(maps, int(row["id"]), first) or last < first:
            raise ValueError(f"map {row['id']} is out of order")
        split = int(row["record_segments"])
        maps.append(
            DeltaMap(
                id=int(row["id"]),
                kind=MapKind(int(row["kind"])),
                order=MapOrder(int(row["order"])),
                epoch=int(row["epoch"]),
                first_write=int(row["first_write"]),
                last_write=int(row["last_write"]),
                opened=int(row["opened"]),
                closed=int(row["closed"]),
                before_crc=int(row["before_crc"]),
                payload_bytes=int(row["payload_bytes"]),
                records=int(row["records"]),
                record_segments=own[:split],
                index_segments=own[split:],
                index_crc=int(row["index_crc"]),
                indexed=bool(row["indexed"]),
                entry_count=int(row["entries"]),
                mark_count=int(row["marks"]),
                _entries=None,
                _marks=None,
            )
        )
    return maps


def _continues(maps: list[DeltaMap], map_id: int, first_write: int) -> bool:
    """A long write may end in the map behind the one that it began in."""
    return not maps or (map_id > maps[-1].id and first_write >= maps[-1].last_write)


class Checkpoints:
    """The two slots of one secondary."""

    def __init__(self, disk: Disk, superblock: Superblock, pool: BufferPool) -> None:
        self._disk = disk
        self._superblock = superblock
        self._pool = pool
        self.number = 0

    def offset(self, number: int) -> int:
        """Where the slot of that checkpoint begins."""
        superblock = self._superblock
        return superblock.checkpoint_offset + number % SLOTS * superblock.checkpoint_size

    async def load(self) -> Loaded:
        """The newest whole checkpoint; FormatDamaged if there is none."""
        found: list[Loaded] = []
        reason: Exception = FormatDamaged(what="checkpoint", reason="there is none")
        for slot in range(SLOTS):
            try:
                found.append(await self.read_slot(slot))
            except (FormatDamaged, DiskFailed) as error:
                reason = error
        if not found:
            raise reason
        newest = max(found, key=lambda loaded: loaded.number)
        self.number = newest.number
        return newest

    async def read_slot(self, slot: int) -> Loaded:
        """FormatDamaged or DiskFailed if what is in it cannot be believed."""
        what = f"checkpoint slot {slot}"
        offset = self.offset(slot)
        raw = await disk_io.read_bytes(self._disk, self._pool, offset, PAGE)
        header = format.unseal(format.Checkpoint, raw, what)
        size = PAGE + pages(header.body_size)
        if size > self._superblock.checkpoint_size:
            raise FormatDamaged(what=what, reason="it is longer than its slot")
        if size > PAGE:
            raw = await disk_io.read_bytes(self._disk, self._pool, offset, size)
        return decode(self._superblock, raw, what)

    async def store(self, chain: Chain, tail: Tail, next_order: int, policies: Policies) -> None:
        """Durable when this returns.  Everything it names is flushed first."""
        raw = encode(self._superblock, self.number + 1, chain, tail, next_order, policies)
        await disk_io.flush(self._disk)
        await disk_io.write_bytes(
            self._disk, self._pool, self.offset(self.number + 1), raw, durable=True
        )
        self.number += 1
