"""A twin: an old copy of the secondary, with all its ids.  What it lacks is found, and said.

DESIGN.md, section 4, rules 3 and 9.  Whatever generation the twin bears, it is known by its
journal: that ends before records that cleared bits, and retired intents, rely on.
"""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_mock import MockerFixture

from appliance import events
from appliance.cdp import head_check
from appliance.cdp.interfaces import WRITE, HostRequest
from appliance.cdp.tasks import Completion
from tests.cdp.simulated_pair import REGION, SimulatedPair

BLOCK = 4096
End = Callable[[SimulatedPair], None]
ENDS = pytest.mark.parametrize(
    "end", [SimulatedPair.stop, SimulatedPair.kill, SimulatedPair.power_cut]
)


@pytest.fixture
def pair() -> SimulatedPair:
    pair = SimulatedPair(seed=6)
    pair.start()
    pair.write(0, b"\x11" * BLOCK)
    pair.stop()
    return pair


def a_life_alone(pair: SimulatedPair, data: bytes, region: int = 3) -> None:
    pair.start(with_secondary=False)
    pair.write(region * REGION, data * BLOCK)
    pair.flush()
    pair.stop()


def give(pair: SimulatedPair, secondary: bytes) -> None:
    pair.put_back((pair.images()[0], secondary))


def attach(pair: SimulatedPair) -> None:
    pair.run(pair.lifecycle.attach(pair.secondary))
    pair.world.run_until(lambda: pair.volume.protection.value == "protected")


def assert_equal_disks(pair: SimulatedPair) -> None:
    window = pair.volume.window()
    assert window is not None
    assert pair.point(f"write:{window.newest_write}") == pair.read(pair.volume)


@ENDS
@pytest.mark.parametrize("hot", [False, True], ids=["at the start", "later"])
def test_a_twin_from_before_a_resync(pair: SimulatedPair, end: End, hot: bool) -> None:
    """Its generation is an ancestor of the primary's, as that of the true one would be."""
    twin = pair.images()[1]
    a_life_alone(pair, b"\x22")
    pair.start()
    end(pair)
    a_life_alone(pair, b"\x33", region=1)
    pair.events.clear()
    give(pair, twin)

    if hot:
        pair.start(with_secondary=False)
        attach(pair)
    else:
        pair.start()

    assert_equal_disks(pair)
    assert events.SECONDARY_STALE in pair.events


@pytest.mark.parametrize("hot", [False, True], ids=["at the start", "later"])
@pytest.mark.parametrize("writes", [1, 30])
def test_the_secondary_of_a_copy_of_both_disks(pair: SimulatedPair, writes: int, hot: bool) -> None:
    """Set, ids and generation are the same; that the past is another's shows at its head."""
    images = pair.images()
    pair.start()
    pair.write(3 * REGION, b"\x22" * BLOCK)
    pair.stop()
    others = pair.images()[1]
    pair.put_back(images)
    if not hot:
        pair.start()
    else:
        pair.start(with_secondary=False)
    for _ in range(writes):
        pair.write(REGION, b"\x33" * BLOCK)
    pair.flush()
    pair.stop()
    give(pair, others)
    pair.events.clear()

    if hot:
        pair.start(with_secondary=False)
        attach(pair)
    else:
        pair.start()

    assert_equal_disks(pair)
    assert events.WRITTEN_ELSEWHERE in pair.events or events.SECONDARY_STALE in pair.events


def test_a_host_that_writes_while_the_head_is_looked_at_raises_no_alarm(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    looks_at = head_check._agrees
    data = memoryview(b"\x77" * BLOCK)

    async def agrees(*about: Any) -> bool:
        written: Completion[HostRequest] = Completion()
        pair.volume.submit(HostRequest(WRITE, 0, BLOCK, written.succeed, data=data))
        assert not (await written).error
        return await looks_at(*about)

    mocker.patch.object(head_check, "_agrees", agrees)
    pair.start(with_secondary=False)
    attach(pair)
    assert pair.read(pair.volume, 0, BLOCK) == data
    assert events.WRITTEN_ELSEWHERE not in pair.events
    assert_equal_disks(pair)


@ENDS
def test_the_true_one_raises_no_alarm(pair: SimulatedPair, end: End) -> None:
    for data in (b"\x22", b"\x33", b"\x44"):
        a_life_alone(pair, data)
        pair.start()
        pair.write(5 * REGION, data * BLOCK)
        end(pair)
        pair.start()
        end(pair)
    assert events.SECONDARY_STALE not in pair.events
    assert events.WRITTEN_ELSEWHERE not in pair.events
