"""What a seed draws: the sizes of a pair, and what is done next."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from appliance.cdp.policies import Ack


@dataclass(frozen=True)
class Shape:
    """Sizes, in bytes; small, so that everything that happens once in a while happens often."""

    primary: int = 160 << 10
    secondary: int = 1 << 20
    primary_block: int = 512
    secondary_block: int = 512
    region: int = 16 << 10
    segment: int = 32 << 10
    capacity: int = 1000
    """Regions that an intent slot takes."""
    ceiling_step: int = 1 << 20
    ack: Ack = Ack.BOTH
    deadline_seconds: float = 2.0


def draw_shape(rng: random.Random) -> Shape:
    """A shape as a seed wants it."""
    return Shape(
        primary=rng.choice([136, 160, 160, 208]) << 10,
        secondary=rng.choice([1280, 1600, 2048]) << 10,
        primary_block=rng.choice([512, 512, 4096]),
        secondary_block=rng.choice([512, 512, 4096]),
        region=rng.choice([4, 8, 16]) << 10,
        segment=rng.choice([48, 64]) << 10,
        capacity=rng.choice([1000, 1000, 12]),
        ceiling_step=rng.choice([1 << 20, 1 << 20, 256]),
        ack=rng.choice([Ack.BOTH, Ack.BOTH, Ack.PRIMARY]),
    )


def do_one(rng: random.Random, actions: list[tuple[float, Callable[[], None]]]) -> None:
    """One of them, by weight."""
    weights = [weight for weight, _ in actions]
    rng.choices([action for _, action in actions], weights)[0]()
