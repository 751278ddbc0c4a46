"""A twin: an old copy of the secondary, with all its ids.  What it lacks is found, and said.

DESIGN.md, section 4, rules 3 and 9.  Whatever generation the twin bears, it is known by its
journal: that ends before records that cleared bits, and retired intents, rely on.
"""

from collections.abc import Callable

import pytest

from appliance import events
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
