"""A restore given up while the secondary was away: its history still names it, and is not heard."""

import pytest

from appliance.cdp.interfaces import BLOCK
from tests.behaviours.half_restored import Interrupted
from tests.cdp.simulated_pair import SimulatedPair


@pytest.fixture
def given_up(half: Interrupted) -> Interrupted:
    half.lose_secondary()
    half.pair.run(half.pair.lifecycle.jobs.restores.give_up())
    return half


def lose_the_intent_log(pair: SimulatedPair) -> None:
    """The primary's word that no restore is owed is gone; the history's is what is left."""
    at = pair.load(pair.primary).ring_offset
    pair.primary.medium.contents[at : at + 14 * BLOCK] = bytes(14 * BLOCK)


def write_on(half: Interrupted) -> bytes:
    """What hosts have on the volume, their last write included."""
    pair = half.pair
    pair.write(0, pair.random.randbytes(BLOCK))
    return pair.read(pair.volume)


def test_it_is_not_taken_up_when_the_intent_log_is_lost_later(given_up: Interrupted) -> None:
    pair, contents = given_up.pair, write_on(given_up)
    given_up.bring_back()
    pair.kill()
    lose_the_intent_log(pair)
    pair.start(readable=False)
    assert pair.read(pair.volume) == contents


def test_a_history_of_an_older_generation_does_not_bring_it_back(given_up: Interrupted) -> None:
    pair = given_up.pair
    pair.secondary.medium.replug()
    pair.kill()
    lose_the_intent_log(pair)
    pair.start(with_secondary=False)
    contents = write_on(given_up)
    given_up.bring_back()
    pair.world.run_until(lambda: pair.volume.protection.value == "protected")
    pair.kill()
    lose_the_intent_log(pair)
    pair.start(readable=False)
    assert pair.read(pair.volume) == contents


def test_nor_if_the_secondary_went_while_it_was_gone_on_with(half: Interrupted) -> None:
    """Its history had noted the absence before, and has no other reason to be written now."""
    pair = half.pair
    half.lose_secondary()
    half.lose_secondary_again()
    pair.run(pair.lifecycle.jobs.restores.give_up())
    contents = write_on(half)
    half.bring_back()
    pair.kill()
    lose_the_intent_log(pair)
    pair.start(readable=False)
    assert pair.read(pair.volume) == contents
