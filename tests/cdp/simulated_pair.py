"""A pair of simulated disks with a life on them, and what every point of it must read as."""

import random
from collections.abc import Coroutine, Sequence
from itertools import count
from typing import Any, TypeVar

import pytest

from appliance.cdp import pair, superblock
from appliance.cdp.check.check import Check, Verdict
from appliance.cdp.check.findings import Finding
from appliance.cdp.interfaces import FLUSH, READ, WRITE, ZERO, HostRequest, HostTarget
from appliance.cdp.lifecycle import Lifecycle, Orders
from appliance.cdp.memory import BufferPool
from appliance.cdp.superblock import Superblock
from appliance.cdp.tasks import Completion, Task
from appliance.cdp.volume import Volume
from appliance.errors import EbbtideError, WrongDisk
from appliance.simulated.disk import SimulatedDisk
from appliance.simulated.medium import Medium
from appliance.simulated.world import World

T = TypeVar("T")

PRIMARY_SIZE = 160 << 10
SECONDARY_SIZE = 1 << 20
REGION = 16 << 10
SEGMENT = 32 << 10


class SimulatedPair:
    """`states` maps each write number to the whole volume just after it."""

    def __init__(
        self,
        seed: int = 1,
        *,
        name: str = "finance",
        primary_block: int = 512,
        secondary_block: int = 512,
        secondary_size: int = SECONDARY_SIZE,
        cheap_zero: bool = True,
        world: World | None = None,
        deadline: float = 30.0,
    ) -> None:
        """`world` is that of another pair, to live beside it; `deadline` in seconds."""
        self.random = random.Random(seed)
        self.pool = BufferPool()
        self.world = World(seed) if world is None else world
        self.primary = SimulatedDisk(
            self.world,
            Medium(
                "p",
                PRIMARY_SIZE,
                logical_block=primary_block,
                cheap_zero=cheap_zero,
                log_events=False,
            ),
            deadline_seconds=deadline,
        )
        self.secondary = SimulatedDisk(
            self.world,
            Medium("s", secondary_size, logical_block=secondary_block, log_events=False),
            deadline_seconds=deadline,
        )
        self.superblock = superblock.plan(
            name,
            self.primary,
            self.secondary,
            self.world.clock.wall_ns(),
            region_size=REGION,
            segment_size=SEGMENT,
        )
        self.run(pair.format_pair(self.primary, self.secondary, self.superblock, self.pool))
        self.states: dict[int, bytes] = {}
        self.events: list[str] = []
        self._lifecycle: Lifecycle | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.world.run_until(Task(work))

    # Lives

    @property
    def lifecycle(self) -> Lifecycle:
        assert self._lifecycle is not None
        return self._lifecycle

    @property
    def volume(self) -> Volume:
        return self.lifecycle.volume

    def load(self, disk: SimulatedDisk) -> Superblock:
        found = self.run(superblock.load(disk, self.pool))
        assert found is not None
        return found

    def start(
        self,
        *,
        with_secondary: bool = True,
        until_protected: bool = True,
        readable: bool = True,
    ) -> None:
        """Take the volume into service, like the service does; EbbtideError if it refuses.

        Not `readable`: some of it cannot be read, so its state is not noted.
        """
        self.run(self.made().start(self.secondary if with_secondary else None))
        if with_secondary and until_protected:
            self.world.run_until(
                lambda: self.volume.protection.value == "protected" and self.volume.job is None
            )
        if readable:
            self.states.setdefault(self.volume.write_number, self.read(self.volume))

    def made(self) -> Lifecycle:
        """A new life of the volume, which somebody starts."""
        self._lifecycle = Lifecycle(
            self.primary,
            self.load(self.primary),
            self.world,
            self.world.clock,
            self.pool,
            lambda code, **fields: self.events.append(code),
            Orders(),
            count(1),
        )
        return self._lifecycle

    def stop(self) -> None:
        self.run(self.lifecycle.stop())
        self._next(self.world.kill())

    def kill(self) -> None:
        self._next(self.world.kill())

    def power_cut(self) -> None:
        self._next(self.world.power_cut())

    def restart_beside(self) -> None:
        """Read both disks anew after a failure, in the same life as others."""
        self.primary.close()
        self.secondary.close()
        self.primary, self.secondary = self.primary.reopen(), self.secondary.reopen()
        self.start(readable=False)

    def _next(self, world: World) -> None:
        self.world = world
        self.primary, self.secondary = self.primary.reopen(), self.secondary.reopen()
        self._lifecycle = None

    # What a host does

    def read(self, target: HostTarget, offset: int = 0, length: int = 0) -> bytes:
        """EIO and the like as OSError."""
        done: Completion[HostRequest] = Completion()
        request = HostRequest(READ, offset, length or target.size - offset, done.succeed)
        target.submit(request)
        self.world.run_until(done)
        if request.error:
            raise OSError(request.error, "read")
        answer = bytes(request.answer())
        request.release()
        return answer

    def write(self, offset: int, data: bytes, *, zero: int = 0) -> int:
        """One acknowledged write (or `zero` bytes of zeros); returns its number."""
        before = self.states[max(self.states)]
        done: Completion[HostRequest] = Completion()
        if zero:
            data = bytes(zero)
            request = HostRequest(ZERO, offset, zero, done.succeed)
        else:
            request = HostRequest(WRITE, offset, len(data), done.succeed, data=memoryview(data))
        self.volume.submit(request)
        self.world.run_until(done)  # it has its number once no lock holds it back
        self.states[request.number] = before[:offset] + data + before[offset + len(data) :]
        assert not request.error
        return request.number

    def begin_write(self, offset: int, data: bytes) -> Completion[HostRequest]:
        """A write that may fail; it is answered later, and its state is not noted."""
        done: Completion[HostRequest] = Completion()
        request = HostRequest(WRITE, offset, len(data), done.succeed, data=memoryview(data))
        self.volume.submit(request)
        return done

    def flush(self) -> None:
        done: Completion[HostRequest] = Completion()
        request = HostRequest(FLUSH, 0, 0, done.succeed)
        self.volume.submit(request)
        self.world.run_until(done)
        assert not request.error

    def write_at_random(self, writes: int, *, flush_every: int = 10) -> None:
        """Writes of all sizes that a host has, some of zeros."""
        unit = self.volume.sector
        for number in range(writes):
            offset = self.random.randrange(self.volume.size // unit) * unit
            most = self.volume.size - offset
            length = min(self.random.choice([unit, 4096, 4096, 8192, 12288]), most)
            if self.random.random() < 0.1:
                self.write(offset, b"", zero=length)
            else:
                self.write(offset, self.random.randbytes(length))
            if number % flush_every == flush_every - 1:
                self.flush()

    def idle(self, seconds: float = 3) -> None:
        """Let housekeeping do its work: folds, indexes, retired intents."""
        self.world.run_for(seconds)

    # Points

    def point(self, text: str) -> bytes:
        """All of a point; EbbtideError if it is refused, OSError if it cannot be read."""
        view = self.run(self.volume.open_view(self.run(self.volume.resolve(text))))
        try:
            return self.read(view)
        finally:
            view.close()

    def hold_against_states(self, *, every: int = 1) -> tuple[int, int]:
        """Compare every known point; how many were right, and how many were refused.

        A point that reads as anything else than it was fails the test.
        """
        right = refused = 0
        for number in sorted(self.states)[::every]:
            try:
                contents = self.point(f"write:{number}")
            except (EbbtideError, OSError):
                refused += 1
            else:
                assert contents == self.states[number], f"write {number} reads as something else"
                right += 1
        return right, refused

    # Media

    def check(self, *disks: SimulatedDisk) -> tuple[list[Finding], Verdict]:
        """What `check` finds on both disks, or on those given."""
        found: list[Finding] = []
        given: Sequence[SimulatedDisk] = disks or (self.primary, self.secondary)
        verdict = self.run(Check(given, self.pool, found.append).run())
        return found, verdict

    def images(self) -> tuple[bytes, bytes]:
        return bytes(self.primary.medium.contents), bytes(self.secondary.medium.contents)

    def put_back(self, images: tuple[bytes, bytes]) -> None:
        """Both media as they were, in a life of their own."""
        for disk in (self.primary, self.secondary):
            disk.medium.replug()
        self._next(self.world.kill())
        for disk, image in zip((self.primary, self.secondary), images, strict=True):
            disk.medium.volatile.clear()
            disk.medium.bad_sectors.clear()
            disk.medium.contents[:] = image


def codes(found: Sequence[Finding]) -> set[str]:
    """The codes of findings that are more than notes."""
    return {finding.code for finding in found if finding.severity != "note"}


def assert_refused_as_parted(pair: SimulatedPair) -> None:
    """Both disks have served hosts without each other: neither is taken, nor written to."""
    before = pair.images()
    with pytest.raises(WrongDisk, match="without each other"):
        pair.start()
    pair.kill()
    assert pair.images() == before
