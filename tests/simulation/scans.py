"""Seeded synchronisations: blocks change behind the appliance's back, and power fails in any phase.

One run is a pair of disks, new or protected, brought through short lives.  In
each of them hosts write while a baseline, a resync, a verify or a full scan is
at work, held, cancelled, or robbed of its secondary.  Because each change on
the secondary has a tag of its own (`Spoils`), a point that reads wrong tells
why, and these promises can be held against what the scans say:

* Only what was changed behind our back ever reads wrong, and of payload not
  even that: it is refused.
* A verify reports the blocks of the newest point that were changed, no more
  and no fewer.  Host writes meanwhile may only hide what they have replaced.
* A full scan leaves nothing changed in the newest point.
* Once a scan has found a change, no point that answers with it is trusted.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from unittest.mock import patch

import numpy as np

from appliance import events
from appliance.cdp import full_scan
from appliance.cdp.delta_map import DeltaMap
from appliance.cdp.extents import Extents
from appliance.cdp.full_scan import FullScan
from appliance.cdp.history import History
from appliance.cdp.interfaces import SECTOR
from appliance.cdp.pit_map import PitMap
from appliance.cdp.tasks import Task
from appliance.cdp.volume import Protection, Service
from appliance.errors import (
    DiskFailed,
    FormatDamaged,
    VolumeNotReady,
)
from tests.simulation.draws import do_one, draw_shape
from tests.simulation.findings import Failure, Tally
from tests.simulation.hosts import Hosts
from tests.simulation.oracle import Violation
from tests.simulation.rig import LifeEnds, Rig
from tests.simulation.scan_promises import LOST, SECTORS, Asked, Promises, blocks, sectors_of
from tests.simulation.spoils import Spoils
from tests.simulation.watching import protected_media, watched

LIVES = 12
"""Lives in one run, unless told otherwise."""
SHAPES = [draw_shape(random.Random(seed)) for seed in range(16)]
"""Few, as the media of each are kept."""


@dataclass
class ScanExplorer:
    """The lives of one seed."""

    seed: int
    story: bool = False
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._rng = rng = random.Random(self.seed)
        self._shape = rng.choice(SHAPES)
        self._new = rng.random() < 0.2
        media = None if self._new else protected_media(self._shape)
        self._rig = Rig(self.seed, self._shape, story=self.story, media=media)
        self._spoils = Spoils(self._rig.secondary_medium)
        self._spoil_rate = rng.choice([0, 2, 2, 6])
        self._spoil_payload = rng.random() < 0.5
        self._gathered = rng.choice([2, 6, 1 << 18])
        self._loses = rng.random() < 0.4
        self._hosts = Hosts(
            self._rig,
            rng,
            self.tally,
            align=max(1, self._shape.primary_block // SECTOR),
            lengths=[1, 1, 2, 8, 8, 8, 9, 16],
            bursts=[1, 1, 2, 4],
            in_flight=20,
            block=SECTORS,
        )
        self._hosts.writes = self._noted
        self._asked: Asked | None = None
        self._promises = Promises(self._rig, self._spoils, self.tally, self._loses)

    def run(self, lives: int = LIVES) -> Failure | None:
        """None if every promise was kept."""
        # Every second scan leaves its checkpoints to others.
        save_ns = 3600 * 10**9 if self.seed % 2 else 0
        with (
            watched(self._rig),
            patch.object(full_scan, "GATHERED", self._gathered),
            patch.object(full_scan, "SAVE_NS", save_ns),
            patch.object(FullScan, "_differed", self._confirming()),
        ):
            try:
                if self._new:
                    self._rig.format()
                for _ in range(lives):
                    self._live()
            except Exception as error:
                story = self._rig.world.story()
                return Failure.told_by(error, self.seed, lives, self.tally.lives, story, scans=True)
        return None

    # A life

    def _live(self) -> None:
        rig, rng = self._rig, self._rng
        self.tally.lives += 1
        way = rng.choices(["cut", "kill", "stop"], [85, 12, 3])[0]
        rig.fuse = rng.randrange(80) if rng.random() < 0.1 else -1
        try:
            rig.start()
            self._follow()
            self._promises.newest_holds()
            for _ in range(rng.randrange(4)):
                rng.choice([self._hosts.burst, self._hosts.burst, self._spoil, self._close_map])()
            if rng.random() < 0.2:
                for action in (self._spoil, self._spoil, self._ask, self._to_the_end, self._judge):
                    action()
            if rng.random() < 0.8:
                self._ask()
            if way != "stop" and rig.fuse < 0:
                rig.fuse = rng.randrange(1, rng.choice([30, 120, 300]))
            while way != "stop" or rng.random() > 0.03:
                self._act()
            rig.settle()
            rig.stop()
        except LifeEnds:
            pass
        self.tally.ended(way)
        self.tally.phases[self._phase()] += way != "stop"
        rig.end(way)
        if self._asked is not None:
            self._asked.crashed, self._asked.job = True, None

    def _phase(self) -> str:
        rig = self._rig
        if rig.lifecycle is None or rig.volume.service is not Service.ONLINE:
            return "recovery"
        job = rig.volume.job
        if job is None:
            return "no job"
        return f"{job.kind} {'held' if job.paused else job.phase}"

    def _act(self) -> None:
        rig, rng = self._rig, self._rng
        actions: list[tuple[float, Callable[[], None]]] = [
            (24, self._hosts.burst),
            (4, self._hosts.flush),
            (3, self._hosts.read),
            (30, lambda: rig.turns(rng)),
            (4, rig.settle),
            (2, lambda: rig.pass_time(rng.choice([0.01, 1.1, 2.5]))),
            (12, self._ask),
            (self._spoil_rate, self._spoil),
            (0.7, self._mend),
            (1, self._close_map),
            (1.5, self._hold),
            (0.5, self._cancel),
            (4, self._to_the_end),
            (2, self._point),
            (1, self._promises.newest_holds),
            (8 if rig.lost else 0, self._reattach),
            (0.8 if self._loses else 0, self._pull),
        ]
        do_one(rng, actions)
        self._judge()

    # What a secondary does

    def _spoil(self) -> None:
        """Change what answers for a block at some point, where nothing is under way."""
        rig, rng = self._rig, self._rng
        history = rig.volume.history
        if not self._spoil_rate or history is None or not history.chain.baseline_whole:
            return
        chain = history.chain
        settled = list(chain.settled)
        number = chain.newest_write
        if rng.random() < 0.2:
            number = rng.randint(chain.floor, number)
        try:
            rig.finish("a checkpoint", Task(history.checkpoint()))
            pit_map: PitMap = rig.finish("a PIT map", Task(history.pit_map(number)))
        except (DiskFailed, FormatDamaged):
            return
        if rig.volume.history is not history:
            return
        named = [known for known in settled if any(known is other for other in chain.maps)]
        for _ in range(rng.choice([1, 1, 2, 4])):
            block = rng.randrange(rig.sectors // SECTORS)
            if rng.random() < 0.5:
                block = self._hosts.hot // SECTORS
            some = rng.choice([range(8), range(8), range(1), range(3, 5)])
            for sector in (block * SECTORS + at for at in some):
                self._spoil_sector(history, named, pit_map, sector)

    def _spoil_sector(
        self, history: History, named: list[DeltaMap], pit_map: PitMap, sector: int
    ) -> None:
        [piece] = pit_map.pieces(sector, sector + 1)
        entry = piece.entry
        before = self._spoils.count
        if entry is None or entry.write <= history.base_write:
            place = history.superblock.base_offset // SECTOR + sector
            self._spoils.spoil(sector, place, in_base=True)
        elif (
            self._spoil_payload
            and not entry.is_zeros
            and not entry.is_lost
            and any(known.first_write <= entry.write <= known.last_write for known in named)
        ):
            self._rig.damage_allowed = True
            place = entry.location + sector - entry.start
            self._spoils.spoil(sector, place, in_base=False)
        self.tally.spoils += self._spoils.count - before

    def _mend(self) -> None:
        living = self._spoils.living()
        if living:
            block = self._rng.choice(living).sector // SECTORS
            for spoil in living:
                if spoil.sector // SECTORS == block:
                    self._spoils.mend(spoil)

    def _pull(self) -> None:
        if self._rig.pull_secondary():
            self.tally.losses += 1
            if self._asked is not None:
                self._asked.crashed = True

    def _reattach(self) -> None:
        self._rig.secondary_medium.replug()
        self._rig.reattach()

    # What operators do

    def _close_map(self) -> None:
        history = self._rig.volume.history
        if history is not None and not history.journal.mid_write:
            history.journal.close_map()

    def _ask(self) -> None:
        rig = self._rig
        if rig.volume.job is not None or rig.lifecycle is None:
            return
        if events.NOT_SYNCHRONISED in dict(rig.volume.alerts()) and rig.volume.history is not None:
            rig.lifecycle.jobs.synchronise("resync")
        if rig.volume.protection is not Protection.PROTECTED:
            return
        kind = self._rng.choice(["full", "verify", "verify", "resync"])
        if kind == "resync":
            rig.lifecycle.jobs.synchronise("resync")
            return
        history = self._promises.quiet()
        if history is None or history.chain.scan is not None or rig.volume.job is not None:
            return  # a scan that is owed would come back if this one were not noted
        newest = self._promises.newest(history)
        found = self._promises.content(newest)
        if found is None or rig.volume.job is not None:
            return
        wrong = list(self._spoils.seen_in(found).values())
        suspect = sectors_of(history.chain.suspects.open)
        scan: Literal["full", "verify"] = "full" if kind == "full" else "verify"
        try:
            job = rig.lifecycle.jobs.synchronise(scan)
        except VolumeNotReady:
            return
        lost = blocks(np.flatnonzero(found == LOST).tolist())
        self._asked = Asked(
            scan,
            job,
            wrong,
            newest,
            lost,
            self._spoils.count,
            rig.damages,
            len(rig.doubted),
            suspect,
        )

    def _noted(self, first: int, length: int) -> None:
        """A host writes there while a scan was asked for."""
        if self._asked is not None:
            self._asked.written.update(range(first, first + length))

    def _confirming(self) -> Callable[[FullScan, int, Extents], None]:
        """A scan that tells what it has found wrong under a lock."""
        differed = FullScan._differed

        def confirmed(scan: FullScan, size: int, found: Extents) -> None:
            differed(scan, size, found)
            asked = self._asked
            if asked is not None:
                still = sectors_of(found) - asked.written
                asked.confirmed += [
                    spoil
                    for spoil in asked.wrong
                    if spoil.sector in still and not spoil.mended and self._spoils.lives(spoil)
                ]

        return confirmed

    def _hold(self) -> None:
        job = self._rig.volume.job
        if job is not None:
            if job.paused:
                job.go_on()
            else:
                job.pause()

    def _cancel(self) -> None:
        job = self._rig.volume.job
        if job is None or job.kind == "restore":
            return
        job.cancel()
        if job.kind in ("full", "verify"):
            asked, self._asked = self._asked, None
            while job.result is None:
                self._rig.turn()
            if asked is not None and job.result == "cancelled":
                self._promises.doubt_confirmed(asked)

    def _to_the_end(self) -> None:
        """Of the job, while hosts write now and then."""
        rig, rng = self._rig, self._rng
        job = rig.volume.job
        if job is None or rig.volume.protection is Protection.TRACKING:
            return
        job.go_on()
        busy = rng.random() < 0.5
        while job.result is None and rig.volume.history is not None:
            if busy and rng.random() < 0.04:
                self._hosts.burst()
            rig.turn()

    def _follow(self) -> None:
        """After a start: is the scan that was under way known, or is it over?"""
        history = self._rig.volume.history
        if self._asked is not None and (history is None or history.chain.scan is None):
            self._asked = None

    def _judge(self) -> None:
        """Has the scan ended that was asked for?"""
        asked, rig = self._asked, self._rig
        if asked is None:
            return
        if asked.job is None:
            job = rig.volume.job
            if job is None or job.kind != asked.kind:
                return
            asked.job = job
        if asked.job.result is None:
            return
        if asked.job.result != "done":
            if asked.job.result == "failed" and not self._loses:
                raise Violation(f"a {asked.kind} scan failed: {asked.job.error}")
            self._follow()
            if self._asked is not None:
                asked.crashed, asked.job = True, None
            return
        self._asked = None
        if rig.volume.history is not None:
            self._promises.doubt_confirmed(asked)
            self._promises.hold(asked, asked.job, rig.volume.history)

    def _point(self) -> None:
        """Some point is what it was, or is refused, or nobody could know."""
        rig, rng = self._rig, self._rng
        window, history = rig.volume.window(), rig.volume.history
        if window is None or history is None:
            return
        chain = history.chain
        rig.oracle.forget_below(chain.floor)
        known = rig.oracle.numbers(window.oldest_write, window.newest_write)
        self._promises.look_at(history, rng.choice(known) if known else window.newest_write)
