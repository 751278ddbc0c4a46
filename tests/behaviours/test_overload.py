"""Under `ack=primary` a secondary that is too slow is gone on without, and comes back later.

In virtual time, with a lag of a few writes in place of 64 MiB.  DESIGN.md, section 4, rules 4, 8.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from pytest_mock import MockerFixture

from appliance import events
from appliance.cdp import overload, write_path
from appliance.cdp.interfaces import WRITE, HostRequest
from appliance.cdp.policies import Ack, Policies
from tests.cdp.simulated_pair import REGION, SimulatedPair

BLOCK = 4096
LAG = 8 * BLOCK
AWAY = overload.PATIENCE_SECONDS + 0.1
"""Virtual seconds that a write may take at most."""


@pytest.fixture
def pair(mocker: MockerFixture) -> SimulatedPair:
    mocker.patch.object(write_path, "LAG", LAG)
    pair = SimulatedPair(seed=3, secondary_size=16 << 20)
    pair.start()
    pair.write_at_random(10)
    pair.run(pair.lifecycle.set_policies(Policies(ack=Ack.PRIMARY)))
    pair.idle()
    return pair


@dataclass
class Host:
    """Writes one block after the other, as fast as it is answered; `took` is in virtual seconds."""

    pair: SimulatedPair
    blocks: int = 8
    apart: int = BLOCK
    took: list[float] = field(default_factory=list)
    busy: bool = False

    def write_for(self, seconds: float) -> None:
        end = self.now + seconds

        def next_one() -> None:
            self.busy = self.now < end
            if self.busy:
                self._write(next_one)

        next_one()
        self.pair.world.run_for(seconds)
        self.pair.world.run_until(lambda: not self.busy)

    @property
    def now(self) -> float:
        return self.pair.world.clock.monotonic_ns() / 1e9

    def _write(self, then: Callable[[], None]) -> None:
        began, pair = self.now, self.pair
        offset = len(self.took) % self.blocks * self.apart
        data = pair.random.randbytes(BLOCK)
        before = pair.states[max(pair.states)]

        def done(request: HostRequest) -> None:
            assert not request.error
            self.took.append(self.now - began)
            # A host that thinks for a moment: virtual time is not worth millions of writes.
            pair.world.after(0.01, then)

        request = HostRequest(WRITE, offset, BLOCK, done, data=memoryview(data))
        pair.volume.submit(request)
        pair.states = {request.number: before[:offset] + data + before[offset + BLOCK :]}


def slow_down(pair: SimulatedPair, seconds: float) -> None:
    """From now on the secondary finishes one request in so many seconds."""
    medium, world = pair.secondary.medium, pair.world
    medium.stall()

    def finish_one() -> None:
        if medium.held is not None:
            if medium.held:
                world.pending.append(medium.held.pop(0))
            world.after(seconds, finish_one)

    finish_one()


def come_back(pair: SimulatedPair) -> None:
    """As the service has it: closed, and opened again once nothing of it is outstanding."""
    pair.secondary.close()
    pair.secondary.medium.release()
    pair.world.run_until(lambda: not pair.secondary.outstanding)
    pair.secondary = pair.secondary.reopen()
    pair.run(pair.lifecycle.attach(pair.secondary))
    pair.world.run_until(lambda: pair.volume.protection.value == "protected")


def stall_for(pair: SimulatedPair, host: Host, seconds: float) -> None:
    pair.secondary.medium.stall()
    pair.world.after(seconds, pair.secondary.medium.release)
    host.write_for(seconds)


def assert_equal_disks(pair: SimulatedPair) -> None:
    window = pair.volume.window()
    assert window is not None
    assert pair.point(f"write:{window.newest_write}") == pair.read(pair.volume)


def test_hosts_go_on_and_the_log_keeps_track(pair: SimulatedPair) -> None:
    states = dict(pair.states)
    host = Host(pair)
    slow_down(pair, 0.2)
    host.write_for(10)

    assert max(host.took) < AWAY
    assert max(host.took[len(host.took) // 2 :]) < 0.05, "they wait for nobody any more"
    assert pair.volume.state == "tracking"
    assert pair.events.count(events.SECONDARY_SLOW) == 1
    assert dict(pair.volume.alerts())[events.SECONDARY_LOST].endswith("what hosts write")
    assert set(range(2)) <= set(pair.volume.log.out_of_sync())

    come_back(pair)

    assert not pair.volume.alerts()
    assert_equal_disks(pair)
    pair.states = states
    assert pair.hold_against_states() == (len(states), 0), "points before it are exact"


def test_what_is_tracked_outlives_a_power_cut(pair: SimulatedPair) -> None:
    slow_down(pair, 0.2)
    Host(pair).write_for(5)
    assert pair.volume.state == "tracking"
    pair.flush()
    contents = pair.read(pair.volume)
    pair.secondary.close()
    pair.power_cut()

    pair.start()

    assert pair.read(pair.volume) == contents
    assert_equal_disks(pair)


def test_regions_that_lag_holds_count_as_well(pair: SimulatedPair) -> None:
    """Writes all over the volume fill the slot of intents long before the lag is full."""
    pair.volume.log.capacity = 3
    host = Host(pair, blocks=5, apart=REGION)
    pair.secondary.medium.stall()
    host.write_for(5)
    assert max(host.took) < AWAY
    assert events.SECONDARY_SLOW in pair.events
    come_back(pair)
    assert_equal_disks(pair)


def test_a_burst_and_a_hiccup_are_absorbed(pair: SimulatedPair) -> None:
    host = Host(pair)
    for _ in range(8):
        stall_for(pair, host, 0.7)
        host.write_for(3)
    assert max(host.took) > 0.3, "it was none"
    assert events.SECONDARY_SLOW not in pair.events
    assert pair.volume.state == "protected"
    assert_equal_disks(pair)


def test_hiccup_upon_hiccup_is_too_slow(pair: SimulatedPair) -> None:
    host = Host(pair)
    for _ in range(8):
        stall_for(pair, host, 0.7)
        host.write_for(0.1)
    assert max(host.took) < overload.PATIENCE_SECONDS
    assert events.SECONDARY_SLOW in pair.events


def test_under_both_hosts_wait_for_the_secondary(pair: SimulatedPair) -> None:
    pair.run(pair.lifecycle.set_policies(Policies(ack=Ack.BOTH)))
    host = Host(pair)
    slow_down(pair, 0.2)
    host.write_for(10)
    assert min(host.took[1:]) > 0.1
    assert events.SECONDARY_SLOW not in pair.events
    assert pair.volume.state == "protected"


def test_a_host_that_rests_is_not_held_back(pair: SimulatedPair) -> None:
    """What lags may lag, as long as nobody waits for it."""
    host = Host(pair)
    pair.secondary.medium.stall()
    host.write_for(0.05)
    pair.idle(10)
    pair.secondary.medium.release()
    pair.idle(1)
    assert events.SECONDARY_SLOW not in pair.events
    assert pair.volume.state == "protected"
