"""A disk that stalls for over a minute, under the deadline that people have, in virtual time."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from appliance.cdp.host_reads import PATIENCE
from appliance.cdp.interfaces import READ, WRITE, HostRequest
from appliance.cdp.lifecycle import Lifecycle
from appliance.config import ProtectionSettings
from appliance.simulated.disk import SimulatedDisk
from appliance.simulated.world import World
from tests.cdp.simulated_pair import SimulatedPair

DEADLINE = ProtectionSettings().disk_deadline_seconds
STALL = 75.0
SOON = 0.05
"""Virtual seconds; undisturbed requests take a few events of 50 microseconds each."""
BLOCK = 4096


@dataclass
class Asked:
    """A host's request, and how long its answer took in virtual seconds."""

    request: HostRequest
    began: float
    data: bytes = b""
    took: float | None = None
    answer: bytes = b""


@dataclass
class Host:
    """One host of a volume: keeps what was acknowledged, and how long everything took."""

    pair: SimulatedPair
    lifecycle: Lifecycle
    seed: int
    acknowledged: dict[int, bytes] = field(default_factory=dict)
    """By block, what reads must give; blocks with a write in doubt are not in it."""
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        whole = self.pair.read(self.pair.volume)
        self.acknowledged = {
            at: whole[at : at + BLOCK] for at in range(0, len(whole) // BLOCK * BLOCK, BLOCK)
        }

    @property
    def now(self) -> float:
        return self.pair.world.clock.monotonic_ns() / 1e9

    def write(self, offset: int) -> Asked:
        data = self.random.randbytes(BLOCK)
        self.acknowledged.pop(offset, None)
        return self._ask(HostRequest(WRITE, offset, BLOCK, self._done, data=memoryview(data)), data)

    def read(self, offset: int) -> Asked:
        return self._ask(HostRequest(READ, offset, BLOCK, self._done))

    def _ask(self, request: HostRequest, data: bytes = b"") -> Asked:
        asked = Asked(request, self.now, data)
        self.asked.append(asked)
        self.lifecycle.volume.submit(request)
        return asked

    def _done(self, request: HostRequest) -> None:
        asked = next(asked for asked in self.asked if asked.request is request)
        assert asked.took is None, "answered twice"
        asked.took = self.now - asked.began
        if request.error:
            return
        if request.kind == READ:
            asked.answer = bytes(request.answer())
            request.release()
        else:
            self.acknowledged[request.offset] = asked.data


def in_one_world(*seeds: int) -> Iterator[SimulatedPair]:
    """Pairs whose disks have the default deadline, all in the world of the first."""
    world: World | None = None
    for seed in seeds:
        pair = SimulatedPair(seed, name=f"volume-{seed}", world=world, deadline=DEADLINE)
        world = pair.world
        pair.start()
        yield pair


@pytest.fixture
def hosts() -> tuple[Host, Host]:
    """Of the volume whose disk stalls, and of its neighbour."""
    own, other = in_one_world(1, 2)
    for pair in (own, other):
        pair.write_at_random(30)
        pair.flush()
    return Host(own, own.lifecycle, 3), Host(other, other.lifecycle, 4)


def keep_asking(host: Host, seconds: float, *, writes: bool, reads: list[int]) -> list[Asked]:
    """Something to do every quarter of a second; what was asked."""
    begun = len(host.asked)
    blocks = itertools.cycle(reads)

    def ask() -> None:
        if host.now < end:
            host.read(next(blocks))
            if writes:
                host.write(host.random.choice(reads))
            host.pair.world.after(0.25, ask)

    end = host.now + seconds
    ask()
    return host.asked[begun:]


def assert_good(asked: list[Asked], longest: float) -> None:
    for one in asked:
        assert one.took is not None, "no answer"
        assert one.request.error == 0
        assert one.took < longest


def blocks_of(host: Host) -> list[int]:
    return sorted(host.acknowledged)


def assert_media_agree(host: Host) -> None:
    """Every block on the primary, and in the newest point, is what was acknowledged last."""
    volume = host.lifecycle.volume
    window = volume.window()
    assert window is not None
    contents, point = host.pair.read(volume), host.pair.point(f"write:{window.newest_write}")
    assert contents == point
    assert bytes(host.pair.primary.medium.contents[: volume.size]) == contents
    for offset, data in host.acknowledged.items():
        assert contents[offset : offset + BLOCK] == data


def run_through_stall(hosts: tuple[Host, Host], disk: SimulatedDisk) -> list[Asked]:
    """Stall one disk of the first for `STALL` seconds, while the other is used; what was asked."""
    own, other = hosts
    world = own.pair.world
    disk.medium.stall()
    begun = len(other.asked)
    keep_asking(other, STALL, writes=True, reads=blocks_of(other)[:8])
    world.run_for(STALL)
    disk.medium.release()
    world.run_for(1)
    return other.asked[begun:]


def test_a_secondary_that_stalls_for_more_than_a_minute(hosts: tuple[Host, Host]) -> None:
    own, other = hosts
    pair = own.pair
    states = dict(pair.states)
    half = blocks_of(own)[len(blocks_of(own)) // 2 :]
    written = [own.write(offset) for offset in blocks_of(own)[:6]]
    keep_asking(own, STALL, writes=False, reads=half)
    before = len(own.asked)
    undisturbed = run_through_stall(hosts, pair.secondary)
    assert len(undisturbed) > 2 * STALL
    assert_good(undisturbed, SOON)
    reads = [asked for asked in own.asked if asked.request.kind == READ]
    assert len(own.asked) - before > STALL
    assert_good(reads, SOON)
    assert_good(written, DEADLINE + 1)
    assert min(asked.took or 0 for asked in written) > DEADLINE - 1, "it was no stall"
    assert own.lifecycle.volume.state == "tracking"
    tracked = [own.write(offset) for offset in half[:3]]
    pair.world.run_until(lambda: all(asked.took is not None for asked in tracked))
    # What it was asked to write has reached it by now, late; it comes back through its media.
    pair.secondary.close()
    assert pair.secondary.outstanding == 0
    pair.secondary = pair.secondary.reopen()
    pair.run(own.lifecycle.attach(pair.secondary))
    pair.world.run_until(lambda: own.lifecycle.volume.state == "protected")
    pair.world.run_until(lambda: own.lifecycle.volume.job is None)
    assert_media_agree(own)
    assert_media_agree(other)
    pair.states = states
    right, refused = pair.hold_against_states()
    assert (right, refused) == (len(states), 0), "every point before the stall is exact"


def test_a_primary_that_stalls_for_more_than_a_minute(hosts: tuple[Host, Host]) -> None:
    own, other = hosts
    pair = own.pair
    states = dict(pair.states)
    expected = dict(own.acknowledged)
    lower, upper = blocks_of(own)[:6], blocks_of(own)[20:]
    pair.primary.medium.stall()
    written = [own.write(offset) for offset in lower]
    in_doubt = own.read(lower[0])
    begun = len(own.asked)
    keep_asking(own, STALL, writes=False, reads=upper)
    undisturbed = run_through_stall(hosts, pair.primary)
    assert len(undisturbed) > 2 * STALL
    assert_good(undisturbed, SOON)
    reads = own.asked[begun:]
    assert len(reads) > 2 * STALL
    assert_good(reads, 2 * PATIENCE + SOON)
    late = [asked for asked in reads if asked.began > reads[0].began + 2 * PATIENCE + SOON]
    assert len(late) > STALL
    fence = reads[0].began + DEADLINE
    assert_good([asked for asked in late if abs(asked.began - fence) > 1], SOON)
    assert in_doubt.took is not None
    assert in_doubt.took > DEADLINE - 1, "a write is on its way to it"
    assert all(asked.answer == expected[asked.request.offset] for asked in reads)
    assert all(asked.took is not None and asked.request.error for asked in written)
    assert own.lifecycle.volume.state == "offline"
    pair.primary.close()
    assert pair.primary.outstanding == 0
    # Both are read anew, as the service does; the late writes are whole or not at all.
    pair.restart_beside()
    own.lifecycle = pair.lifecycle
    pair.world.run_until(lambda: own.lifecycle.volume.job is None)
    assert own.lifecycle.volume.state == "protected"
    assert_media_agree(own)
    assert_media_agree(other)
    pair.states = states
    right, refused = pair.hold_against_states()
    assert (right, refused) == (len(states), 0), "every point before the stall is exact"
