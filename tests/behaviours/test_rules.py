"""Each rule of DESIGN.md's section 4, broken on purpose: the explorer must notice.

This is the proof that the other tests of this directory have teeth.
"""

import pytest

from appliance.cdp import lifecycle, superblock
from appliance.cdp.tasks import Task
from appliance.errors import WrongDisk
from tests.simulation.draws import Shape
from tests.simulation.explorer import Explorer
from tests.simulation.rig import POOL, Rig
from tests.simulation.sabotage import SABOTAGES, Sabotage
from tests.simulation.watching import protected_media, watched

SEEDS = 80
"""A sabotage must be noticed within so many."""
LIVES = 8


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_broken_rule_is_noticed(sabotage: Sabotage) -> None:
    for seed in range(sabotage.first, sabotage.first + SEEDS):
        with sabotage.apply():
            failure = Explorer(seed, faults=sabotage.faults).run(LIVES)
        if failure is not None:
            return
    pytest.fail(f"{sabotage.name}: nobody noticed in {SEEDS} runs ({sabotage.rule})")


def test_every_rule_that_a_crash_can_show_is_broken_once() -> None:
    rules = {sabotage.rule.split()[0] for sabotage in SABOTAGES}
    assert set("12345678") <= rules


SHAPE = Shape(primary=136 << 10, secondary=1280 << 10, segment=64 << 10)


def _attach_another(rig: Rig, other: Rig) -> None:
    """The primary of one pair with the secondary of another."""
    rig.secondary_medium.contents[:] = other.secondary_medium.contents
    rig.start()


def test_the_secondary_of_another_pair_is_refused() -> None:
    """Rule 9; `protected_media` makes one pair, so another is formatted here."""
    rig, other = Rig(1, SHAPE, media=protected_media(SHAPE)), Rig(2, SHAPE)
    with watched(other):
        other.format()
    with watched(rig), pytest.raises(WrongDisk, match="another set"):
        _attach_another(rig, other)


def test_a_secondary_that_served_alone_is_refused() -> None:
    """Rule 9: siblings are never guessed between."""
    rig = Rig(1, SHAPE, media=protected_media(SHAPE))
    with watched(rig):
        theirs = rig.finish("loading", Task(superblock.load(rig.secondary, POOL)))
        rig.finish("storing", Task(superblock.store(rig.secondary, POOL, theirs.child())))
        with pytest.raises(WrongDisk, match="has served hosts"):
            rig.start()
        rig.end("kill")
        rig.start(with_secondary=False)  # a new generation: now they are siblings
        rig.end("kill")
        with pytest.raises(WrongDisk, match="without each other"):
            rig.start()


def test_without_the_check_of_the_pair_a_foreign_secondary_would_be_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 9, broken: it is that check which refuses."""
    monkeypatch.setattr(lifecycle, "check_pair", lambda *arguments: None)
    rig = Rig(1, SHAPE, media=protected_media(SHAPE))
    with watched(rig):
        theirs = rig.finish("loading", Task(superblock.load(rig.secondary, POOL)))
        rig.finish("storing", Task(superblock.store(rig.secondary, POOL, theirs.child())))
        rig.start()
        assert rig.volume.secondary is not None
