"""Any keys at any times; see `fuzzed`.  `python -m tests.fuzz panel` goes on for longer."""

from random import Random

import pytest

from tests.operators.panel.fuzzed import live


@pytest.mark.parametrize("seed", range(4))
def test_nothing_destroys_without_the_hold(seed: int) -> None:
    live(Random(seed), 120)


def test_the_dice_do_come_to_a_restore() -> None:
    """Else the test above would show nothing."""
    seed = 100
    while not live(Random(seed), 120)["restores held for"]:
        seed += 1
