"""The timeline of a volume: its window, its maps as people see them, and the way to a point."""

import numpy as np

from appliance.cdp.chain import Chain
from appliance.cdp.delta_map import DeltaMap
from appliance.cdp.history import History
from appliance.cdp.points import ByName, ByTime, ByWrite, MapSummary, Point, Window, parse
from appliance.errors import BadPoint, PointAmbiguous, PointOutsideWindow, SnapshotNotFound


def window(chain: Chain) -> Window | None:
    """The protection window; None while nothing can be restored."""
    if not chain.baseline_whole:
        return None
    newest = chain.newest_restorable
    if newest < chain.floor:
        return None
    inside = [m for m in chain.all_maps if m.records and m.last_write <= newest]
    newest_ns = max((_last_time(m) for m in inside), default=chain.floor_time)
    return Window(chain.floor_time, newest_ns, chain.floor, newest)


def _last_time(delta_map: DeltaMap) -> int:
    if delta_map.closed:
        return delta_map.closed
    return int(delta_map.marks()["wall"][-1]) if delta_map.mark_count else delta_map.opened


def summaries(chain: Chain) -> list[MapSummary]:
    """The maps of the chain, oldest first."""
    return [
        MapSummary(
            id=m.id,
            kind=m.kind.name.lower(),
            order=m.order.name.lower(),
            first_write=m.first_write,
            last_write=m.last_write,
            opened_ns=m.opened,
            closed_ns=m.closed or None,
            bytes=m.payload_bytes,
            suspect=chain.is_suspect(m),
        )
        for m in chain.all_maps
        if m.records
    ]


async def resolve(history: History, text: str, now_ns: int, completed_write: int) -> Point:
    """The point that people mean; raises what is wrong with it.

    `completed_write` bounds it: what is still on its way is no point yet.
    """
    chain = history.chain
    asked = parse(text, now_ns)
    if isinstance(asked, ByName):
        snapshot = chain.snapshots.get(asked.name)
        if snapshot is None:
            raise SnapshotNotFound(name=asked.name)
        point = Point(snapshot.write, snapshot.time_ns, text)
    elif isinstance(asked, ByWrite):
        point = Point(asked.write, await _time_of(history, asked.write), text)
    else:
        point = await _at_time(history, asked, text, now_ns)
    if point.write > max(completed_write, chain.floor):
        raise PointOutsideWindow(point=text, oldest=chain.floor, newest=completed_write)
    chain.check_restorable(point.write, text)
    return point


async def _time_of(history: History, write: int) -> int | None:
    for delta_map in history.chain.all_maps:
        if delta_map.records and delta_map.first_write <= write <= delta_map.last_write:
            marks = await history.marks(delta_map)
            at = int(np.searchsorted(marks["write"], write))
            return int(marks["wall"][at]) if at < len(marks) else None  # cut just now
    return None


async def _at_time(history: History, asked: ByTime, text: str, now_ns: int) -> Point:
    """The newest write at or before a time; PointAmbiguous if the clock passed it twice.

    Each place where the timeline goes from "at or before" to "after" is a
    candidate; with a clock that never stepped back there is one.
    """
    if asked.wall_ns > now_ns:
        raise BadPoint(point=text, reason="it lies in the future")
    chain = history.chain
    candidates: list[Point] = []
    before: Point | None = None
    for delta_map in chain.all_maps:
        if not delta_map.records:
            continue
        if delta_map.opened <= asked.wall_ns <= _last_time(delta_map):
            marks = await history.marks(delta_map)
            for write, wall in zip(marks["write"].tolist(), marks["wall"].tolist(), strict=True):
                if wall <= asked.wall_ns:
                    before = Point(write, wall, text)
                elif before is not None:
                    candidates.append(before)
                    before = None
        elif delta_map.opened > asked.wall_ns:
            if before is not None:
                candidates.append(before)
            before = None
        else:
            before = Point(delta_map.last_write, _last_time(delta_map), text)
    if before is not None:
        candidates.append(before)
    usable = [point for point in candidates if point.write >= chain.floor]
    if len(usable) > 1:
        raise PointAmbiguous(point=text, writes=", ".join(str(p.write) for p in usable))
    if usable:
        return usable[0]
    if chain.baseline_whole and asked.wall_ns >= chain.floor_time:
        return Point(chain.floor, chain.floor_time, text)
    raise PointOutsideWindow(point=text, oldest=chain.floor, newest=chain.newest_restorable)
