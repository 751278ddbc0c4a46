"""Long seeded lives: hosts, operators and faults at random, and a crash between any two events.

One *run* is a seed: a pair of disks of some shape, formatted, and brought
through so many lives.  The seed decides everything, so one line replays a
failure.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EIO

import numpy as np

from appliance.cdp.chain import Chain
from appliance.cdp.history import History
from appliance.cdp.interfaces import FLUSH, SECTOR, WRITE
from appliance.cdp.jobs import Job, JobKind
from appliance.cdp.points import Point, Window
from appliance.cdp.tasks import Task
from appliance.cdp.volume import Protection, Service
from appliance.errors import (
    DiskFailed,
    EbbtideError,
    FormatDamaged,
    JobRunning,
    NoRoom,
    PointInGap,
    PointOutsideWindow,
    VolumeNotReady,
)
from appliance.events import SECONDARY_LOST
from tests.simulation.draws import do_one, draw_shape
from tests.simulation.findings import Failure, Tally
from tests.simulation.hosts import Hosts
from tests.simulation.oracle import Tags, Violation
from tests.simulation.rig import LifeEnds, ReadRefused, Rig
from tests.simulation.watching import watched

LIVES = 12
"""Lives in one run, unless told otherwise."""


REFUSED_LATE = (NoRoom, PointInGap, PointOutsideWindow)
"""What a restore is refused with before its first block, if hosts wrote on since its plan."""


class RestoreOutgrown(Exception):
    """The run ends here, and no promise was broken."""


@dataclass
class Explorer:
    """The lives of one seed."""

    seed: int
    story: bool = False
    faults: bool | None = None
    """Does the secondary fail?  None for what the seed says."""
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._shape = draw_shape(self._rng)
        draw = self._rng.random()
        self._secondary_trouble = draw > 0.4
        self._primary_trouble = draw > 0.8
        if self.faults is not None:
            self._secondary_trouble, self._primary_trouble = self.faults, False
        self._rig = Rig(self.seed, self._shape, story=self.story)
        if self._primary_trouble:
            self._rig.primary_medium.lose_cache_on_failed_flush(self._rig.oracle.cache_lost)
        self._snapshots: dict[str, int | None] = {}
        self._hosts = Hosts(
            self._rig,
            self._rng,
            self.tally,
            align=max(1, self._shape.primary_block // SECTOR),
            lengths=[1, 1, 2, 8, 8, 8, 9, 16, 40],
            bursts=[1, 1, 2, 4, 8],
            in_flight=40,
        )

    def run(self, lives: int = LIVES) -> Failure | None:
        """None if every promise was kept."""
        with watched(self._rig):
            try:
                self._rig.format()
                for _ in range(lives):
                    self._live()
            except RestoreOutgrown:
                pass
            except Exception as error:
                story = self._rig.world.story()
                return Failure.told_by(error, self.seed, lives, self.tally.lives, story)
        return None

    # A life

    def _live(self) -> None:
        rig, rng = self._rig, self._rng
        self.tally.lives += 1
        way = rng.choices(["cut", "kill", "stop"], [70, 20, 10])[0]
        rig.fuse = -1
        if way != "stop":
            rig.fuse = rng.randrange(90) if rng.random() < 0.3 else rng.randrange(60, 900)
        try:
            self._start()
            self._look()
            while rig.fuse or way == "stop":
                self._act()
                if way == "stop" and rng.random() < 0.04:
                    if rig.volume.service is Service.ONLINE:
                        rig.settle()
                        self._stop()
                    break
        except LifeEnds:
            pass
        except ReadRefused:
            if not self._primary_trouble:
                raise
        self.tally.ended(way)
        if rig.lifecycle is not None and rig.volume.service is not Service.ONLINE:
            # The primary may be what failed: it restarts, as a person would have it.
            way = "cut"
        rig.end(way)

    def _start(self) -> None:
        rig = self._rig
        without = self._secondary_trouble and self.tally.points and self._rng.random() < 0.08
        rig.start(not without)
        if rig.volume.closed_to_hosts:
            self._wait_until_open()
            rig.observe()

    def _wait_until_open(self) -> None:
        """Nobody is served until the interrupted restore has come to its end."""
        rig = self._rig
        for _ in range(8):
            if rig.volume.service is not Service.ONLINE:
                raise LifeEnds
            if not rig.volume.closed_to_hosts:
                return
            try:
                rig.read(0, 1)
            except ReadRefused:
                pass
            else:
                if rig.volume.closed_to_hosts:
                    raise Violation("a host reads what is restored by half")
            self._reattach()
            rig.pass_time(3)
        if "full" in dict(rig.volume.alerts()).get(SECONDARY_LOST, ""):
            # In these tiny histories crash upon crash outgrows what a restore left free.
            raise RestoreOutgrown
        raise Violation("an interrupted restore does not come to its end")

    def _stop(self) -> None:
        try:
            self._rig.stop()
        except DiskFailed:
            if not self._primary_trouble:
                raise

    def _act(self) -> None:
        rig, rng = self._rig, self._rng
        if rig.volume.service is not Service.ONLINE:
            raise LifeEnds
        actions: list[tuple[float, Callable[[], None]]] = [
            (30, self._hosts.burst),
            (8, self._hosts.flush),
            (5, self._hosts.read),
            (20, lambda: rig.turns(rng)),
            (6, rig.settle),
            (2, self._pass_time),
            (3, self._point),
            (1.5, self._snapshot),
            (0.7, self._restore),
            (0.6, self._forget_snapshot),
            (0.5, self._scan),
            (8 if rig.lost else 0, self._reattach),
        ]
        if self._secondary_trouble:
            actions += [
                (0.5, self._secondary_errs),
                (0.3, self._secondary_stalls),
                (0.3, self._secondary_is_pulled),
            ]
        if self._primary_trouble and self.tally.points:
            actions += [
                (0.2, self._primary_flush_fails),
                (0.2, self._bad_sector),
                (0.15, self._primary_write_fails),
                (0.3, self._primary_stalls),
            ]
        do_one(rng, actions)

    # Time

    def _pass_time(self) -> None:
        self._rig.pass_time(self._rng.choice([0.01, 1.1, 2.5]))

    # Operators

    def _look(self) -> None:
        """Just after a start: what hosts see is what the newest point says."""
        rig = self._rig
        if rig.volume.protection is not Protection.PROTECTED:
            return
        self._agree()
        self._keep_snapshots()
        self._point()

    def _agree(self) -> None:
        """Both disks agree: no host writes now."""
        rig = self._rig
        history = rig.volume.history
        assert history is not None
        number = history.chain.newest_write
        try:
            point = rig.view(number)
        except (EbbtideError, ReadRefused) as error:
            if rig.volume.history is not history or number < history.chain.floor:
                return
            if self._secondary_trouble and not isinstance(error, FormatDamaged):
                return
            raise Violation(f"the newest point, write {number}, is refused: {error}") from error
        if rig.volume.history is not history:
            return
        content = rig.read(0, rig.sectors)
        different = np.flatnonzero(point != content)
        if len(different):
            sector = int(different[0])
            raise Violation(
                f"the disks differ in {len(different)} sectors, first {sector}: primary"
                f" {int(content[sector]):#x}, write:{number} {int(point[sector]):#x}"
            )

    def _keep_snapshots(self) -> None:
        history = self._rig.volume.history
        assert history is not None
        chain = history.chain
        for name, write in list(self._snapshots.items()):
            found = chain.snapshots.get(name)
            if write is None:  # a crash came while it was made or dropped
                if found is None:
                    del self._snapshots[name]
                else:
                    self._snapshots[name] = found.write
            elif found is None and write >= chain.floor:
                raise Violation(f"snapshot {name} of write {write} is gone")
            elif found is None:
                del self._snapshots[name]
            elif found.write != write:
                raise Violation(f"snapshot {name} moved from write {write} to {found.write}")

    def _point(self) -> None:
        """Some point of the window is what it was, and what is no point is refused."""
        rig, rng = self._rig, self._rng
        window, history = rig.volume.window(), rig.volume.history
        if window is None or history is None:
            return
        rig.oracle.forget_below(history.chain.floor)
        gaps = rig.volume.gaps()
        kind = rng.randrange(8)
        if kind == 0 and gaps:
            gap = rng.choice(gaps)
            self._refused(rng.choice([gap.from_write, gap.to_write]))
        elif kind == 1:
            self._refused(rng.choice([window.oldest_write - 1, rig.oracle.highest + 1]))
        else:
            for number in rig.oracle.solid_numbers(window.oldest_write, window.newest_write):
                for gap in gaps:
                    if gap.from_write <= number <= gap.to_write:
                        raise Violation(f"write {number} is called a gap ({gap.reason})")
            number = self._some_number(window, history.chain)
            if number <= rig.path.completed_write:
                self._look_at(number, history)

    def _some_number(self, window: Window, chain: Chain) -> int:
        rng, kind = self._rng, self._rng.randrange(6)
        known = self._rig.oracle.numbers(window.oldest_write, window.newest_write)
        if kind == 0:
            return window.oldest_write
        if kind == 1 and chain.snapshots:
            return chain.snapshots[rng.choice(sorted(chain.snapshots))].write
        if kind in (2, 3) and known:
            return rng.choice(known)
        return rng.randint(window.oldest_write, window.newest_write)

    def _in_gap(self, number: int) -> bool:
        return any(gap.from_write <= number <= gap.to_write for gap in self._rig.volume.gaps())

    def _look_at(self, number: int, history: History) -> None:
        rig = self._rig
        in_gap, states = self._in_gap(number), rig.oracle.at(number)
        try:
            content = rig.view(number)
        except (EbbtideError, ReadRefused) as error:
            if isinstance(error, PointInGap) and (in_gap or self._in_gap(number)):
                return
            if rig.volume.history is not history or number < history.chain.floor:
                return  # given up for room, or with the secondary
            if self._secondary_trouble and not isinstance(error, FormatDamaged):
                return  # it fails, and nobody has written to it since
            raise Violation(f"write:{number} cannot be read: {error}") from error
        if in_gap:
            raise Violation(f"write:{number} lies in a gap, and is given")
        if rig.volume.history is history:
            self._compare(number, content, states)

    def _compare(self, number: int, content: Tags, states: list[Tags]) -> None:
        if not states:
            return
        self.tally.points += 1
        if any(np.array_equal(content, state) for state in states):
            return
        different = np.flatnonzero(content != states[0])
        sector = int(different[0])
        raise Violation(
            f"write:{number} differs in {len(different)} sectors, first {sector}:"
            f" {int(content[sector]):#x} and not {int(states[0][sector]):#x}"
        )

    def _refused(self, number: int) -> None:
        rig = self._rig
        if number < 0:
            return
        try:
            rig.finish("resolving", Task(rig.volume.resolve(f"write:{number}")))
        except (PointInGap, PointOutsideWindow, VolumeNotReady):
            return
        except DiskFailed:
            if self._secondary_trouble:
                return
            raise
        raise Violation(f"write:{number} is no point, and is given")

    def _snapshot(self) -> None:
        rig = self._rig
        name = f"s{self._rng.randrange(6)}"
        if rig.volume.protection is not Protection.PROTECTED or name in self._snapshots:
            return
        self._snapshots[name] = None
        try:
            taken = rig.finish("a snapshot", Task(rig.volume.take_snapshot(name)))
        except EbbtideError:
            return
        self._snapshots[name] = taken.write

    def _forget_snapshot(self) -> None:
        rig = self._rig
        names = [name for name, write in self._snapshots.items() if write is not None]
        if rig.volume.history is None or not names:
            return
        name = self._rng.choice(sorted(names))
        self._snapshots[name] = None
        try:
            rig.finish("dropping", Task(rig.volume.delete_snapshot(name)))
        except EbbtideError:
            return
        del self._snapshots[name]

    def _restore(self) -> None:
        rig, rng = self._rig, self._rng
        history = rig.volume.history
        if rig.volume.protection is not Protection.PROTECTED or history is None:
            return
        if rig.volume.job is not None:
            return
        known = rig.oracle.numbers(history.chain.floor, history.chain.newest_restorable)
        if not known:
            return
        number = rng.choice(known)
        rig.settle()
        states = rig.oracle.at(number)
        assert rig.lifecycle is not None
        try:
            point: Point = rig.finish("resolving", Task(rig.volume.resolve(f"write:{number}")))
            plan = rig.finish("planning", Task(rig.lifecycle.jobs.restores.plan(point)))
            job = rig.lifecycle.jobs.restores.start(plan, rig.send_hosts_away)
        except (JobRunning, NoRoom, PointInGap, PointOutsideWindow, VolumeNotReady):
            return
        except DiskFailed:
            if not self._secondary_trouble:
                raise
            return
        allowed, rig.errors_allowed = rig.errors_allowed, True
        if self._secondary_trouble and rng.random() < 0.3:
            self._disturb(job)
        rig.wait("a restore", lambda: job.result is not None)
        rig.settle()
        if rig.volume.service is not Service.ONLINE:
            raise LifeEnds
        rig.errors_allowed = allowed
        if job.result != "done":
            if not rig.volume.closed_to_hosts and isinstance(job.error, REFUSED_LATE):
                return
            if not self._secondary_trouble:
                raise Violation(f"the restore of write {number} {job.result}: {job.error}")
            if not self._goes_on():
                return
        self.tally.restores += 1
        rig.oracle.flush_ends(rig.oracle.flush_begins(), journaled=False)
        content = rig.read(0, rig.sectors)
        if states and not np.array_equal(content, states[0]):
            raise Violation(f"after the restore of write {number} the volume differs from it")

    def _disturb(self, job: Job) -> None:
        """The secondary makes trouble while a job is at work."""
        for _ in range(self._rng.randrange(80)):
            if job.result is None:
                self._rig.turn()
        self._rng.choice(
            [self._secondary_errs, self._secondary_stalls, self._secondary_is_pulled]
        )()

    def _goes_on(self) -> bool:
        """After a restore was interrupted: does it come to its end?  Or it is given up."""
        fate = self._rng.random()
        if not self._rig.volume.closed_to_hosts or fate < 0.5:
            raise LifeEnds
        if fate < 0.65:
            self._give_up()
            return False
        self._wait_until_open()
        return True

    def _give_up(self) -> None:
        """A person takes the volume as the interrupted restore has left it."""
        rig = self._rig
        assert rig.lifecycle is not None
        try:
            rig.finish("giving up", Task(rig.lifecycle.jobs.restores.give_up()))
        except (DiskFailed, VolumeNotReady) as error:
            if not self._primary_trouble:
                raise Violation(f"a restore is not given up: {error}") from error
            raise LifeEnds from error
        rig.oracle.restoring = None
        rig.observe()

    def _scan(self) -> None:
        rig = self._rig
        if rig.volume.job is not None or rig.volume.protection is not Protection.PROTECTED:
            return
        assert rig.lifecycle is not None
        kind: JobKind = self._rng.choice(["full", "verify"])
        if rig.volume.history is not None:
            rig.lifecycle.jobs.synchronise(kind)

    # Faults

    def _reattach(self) -> None:
        self._rig.secondary_medium.replug()
        self._rig.secondary_medium.release()
        self._rig.reattach()

    def _secondary_errs(self) -> None:
        self.tally.losses += 1
        kind = self._rng.choice([WRITE, FLUSH])
        self._rig.secondary_medium.fail_next(kind, EIO, self._rng.choice([1, 1, 3]))

    def _secondary_stalls(self) -> None:
        self.tally.losses += 1
        self._rig.secondary_medium.stall()

    def _secondary_is_pulled(self) -> None:
        self.tally.losses += self._rig.pull_secondary()

    def _primary_flush_fails(self) -> None:
        self._rig.errors_allowed = True
        self._rig.primary_medium.fail_next(FLUSH, EIO)

    def _primary_stalls(self) -> None:
        """Not up to the deadline, but for longer than reads wait for it."""
        rig, medium = self._rig, self._rig.primary_medium
        rig.errors_allowed = True  # what one stall leaves over may meet its deadline in the next
        for _ in range(self._rng.choice([0, 4])):
            self._hosts.burst()
            self._rig.turns(self._rng)
        medium.stall()
        for _ in range(8):
            self._hosts.read()
        rig.world.after(0.75 * rig.shape.deadline_seconds, medium.release)

    def _bad_sector(self) -> None:
        rig = self._rig
        rig.errors_allowed = True
        rig.primary_medium.bad_sectors.add(self._rng.randrange(rig.sectors))

    def _primary_write_fails(self) -> None:
        self._rig.errors_allowed = True
        self._rig.primary_medium.fail_next(WRITE, EIO)
