"""The engine as an oracle sees it: told what is numbered, journaled and read back.

It goes in steps so small that a small volume takes several.
"""

import contextlib
import gc
from collections.abc import Iterator
from functools import cache
from typing import Any
from unittest.mock import patch

from appliance.cdp import (
    comparison,
    dirty_region_log,
    full_scan,
    intents,
    recovery,
    restore,
    retention,
    side_by_side,
    synchronise,
)
from appliance.cdp.delta_map import DeltaMap
from appliance.cdp.extents import Extents
from appliance.cdp.history import History
from appliance.cdp.interfaces import HostRequest
from appliance.cdp.journal import Journal
from appliance.cdp.tasks import Cancelled, Completion
from appliance.cdp.volume import Volume
from appliance.cdp.write_path import WritePath
from appliance.errors import EbbtideError
from tests.simulation.draws import Shape
from tests.simulation.rig import LifeEnds, Media, Rig

STEP = 16 << 10
"""Bytes that restores, scans and folds take at a time."""

EXPECTED = (EbbtideError, Cancelled, LifeEnds)


@contextlib.contextmanager
def watched(rig: Rig) -> Iterator[None]:
    """The engine tells the rig's oracle what it numbers, journals and reads back."""
    oracle, shape = rig.oracle, rig.shape
    write, seal, read_history, take_stock, doubt, fail = (
        WritePath.write,
        Journal.seal,
        recovery.read_history,
        recovery.take_stock,
        Volume.doubt,
        Completion.fail,
    )

    def watched_write(self: WritePath, request: HostRequest, inside_lock: bool = False) -> None:
        data = None if request.data is None else bytes(request.data)
        before = self.next_write
        write(self, request, inside_lock)
        if self.next_write != before and rig.writes_by(self):
            oracle.numbered(request, data)

    def watched_seal(self: Journal, memory: memoryview, entries: Any, *rest: Any) -> DeltaMap:
        delta_map = seal(self, memory, entries, *rest)
        if rig.journals_to(self):
            oracle.sealed(entries)
        return delta_map

    async def watched_read(*arguments: Any) -> History:
        history = await read_history(*arguments)
        maps = history.chain.maps
        oracle.read_back(history.chain, await history.rows(maps[-1]) if maps else None)
        return history

    async def watched_stock(history: History, *rest: Any) -> None:
        # By then a restore that hosts have outrun, without this secondary, is forgotten.
        oracle.restoring = history.chain.restoring
        await take_stock(history, *rest)

    async def watched_doubt(self: Volume, doubted: Extents) -> None:
        rig.doubted.append(doubted)
        await doubt(self, doubted)

    def watched_fail(self: Completion[Any], error: BaseException) -> None:
        if not isinstance(error, EXPECTED) and not rig.ending:
            raise error  # a task that nobody awaits would hide it
        fail(self, error)

    _leave_what_is_there()
    collecting = gc.isenabled()
    gc.disable()  # so that the coroutines of an ended life do not stir in the next
    with (
        contextlib.ExitStack() as ended,
        patch.object(WritePath, "write", watched_write),
        patch.object(Journal, "seal", watched_seal),
        patch.object(recovery, "read_history", watched_read),
        patch.object(recovery, "take_stock", watched_stock),
        patch.object(Volume, "doubt", watched_doubt),
        patch.object(Completion, "fail", watched_fail),
        patch.object(restore, "STEP", STEP),
        patch.object(comparison, "STEP", STEP),
        patch.object(comparison, "WINDOW", STEP),
        patch.object(side_by_side, "LONG", STEP),
        patch.object(synchronise, "STEP", STEP),
        patch.object(full_scan, "CHUNK", 2 * STEP),
        patch.object(full_scan, "SAVE_NS", 0),
        patch.object(retention, "STEP", STEP),
        patch.object(intents, "CEILING_STEP", shape.ceiling_step),
        patch.object(recovery, "CEILING_STEP", shape.ceiling_step),
        patch.object(dirty_region_log, "CEILING_STEP", shape.ceiling_step),
    ):
        ended.callback(gc.enable if collecting else gc.disable)
        ended.callback(gc.collect)
        ended.callback(setattr, rig, "ending", True)
        yield


@cache
def _leave_what_is_there() -> None:
    """Modules and tests stay: going over them after each life took longer than the life."""
    gc.collect()
    gc.freeze()


@cache
def protected_media(shape: Shape) -> Media:
    """A start for many short stories, made once."""
    rig = Rig(1, shape)
    with watched(rig):
        rig.format()
        rig.start()
        rig.settle_jobs()
        rig.stop()
        rig.end("stop")
    return Media(bytes(rig.primary_medium.contents), bytes(rig.secondary_medium.contents))
