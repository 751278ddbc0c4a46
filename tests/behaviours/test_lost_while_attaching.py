"""A disk goes while the volume starts, or takes its secondary back: at any event of it."""

from collections.abc import Callable

import pytest

from appliance.cdp.route import Mode
from appliance.cdp.tasks import Task
from appliance.cdp.volume import Service
from appliance.errors import EbbtideError
from tests.cdp.simulated_pair import SimulatedPair

BLOCK = 4096


def tracking(seed: int) -> SimulatedPair:
    """Its secondary was away, and is plugged in again."""
    pair = SimulatedPair(seed)
    pair.start()
    pair.write(0, pair.random.randbytes(BLOCK))
    pair.stop()
    pair.start(with_secondary=False)
    pair.write(0, pair.random.randbytes(2 * BLOCK))
    return pair


def primary_goes(pair: SimulatedPair) -> None:
    pair.primary.medium.remove()
    pair.lifecycle.primary_gone()


def primary_fails(pair: SimulatedPair) -> None:
    """Nobody has told of it yet."""
    pair.primary.medium.remove()


def secondary_goes(pair: SimulatedPair) -> None:
    pair.secondary.medium.remove()
    pair.lifecycle.secondary_gone()


def secondary_fails(pair: SimulatedPair) -> None:
    pair.secondary.medium.remove()


def fails(pair: SimulatedPair, task: Task[None]) -> bool:
    """Whether it ends in an error; not to end at all is none."""
    try:
        pair.world.run_until(task)
    except EbbtideError:
        return True
    return False


def at_any_event(
    begin: Callable[[int], tuple[SimulatedPair, Task[None]]],
    trouble: Callable[[SimulatedPair], None],
    look: Callable[[SimulatedPair], None],
) -> None:
    failed = 0
    for position in range(400):
        pair, task = begin(position)
        for _ in range(position):
            if task.finished:
                break
            pair.world.step()
        if task.finished:
            assert failed > 5
            return
        trouble(pair)
        if fails(pair, task):
            failed += 1
            look(pair)
    pytest.fail("it never came to its end")


def attaching(position: int) -> tuple[SimulatedPair, Task[None]]:
    pair = tracking(position)
    return pair, Task(pair.lifecycle.attach(pair.secondary))


def nothing_is_attached(pair: SimulatedPair) -> None:
    volume = pair.volume
    assert volume.path is not None
    assert volume.history is None
    assert volume.secondary is None
    assert volume.path.journal is None
    assert volume.protection.value == "tracking"


def test_of_an_offline_volume_nothing_is_attached() -> None:
    def look(pair: SimulatedPair) -> None:
        nothing_is_attached(pair)
        assert pair.volume.service is Service.OFFLINE
        assert pair.volume.path is not None
        assert pair.volume.path.mode is Mode.PAUSED

    at_any_event(attaching, primary_goes, look)


@pytest.mark.parametrize("trouble", [secondary_goes, secondary_fails])
def test_a_secondary_that_goes_again_leaves_the_volume_tracking(
    trouble: Callable[[SimulatedPair], None],
) -> None:
    def look(pair: SimulatedPair) -> None:
        nothing_is_attached(pair)
        pair.write(BLOCK, pair.random.randbytes(BLOCK))
        found = pair.read(pair.volume)
        pair.secondary.medium.replug()
        pair.secondary = pair.secondary.reopen()
        pair.run(pair.lifecycle.attach(pair.secondary))
        pair.world.run_until(lambda: pair.volume.protection.value == "protected")
        newest = pair.volume.maps()[-1].last_write
        assert pair.point(f"write:{newest}") == found

    at_any_event(attaching, trouble, look)


def starting(position: int) -> tuple[SimulatedPair, Task[None]]:
    pair = SimulatedPair(position)
    pair.start()
    pair.write(0, pair.random.randbytes(2 * BLOCK))
    pair.kill()
    return pair, Task(pair.made().start(pair.secondary))


@pytest.mark.parametrize("trouble", [primary_goes, primary_fails])
def test_a_primary_lost_in_a_start_never_comes_online(
    trouble: Callable[[SimulatedPair], None],
) -> None:
    def look(pair: SimulatedPair) -> None:
        assert pair.volume.service is Service.OFFLINE
        assert pair.volume.history is None
        with pytest.raises(EbbtideError):
            pair.run(pair.lifecycle.start(None))
        assert pair.volume.service is Service.OFFLINE

    at_any_event(starting, trouble, look)


@pytest.mark.parametrize("trouble", [secondary_goes, secondary_fails])
def test_a_secondary_lost_in_a_start_is_done_without(
    trouble: Callable[[SimulatedPair], None],
) -> None:
    def look(pair: SimulatedPair) -> None:
        pair.run(pair.lifecycle.start(None))
        pair.write(BLOCK, pair.random.randbytes(BLOCK))
        assert pair.volume.state == "tracking"
        found = pair.read(pair.volume)
        pair.secondary.medium.replug()
        pair.kill()
        pair.start()
        newest = pair.volume.maps()[-1].last_write
        assert pair.point(f"write:{newest}") == pair.read(pair.volume) == found

    at_any_event(starting, trouble, look)


def test_a_secondary_lost_while_stopping_does_not_hang() -> None:
    for position in range(60):
        pair = SimulatedPair(position)
        pair.start()
        pair.write(0, pair.random.randbytes(BLOCK))
        task = Task(pair.lifecycle.stop())
        for _ in range(position):
            if task.finished:
                return
            pair.world.step()
        primary_fails(pair)
        secondary_goes(pair)
        fails(pair, task)
    pytest.fail("it never came to its end")
