"""Who decides what happens next in the simulator: a seed, or a script that visits every path.

Invariants:

* Every free decision of the simulated world asks one chooser, `choose(n)`,
  for a number from 0 to n - 1.  The same answers give the same life.
* Nothing else is random, and no decision depends on addresses, hashes or time.
"""

import random
from collections.abc import Callable, Iterator, Sequence

Chooser = Callable[[int], int]
"""`choose(n)` gives 0 ≤ choice < n."""


def seeded(seed: int) -> Chooser:
    """Decisions drawn from a seed."""
    draw = random.Random(seed).random
    return lambda n: int(draw() * n)


class Script:
    """Decisions read from a list; 0 once it has run out.

    `taken` holds (choice, n) of every decision made so far, so that a failing
    life is repeated with `Script([choice for choice, n in script.taken])`.
    """

    def __init__(self, choices: Sequence[int] = ()) -> None:
        self._choices = choices
        self.taken: list[tuple[int, int]] = []

    def __call__(self, n: int) -> int:
        position = len(self.taken)
        choice = self._choices[position] if position < len(self._choices) else 0
        assert 0 <= choice < n, (
            f"decision {position}: {choice} of {n}, the script is of another life"
        )
        self.taken.append((choice, n))
        return choice


def every_script() -> Iterator[Script]:
    """One script for every path through a deterministic life, depth first.

    Use each script for one life before asking for the next: which paths exist
    is learnt from the decisions that it was asked for.
    """
    script = Script()
    while True:
        yield script
        taken = script.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        script = Script([choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1])
