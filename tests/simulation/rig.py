"""A pair of simulated disks with the engine over it, watched by an oracle.

The rig plays what surrounds the engine in the appliance: it starts lives, ends
them, gives a lost secondary back through its media, and is the hosts.  Every
step of the world goes through `turn`, where a fuse may end the life: so a
crash comes between any two events, in recovery as well.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from appliance import events
from appliance.cdp import pair, superblock
from appliance.cdp.dirty_region_log import DirtyRegionLog
from appliance.cdp.extents import Extents
from appliance.cdp.interfaces import FLUSH, READ, SECTOR, WRITE, ZERO, HostRequest
from appliance.cdp.journal import Journal
from appliance.cdp.lifecycle import Lifecycle, Orders
from appliance.cdp.memory import BufferPool
from appliance.cdp.policies import Ack
from appliance.cdp.route import Mode
from appliance.cdp.tasks import Completion, Task
from appliance.cdp.volume import Service, Volume
from appliance.cdp.write_path import WritePath
from appliance.errors import EbbtideError
from appliance.simulated.choices import Chooser
from appliance.simulated.disk import SimulatedDisk
from appliance.simulated.medium import Medium
from appliance.simulated.world import World
from tests.simulation.draws import Shape
from tests.simulation.oracle import Oracle, Tags, Violation, bytes_of, tags_of

PATIENCE_SECONDS = 120
"""Virtual time after which an answer that has not come never will."""


class LifeEnds(Exception):
    """The fuse is burnt: power fails, or the service dies, here."""


class ReadRefused(Exception):
    """A read was answered with an errno."""


@dataclass(frozen=True)
class Media:
    """What both disks hold once a new pair has had its baseline and was stopped."""

    primary: bytes
    secondary: bytes


POOL = BufferPool()
"""One for all lives, so that they are cheap; a request in flight pins its memory."""


class Rig:
    """`story` keeps every request in the world's story: slower, for replays."""

    def __init__(
        self,
        chooser: Chooser | int,
        shape: Shape,
        *,
        story: bool = False,
        torn_writes: bool = True,
        media: Media | None = None,
    ) -> None:
        self.shape = shape
        self.world = World(chooser, torn_writes=torn_writes)
        self.primary_medium = Medium(
            "primary", shape.primary, logical_block=shape.primary_block, log_events=story
        )
        self.secondary_medium = Medium(
            "secondary", shape.secondary, logical_block=shape.secondary_block, log_events=story
        )
        deadline = shape.deadline_seconds
        self.primary = SimulatedDisk(self.world, self.primary_medium, deadline_seconds=deadline)
        self.secondary = SimulatedDisk(self.world, self.secondary_medium, deadline_seconds=deadline)
        self.planned = superblock.plan(
            "volume",
            self.primary,
            self.secondary,
            0,
            region_size=shape.region,
            segment_size=shape.segment,
        )
        self.sectors = self.planned.volume_size // SECTOR
        contents = (np.arange(self.sectors, dtype=np.uint64) + 1) | np.uint64(1 << 63)
        if media is None:
            self.primary_medium.contents[: self.planned.volume_size] = bytes_of(contents)
        else:
            self.primary_medium.contents[:] = media.primary
            self.secondary_medium.contents[:] = media.secondary
        self.oracle = Oracle(contents)
        self.serial = 0
        self.fuse = -1
        """Events until the life ends; negative for never."""
        self.lifecycle: Lifecycle | None = None
        self.hosts_in_flight: dict[HostRequest, None] = {}
        self.errors_allowed = False
        """A fault was played that hosts may hear of."""
        self.lost: SimulatedDisk | None = None
        """A secondary that failed in this life and is not attached again."""
        self.background: list[Task[Any]] = []
        self.ending = False
        """Coroutines of the ended life are being closed; what they still say is void."""
        self.damage_allowed = False
        """Payload was changed behind the service's back."""
        self.damages = 0
        """How often history was called damaged."""
        self.doubted: list[Extents] = []
        """What was doubted each time that damage could not be mended."""

    # Time

    def turn(self) -> None:
        """Let one thing happen, or end the life."""
        if not self.fuse:
            raise LifeEnds
        self.fuse -= 1
        if not self.world.step():
            if self.lifecycle is not None and self.volume.service is Service.OFFLINE:
                raise LifeEnds  # the primary was lost, and every host has its answer
            raise Violation(f"nothing is left that could happen\n{self.world.waiting()}")

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        clock = self.world.clock
        end = clock.monotonic_ns() + PATIENCE_SECONDS * 1_000_000_000
        while not done():
            if clock.monotonic_ns() > end:
                raise Violation(f"{what} does not come to an end\n{self.world.waiting()}")
            self.turn()

    def finish(self, what: str, task: Task[Any]) -> Any:
        self.wait(what, lambda: task.finished)
        return task.result()

    def turns(self, rng: random.Random) -> None:
        """Let some things happen."""
        for _ in range(rng.choice([1, 2, 5, 20])):
            self.turn()

    def pass_time(self, seconds: float) -> None:
        reached: list[bool] = []
        self.world.after(seconds, lambda: reached.append(True))
        self.wait("time", lambda: bool(reached))

    # Lives

    def format(self) -> None:
        self.finish(
            "formatting",
            Task(pair.format_pair(self.primary, self.secondary, self.planned, POOL)),
        )

    @property
    def volume(self) -> Volume:
        assert self.lifecycle is not None
        return self.lifecycle.volume

    @property
    def path(self) -> WritePath:
        path = self.volume.path
        assert path is not None
        return path

    def writes_by(self, path: WritePath) -> bool:
        """Is it of this life?  What is collected of an ended one may still stir."""
        return self.lifecycle is not None and self.volume.path is path

    def journals_to(self, journal: Journal) -> bool:
        return self.lifecycle is not None and self.path.journal is journal

    def start(self, with_secondary: bool = True) -> None:
        """Bring the volume into service, and look at all of it as a host does.

        If an interrupted restore keeps hosts out, that comes once it has ended.
        """
        self.hosts_in_flight.clear()
        self.background.clear()
        self.errors_allowed = False
        self.lost = None
        self.lifecycle = None
        found = self.finish("loading", Task(superblock.load(self.primary, POOL)))
        assert found is not None, "the primary's superblocks are gone"
        self.lifecycle = lifecycle = Lifecycle(
            self.primary,
            found,
            self.world,
            self.world.clock,
            POOL,
            self._event,
            Orders(),
            count(1),
        )
        lifecycle.volume.log = DirtyRegionLog(self.primary, found, POOL, self.shape.capacity)
        lifecycle.losses.on_secondary_lost = self._secondary_lost
        self.oracle.protected = self._is_protected
        secondary = self.secondary if with_secondary else None
        if not with_secondary:
            self.lost = self.secondary
        self.oracle.restoring = None
        self.finish("starting", Task(lifecycle.start(secondary)))
        self.path.ack = self.shape.ack
        if not self.volume.closed_to_hosts:
            self.observe()

    def observe(self) -> None:
        tags = self.read(0, self.sectors)
        restoring = self.oracle.restoring
        self.oracle.observe(tags)
        if restoring is not None:
            for state in self.oracle.at(restoring[0]):
                if not np.array_equal(state, tags):
                    raise Violation(f"the restore of write {restoring[0]} was not finished")

    def _event(self, code: str, **facts: object) -> None:
        self.world.note(f"{code} {facts}")
        if code == events.HISTORY_DAMAGED:
            self.damages += 1
            if self.damage_allowed:
                return
            # Media lose only what no flush has covered, and nobody relies on that.
            raise Violation(f"history is called damaged: {facts['reason']}")

    def _is_protected(self) -> bool:
        return self.lifecycle is not None and self.volume.protection.value == "protected"

    def _secondary_lost(self, disk: object) -> None:
        self.lost = self.secondary

    def reattach(self) -> bool:
        """Give a lost secondary back, if it can be had; as the service does."""
        disk = self.lost
        if disk is None or not self.secondary_medium.present:
            return False
        disk.close()
        if disk.outstanding:
            return False
        if self.volume.service is not Service.ONLINE:
            return False
        self.lost = None
        self.secondary = disk.reopen()
        assert self.lifecycle is not None
        self.background.append(Task(self._attach(self.lifecycle)))
        return True

    async def _attach(self, lifecycle: Lifecycle) -> None:
        disk = self.secondary
        try:
            await lifecycle.attach(disk)
        except EbbtideError as error:
            self.world.note(f"not attached: {error}")
            if self.lifecycle is lifecycle and self.secondary is disk:
                self.lost = disk

    def pull_secondary(self) -> bool:
        """Whether it was there."""
        if not self.secondary_medium.present:
            return False
        self.oracle.secondary_lost_power()
        self.secondary_medium.remove()
        return True

    def end(self, way: str) -> None:
        """`cut`, `kill` or `stop`; the disks are open again afterwards."""
        self.ending = True
        if way == "cut":
            self.oracle.power_lost()
            self.world = self.world.power_cut()
        else:
            self.oracle.killed()
            self.world = self.world.kill()
        self.lifecycle = None
        for medium in (self.primary_medium, self.secondary_medium):
            medium.replug()
            medium.bad_sectors.clear()
        self.primary = self.primary.reopen()
        self.secondary = self.secondary.reopen()
        self.ending = False

    def stop(self) -> None:
        """In order; `end` follows."""
        assert self.lifecycle is not None
        self.errors_allowed = True
        self.finish("stopping", Task(self.lifecycle.stop()))

    # Hosts

    def write(
        self, first: int, count: int, *, zeros: bool = False, fua: bool = False, host: int = 0
    ) -> HostRequest:
        """Submit a write of new tags; it is answered later."""
        self.serial += 1
        places = np.arange(first, first + count, dtype=np.uint64)
        tags: Tags = np.uint64(self.serial << 16) | (places + np.uint64(1))
        request = HostRequest(
            ZERO if zeros else WRITE,
            first * SECTOR,
            count * SECTOR,
            self._written,
            fua,
            data=None if zeros else memoryview(bytes_of(tags)),
            host=host,
        )
        self._submit(request)
        return request

    def _submit(self, request: HostRequest) -> None:
        self.hosts_in_flight[request] = None
        self.volume.submit(request)

    def _answered(self, request: HostRequest) -> bool:
        del self.hosts_in_flight[request]
        if request.error and not self.errors_allowed:
            raise Violation(f"a host hears errno {request.error} and nothing failed")
        return not request.error

    def _written(self, request: HostRequest) -> None:
        if self._answered(request):
            path = self.path
            if path.ack is Ack.BOTH and path.mode is Mode.JOURNALING:
                self.oracle.acknowledged_by_both(request.number)

    def flush(self, host: int = 0) -> HostRequest:
        covered = self.oracle.flush_begins()

        def done(request: HostRequest) -> None:
            if self._answered(request):
                path = self.path
                journaled = path.ack is Ack.BOTH and path.mode is Mode.JOURNALING
                self.oracle.flush_ends(covered, journaled)

        request = HostRequest(FLUSH, 0, 0, done, host=host)
        self._submit(request)
        return request

    def begin_read(self, first: int, count: int) -> HostRequest:
        least = self.oracle.read_begins(first, count)

        def done(request: HostRequest) -> None:
            if self._answered(request):
                tags = tags_of(request.answer())
                request.release()
                self.oracle.read_ends(first, least, tags)

        request = HostRequest(READ, first * SECTOR, count * SECTOR, done)
        self._submit(request)
        return request

    def read(self, first: int, count: int) -> Tags:
        """What a host reads now, whatever it be."""
        return self._read_from(self.volume.submit, first, count)

    def _read_from(self, submit: Callable[[HostRequest], None], first: int, count: int) -> Tags:
        answered: Completion[HostRequest] = Completion()
        request = HostRequest(READ, first * SECTOR, count * SECTOR, answered.succeed)
        submit(request)
        self.wait("a read", lambda: answered.finished)
        if request.error:
            raise ReadRefused(request.error)
        tags = tags_of(request.answer())
        request.release()
        return tags

    async def send_hosts_away(self) -> None:
        """Hosts have left already."""

    def settle(self) -> None:
        """Wait for every answer that hosts are owed."""
        self.wait("a host's request", lambda: not self.hosts_in_flight)

    def settle_jobs(self) -> None:
        self.settle()
        self.wait("a task", lambda: all(task.finished for task in self.background))
        self.wait("a job", lambda: self.volume.job is None)

    def view(self, number: int) -> Tags:
        """The whole volume at a point; raises what the engine refuses it with."""
        point = self.finish("resolving", Task(self.volume.resolve(f"write:{number}")))
        view = self.finish("opening a view", Task(self.volume.open_view(point)))
        try:
            return self._read_from(view.submit, 0, self.sectors)
        finally:
            view.close()
