"""Small stories, cut at every event, with every fate of what a cut catches.

A story is three or four operations on a protected pair.  For each position of
the cut, the writes that it catches reach the medium or not, in every
combination (up to a bound); a second cut comes in the midst of the recovery.
Then both disks must agree, and every point of the window must be what it was.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np

from appliance.errors import PointInGap
from appliance.simulated.choices import Script, every_script
from tests.simulation.draws import Shape
from tests.simulation.oracle import Violation
from tests.simulation.rig import LifeEnds, Rig
from tests.simulation.watching import protected_media, watched

Story = Callable[[Rig], None]


class Fates:
    """A chooser that asks its script only while a crash is played; else the first choice."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.deciding = False

    def __call__(self, n: int) -> int:
        return self.script(n) if self.deciding else 0


@dataclass
class Visited:
    """How much was visited."""

    positions: int = 0
    crashes: int = 0


def visit(story: Story, shape: Shape, way: str, *, fates: int = 24, stride: int = 1) -> Visited:
    """Tell the story with a crash at each of its events; Violation with the line to repeat it.

    `way` is how the first life ends, `cut` or `kill`; `fates` bounds the
    scripts for one position; only every `stride`-th position is taken.
    """
    media = protected_media(shape)
    visited = Visited()
    position, over = 0, False
    while not over:
        visited.positions += 1
        for script in islice(every_script(), fates):
            chooser = Fates(script)
            rig = Rig(chooser, shape, torn_writes=False, media=media)
            with watched(rig):
                try:
                    over = _tell(rig, chooser, story, way, position)
                except Exception as error:
                    choices = [choice for choice, _ in script.taken]
                    raise Violation(
                        f"{rig.world.story()}\n{error}\nrepeat: {way} at event {position},"
                        f" fates {choices}, {shape}"
                    ) from error
            visited.crashes += 2
        position += stride
    return visited


def _tell(rig: Rig, chooser: Fates, story: Story, way: str, position: int) -> bool:
    """True if the story was over before the crash came."""
    rig.start()
    rig.fuse = position
    over = False
    try:
        story(rig)
        rig.settle()
        over = True
    except LifeEnds:
        pass
    _crash(rig, chooser, way)
    rig.fuse = position * 7 % 41
    with suppress(LifeEnds):
        rig.start()
    _crash(rig, chooser, "cut")
    rig.fuse = -1
    rig.start()
    hold_to_the_word(rig)
    return over


def _crash(rig: Rig, chooser: Fates, way: str) -> None:
    chooser.deciding = True
    rig.end(way)
    chooser.deciding = False


def hold_to_the_word(rig: Rig) -> int:
    """Both disks agree, and every point of the window is what it was; returns how many."""
    window = rig.volume.window()
    assert window is not None
    content = rig.read(0, rig.sectors)
    if not np.array_equal(rig.view(window.newest_write), content):
        raise Violation(f"the newest point, write:{window.newest_write}, is not the primary")
    compared = 0
    gaps = rig.volume.gaps()
    for number in rig.oracle.numbers(window.oldest_write, window.newest_write):
        if any(gap.from_write <= number <= gap.to_write for gap in gaps):
            try:
                rig.view(number)
            except PointInGap:
                continue
            raise Violation(f"write:{number} lies in a gap, and is given")
        found = rig.view(number)
        if not any(np.array_equal(found, state) for state in rig.oracle.at(number)):
            raise Violation(f"write:{number} is not what it was")
        compared += 1
    return compared
