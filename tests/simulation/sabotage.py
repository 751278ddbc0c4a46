"""The engine, broken on purpose: one promise each, so that the explorer's teeth can be shown.

Each sabotage names the rule of DESIGN.md's section 4 (or the paragraph of
section 3) that it breaks, and patches the engine as little as it takes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from appliance.cdp import disk_io, legs, retention, walk_back
from appliance.cdp.chain import Chain
from appliance.cdp.changes import Changes
from appliance.cdp.checkpoint import Checkpoints
from appliance.cdp.comparison import Comparison
from appliance.cdp.dirty_region_log import DirtyRegionLog
from appliance.cdp.extents import EMPTY, Extents, widen
from appliance.cdp.flushes import Flushes
from appliance.cdp.format import PAGE, ZEROS
from appliance.cdp.housekeeping import Housekeeping
from appliance.cdp.interfaces import BLOCK, SECTOR
from appliance.cdp.journal import Journal
from appliance.cdp.restore_jobs import RestoreJobs
from appliance.cdp.stream import Record, Stream
from appliance.cdp.suspects import Suspects
from appliance.cdp.volume_jobs import VolumeJobs
from appliance.errors import FormatDamaged


@dataclass(frozen=True)
class Sabotage:
    """`rule` is what it breaks; `apply` breaks it until the context ends.

    `faults` says which kind of runs can show it: with a secondary that fails, or without.
    """

    name: str
    rule: str
    apply: Callable[[], AbstractContextManager[Any]]
    faults: bool = False
    first: int = 0
    """The seed to begin with, where most show nothing."""


def _intent_beside_legs() -> AbstractContextManager[Any]:
    write_slot = DirtyRegionLog.write_slot

    def at_once(self: DirtyRegionLog, done: Callable[[OSError | None], None]) -> None:
        write_slot(self, lambda error: None)
        done(None)

    return patch.object(DirtyRegionLog, "write_slot", at_once)


def _no_waves() -> AbstractContextManager[Any]:
    return patch.object(legs, "waves", lambda all_legs: [all_legs] if all_legs else [])


def _retire_unflushed() -> AbstractContextManager[Any]:
    def at_once(self: Flushes, done: Callable[[bool], None]) -> None:
        self.stable_write = self._completed_write()
        done(True)

    return patch.object(Flushes, "flush_both", at_once)


def _tracking_in_memory() -> AbstractContextManager[Any]:
    set_out_of_sync = DirtyRegionLog.set_out_of_sync

    async def doubt(self: DirtyRegionLog, regions: Any) -> None:
        if isinstance(regions, range):
            await set_out_of_sync(self, regions)  # a new pair is formatted
        else:
            self.doubt(list(regions))

    return patch.object(DirtyRegionLog, "set_out_of_sync", doubt)


def _bulk_unflushed() -> AbstractContextManager[Any]:
    async def never(*disks: object) -> None:
        """Nothing is flushed."""

    return patch.object(disk_io, "flush", never)


def _flush_primary_only() -> AbstractContextManager[Any]:
    flush = Flushes.flush
    return patch.object(Flushes, "flush", lambda self, _, done: flush(self, False, done))


def _flush_answered_at_once() -> AbstractContextManager[Any]:
    return patch.object(Flushes, "flush", lambda self, _, done: self._post.post(lambda: done(True)))


def _no_repair() -> AbstractContextManager[Any]:
    async def nothing(*arguments: object, **more: object) -> Extents:
        """The disks stay as they are."""
        return EMPTY

    return patch.object(Comparison, "revise", nothing)


def _ceiling_ignored() -> AbstractContextManager[Any]:
    load = DirtyRegionLog.load

    async def forgetful(self: DirtyRegionLog) -> bool:
        whole = await load(self)
        self.ceiling = 0
        return whole

    return patch.object(DirtyRegionLog, "load", forgetful)


def _zeros_dropped() -> AbstractContextManager[Any]:
    seal = Journal.seal

    def without_zeros(self: Journal, memory: memoryview, entries: Any, *rest: Any) -> Any:
        kept = [entry for entry in entries if entry[1] != ZEROS]
        return seal(self, memory, kept or entries, *rest)

    return patch.object(Journal, "seal", without_zeros)


def _full_history_stops_the_host() -> AbstractContextManager[Any]:
    async def no_fold(*arguments: object) -> bool:
        return False

    stack = ExitStack()
    stack.enter_context(patch.object(retention, "fold", no_fold))
    stack.enter_context(patch.object(Housekeeping, "_no_patience", lambda self: None))
    return stack


def _checkpoint_names_what_is_in_flight() -> AbstractContextManager[Any]:
    return patch.object(Chain, "settled", property(lambda self: self.maps))


def _stale_tails_believed() -> AbstractContextManager[Any]:
    def records(
        self: Stream, view: memoryview, segment: int, map_id: int, *rest: object
    ) -> list[Record]:
        found: list[Record] = []
        page = 1
        while page < self._superblock.segment_size // PAGE:
            try:
                record = self.record(view, segment, page)
            except FormatDamaged:
                break
            found.append(record)
            page += 1 + record.payload // PAGE
        return found

    return patch.object(Stream, "records", records)


def _maps_leave_before_the_base_is_whole() -> AbstractContextManager[Any]:
    async def nothing(*arguments: object) -> Extents:
        """The base image stays as it is."""
        return EMPTY

    return patch.object(retention, "_copy_into_base", nothing)


def _restore_forgotten() -> AbstractContextManager[Any]:
    async def not_again(self: RestoreJobs) -> None:
        """Hosts get what the crash left."""
        history = self._volume.history
        assert history is not None
        self._volume.log.restoring, history.chain.restoring = False, None

    return patch.object(RestoreJobs, "finish", not_again)


SABOTAGES = [
    Sabotage("intent-beside-legs", "1 intent first", _intent_beside_legs),
    Sabotage("no-waves", "2 one order", _no_waves),
    Sabotage("retire-unflushed", "3 retire late", _retire_unflushed),
    Sabotage("tracking-in-memory", "3 retire late", _tracking_in_memory, faults=True),
    Sabotage("bulk-unflushed", "3 retire late", _bulk_unflushed),
    Sabotage("flush-primary-only", "4 acknowledge by policy", _flush_primary_only),
    Sabotage("flush-answered-at-once", "4 acknowledge by policy", _flush_answered_at_once),
    Sabotage("no-repair", "5 recovery", _no_repair),
    Sabotage("restore-forgotten", "5 recovery", _restore_forgotten),
    Sabotage("ceiling-ignored", "6 numbers", _ceiling_ignored),
    Sabotage("zeros-dropped", "7 zeros", _zeros_dropped),
    Sabotage("full-history-stops-the-host", "8 the host", _full_history_stops_the_host),
    Sabotage("stale-tails-believed", "on disk: stale tails", _stale_tails_believed),
    Sabotage("base-left-behind", "retention", _maps_leave_before_the_base_is_whole),
    Sabotage(
        "names-what-is-in-flight",
        "on disk: checkpoint",
        _checkpoint_names_what_is_in_flight,
        first=120,
    ),
]


def _nobody_is_suspect() -> AbstractContextManager[Any]:
    async def nothing(*arguments: object) -> Suspects:
        return Suspects()

    return patch.object(walk_back, "mark", nothing)


def _alarm_without_a_second_look() -> AbstractContextManager[Any]:
    async def at_once(
        self: Comparison, compare: Extents, _: Any, copy: bool, revised: Callable[[int], None]
    ) -> Extents:
        blocks = widen(compare, BLOCK // SECTOR)
        revised(blocks.total * SECTOR)
        return blocks

    return patch.object(Comparison, "revise", at_once)


def _hosts_not_watched() -> AbstractContextManager[Any]:
    async def nothing(self: Changes) -> Extents:
        return EMPTY

    stack = ExitStack()
    stack.enter_context(patch.object(Changes, "all", nothing))
    stack.enter_context(patch.object(Changes, "within", lambda *arguments: EMPTY))
    return stack


def _copies_nothing() -> AbstractContextManager[Any]:
    async def nothing(*arguments: object) -> None:
        """The secondary stays as it is."""

    return patch.object(Comparison, "copy", nothing)


def _base_always_trusted() -> AbstractContextManager[Any]:
    mark = walk_back.mark

    async def without_base(*arguments: Any) -> Suspects:
        marked = await mark(*arguments)
        return Suspects(marked.rows[marked.rows["from_write"] > 0])

    return patch.object(walk_back, "mark", without_base)


def _compare_map_forgotten() -> AbstractContextManager[Any]:
    store = Checkpoints.store

    async def without(self: Checkpoints, chain: Chain, *rest: Any) -> None:
        scan = chain.scan
        if scan is not None:
            chain.scan = replace(scan, compare=EMPTY)
        try:
            await store(self, chain, *rest)
        finally:
            if scan is not None and chain.scan is not None:
                chain.scan = scan

    return patch.object(Checkpoints, "store", without)


def _no_gap_for_a_copy() -> AbstractContextManager[Any]:
    return patch.object(VolumeJobs, "_note_gap", lambda *arguments: None)


SCAN_SABOTAGES = [
    Sabotage("nobody-is-suspect", "claims 11 and 23", _nobody_is_suspect),
    Sabotage("base-always-trusted", "claim 23", _base_always_trusted),
    Sabotage("alarm-at-first-sight", "claims 7 and 9", _alarm_without_a_second_look),
    Sabotage("hosts-not-watched", "claims 8 and 10", _hosts_not_watched),
    Sabotage("copies-nothing", "claim 9", _copies_nothing),
    Sabotage("compare-map-forgotten", "claim 3", _compare_map_forgotten),
    Sabotage("no-gap-for-a-copy", "claim 10", _no_gap_for_a_copy),
]
"""What only the explorer of scans can notice."""
