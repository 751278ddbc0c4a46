"""The delta map chain: base image, then delta maps, oldest first, without a hole.

Beside the maps stand the snapshots, the gaps, and the floor: the oldest point
that can be restored.  The floor moves first and durably, never into a gap;
only then is a map below it folded into the base.
"""

from dataclasses import dataclass, field, replace

from appliance.cdp.delta_map import DeltaMap, covering
from appliance.cdp.points import Gap, Snapshot
from appliance.cdp.suspects import OPEN, Suspects
from appliance.cdp.sync_progress import SyncProgress
from appliance.errors import PointInGap, PointOutsideWindow, PointSuspect

SKIPPED = "numbers skipped after a crash"
DAMAGED = "history was damaged"


@dataclass(slots=True)
class Chain:
    """The past of a volume, without its data.

    `maps` are the closed ones; `present` is open or None while nothing is
    journaled.  Points from `incomplete_from` on, unless 0, await the end of a
    resync.  Write numbers between two maps were never handed out, or lost in a
    crash: no point is there either.  `restoring` is (point, first write of the
    restore) of a restore that has not ended.
    """

    next_write: int = 1
    next_map: int = 1
    epoch: int = 1
    elapsed_ns: int = 0
    clock_epoch: int = 0
    floor: int = 0
    floor_time: int = 0
    baseline_whole: bool = False
    incomplete_from: int = 0
    maps: list[DeltaMap] = field(default_factory=list)
    present: DeltaMap | None = None
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    restoring: tuple[int, int] | None = None
    suspects: Suspects = field(default_factory=Suspects)
    scan: SyncProgress | None = None
    """A scan of everything that has not ended."""
    paused: bool = False
    """A person holds the baseline or resync; a scan has a note of its own."""

    @property
    def all_maps(self) -> list[DeltaMap]:
        """Closed maps and the present one, oldest first."""
        return self.maps if self.present is None else [*self.maps, self.present]

    @property
    def settled(self) -> list[DeltaMap]:
        """The closed maps that the secondary has taken whole: what a checkpoint may name."""
        maps = self.maps
        behind = next((at for at, m in enumerate(maps) if m.in_flight), len(maps))
        return maps[:behind]

    @property
    def unsettled(self) -> DeltaMap | None:
        """The first map behind the settled ones: the stream is followed from its start."""
        behind = self.all_maps[len(self.settled) :]
        return behind[0] if behind else None

    @property
    def newest_write(self) -> int:
        """The last write that is in a map, or the floor where that is behind it."""
        for delta_map in reversed(self.all_maps):
            if delta_map.records:
                return max(self.floor, delta_map.last_write)
        return self.floor

    def maps_up_to(self, write: int) -> list[DeltaMap]:
        """The maps that a PIT map of that point is made of."""
        maps = self.all_maps
        return maps[: covering(maps, write)]

    def maps_after(self, write: int) -> list[DeltaMap]:
        """The maps that hold any write behind that point."""
        return [delta_map for delta_map in self.all_maps if delta_map.last_write > write]

    @property
    def newest_restorable(self) -> int:
        """The newest point that can be restored now."""
        if self.incomplete_from:
            return self.incomplete_from - 1  # below the floor there is no point at all
        return self.newest_write

    def every_gap(self) -> list[Gap]:
        """The gaps that were noted, and the holes between maps, by their writes."""
        found = list(self.gaps)
        behind = self.floor
        for delta_map in self.all_maps:
            if delta_map.records:
                if delta_map.first_write > behind + 1:
                    hole = Gap(behind + 1, delta_map.first_write - 1, SKIPPED, delta_map.opened)
                    if not any(g.from_write <= hole.from_write <= g.to_write for g in self.gaps):
                        found.append(hole)
                behind = max(behind, delta_map.last_write)
        return sorted(found, key=lambda gap: gap.from_write)

    def check_restorable(self, write: int, text: str) -> None:
        """PointOutsideWindow or PointInGap unless the point can be restored."""
        newest = self.newest_restorable
        if self.baseline_whole and write >= self.floor:
            for gap in self.every_gap():
                if gap.from_write <= write <= gap.to_write:
                    raise PointInGap(
                        point=text,
                        from_write=gap.from_write,
                        to_write=gap.to_write,
                        reason=gap.reason,
                    )
        if not self.baseline_whole or not self.floor <= write <= newest:
            raise PointOutsideWindow(point=text, oldest=self.floor, newest=newest)

    def is_suspect(self, delta_map: DeltaMap) -> bool:
        """May points of the map not match what the host had?"""
        return self.suspects.concern(delta_map.first_write, delta_map.last_write)

    def check_trusted(self, write: int, text: str) -> None:
        """PointSuspect if the map that the point lies in is suspect, or the base below it."""
        inside = [m for m in self.all_maps if m.first_write <= write <= m.last_write]
        first = min((m.first_write for m in inside), default=write)
        last = max((m.last_write for m in inside), default=write)
        if self.suspects.concern(first, last):
            begin, end = self.suspects.span()
            until = "the newest" if end == OPEN else f"write {end}"
            raise PointSuspect(point=text, from_write=begin, until=until)

    def add_gap(self, gap: Gap) -> None:
        """Note a gap that reaches as far as any, joined with those that it touches.

        The one that begins first gives its reason.
        """
        if gap.to_write < gap.from_write:
            return
        while self.gaps and self.gaps[-1].to_write + 1 >= gap.from_write:
            last = self.gaps.pop()
            first = last if last.from_write <= gap.from_write else gap
            gap = replace(first, to_write=max(last.to_write, gap.to_write))
        self.gaps.append(gap)

    def end_gaps(self) -> None:
        """The primary holds just what the newest point says: that is a point again."""
        newest = self.newest_write
        if self.gaps and self.gaps[-1].to_write >= newest:
            last = self.gaps.pop()
            if last.from_write < newest:
                self.gaps.append(replace(last, to_write=newest - 1))

    def lose_from(self, write: int, newest: int, time_ns: int) -> list[Snapshot]:
        """What was written from here on up to `newest` is not known any more.

        No later point counts before a resync of everything has ended.  Returns
        the snapshots that are lost with it.
        """
        if self.restoring is not None and self.restoring[0] >= write:
            self.restoring = None
        if not self.baseline_whole:
            return []
        self.incomplete_from = min(self.incomplete_from or write, write)
        self.add_gap(Gap(write, max(write, newest - 1), DAMAGED, time_ns))
        return self._drop([s for s in self.snapshots.values() if s.write >= write])

    def raise_floor(self, write: int, time_ns: int) -> list[Snapshot]:
        """Points below are given up; a floor in a gap moves to the gap's end.

        Returns the snapshots that are given up with them.
        """
        self.floor = max(self.floor, write)
        self.floor_time = time_ns
        for gap in self.gaps:
            if gap.from_write <= self.floor <= gap.to_write:
                self.floor = self._at_or_behind(gap.to_write + 1)
        self.gaps = [gap for gap in self.gaps if gap.to_write >= self.floor]
        self.suspects = self.suspects.above(self.floor)
        return self._drop([s for s in self.snapshots.values() if s.write < self.floor])

    def _at_or_behind(self, write: int) -> int:
        """That write, or the next one of which a map tells: the others were lost in a crash."""
        for delta_map in self.all_maps:
            if delta_map.records and delta_map.last_write >= write:
                return max(write, delta_map.first_write)
        return write

    def _drop(self, snapshots: list[Snapshot]) -> list[Snapshot]:
        for snapshot in snapshots:
            del self.snapshots[snapshot.name]
        return sorted(snapshots, key=lambda snapshot: snapshot.write)
