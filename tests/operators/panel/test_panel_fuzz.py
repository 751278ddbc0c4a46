"""Any keys at any times; see `fuzzing`.  `python -m tests.fuzz panel` goes on for longer."""

from random import Random

import pytest

from tests.operators.panel.fuzzing import PanelFuzz

TURNS = 3_000


@pytest.mark.parametrize("seed", range(4))
def test_nothing_destroys_without_the_hold(seed: int) -> None:
    fuzz = PanelFuzz(Random(seed))
    for _ in range(TURNS):
        fuzz.turn()


def test_the_dice_do_come_to_a_restore() -> None:
    """Else the test above would show nothing."""
    fuzz = PanelFuzz(Random(1))
    while not fuzz.destroyed:
        fuzz.turn()
