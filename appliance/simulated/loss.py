"""What a loss of power makes of the writes that it catches.

Invariants:

* Each caught write leaves nothing, all, a part from its start, or any set of
  its blocks; a block is never torn.
* Writes that overlap land in any order; the others' order makes no difference
  and is not asked for, which keeps exhaustive runs small.
"""

import random

import numpy as np

from appliance.simulated.choices import Chooser


def survivor(
    before: bytes | bytearray, data: bytes, block: int, choose: Chooser, torn_writes: bool
) -> bytes | bytearray:
    """What a range that held `before` holds after a write of `data` was caught."""
    blocks = len(data) // block
    fate = choose(4 if torn_writes and blocks > 1 else 2)
    if fate == 0:
        return before
    if fate == 1:
        return data
    if fate == 2:
        reached = (1 + choose(blocks - 1)) * block
        return data[:reached] + before[reached:]
    bits = random.Random(choose(1 << 30)).randbytes(-(-blocks // 8))
    mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=blocks).astype(bool)
    shape = (blocks, block)
    mixed = np.frombuffer(before, np.uint8).reshape(shape).copy()
    mixed[mask] = np.frombuffer(data, np.uint8).reshape(shape)[mask]
    return mixed.tobytes()


def any_order(caught: list[tuple[int, bytes]], choose: Chooser) -> list[tuple[int, bytes]]:
    """The writes, those that overlap others in an order of the chooser's."""
    order = sorted(range(len(caught)), key=lambda index: caught[index][0])
    overlapping: set[int] = set()
    reach, furthest = 0, -1
    for index in order:
        offset, data = caught[index]
        if offset < reach:
            overlapping |= {index, furthest}
        if offset + len(data) > reach:
            reach, furthest = offset + len(data), index
    places = sorted(overlapping)
    shuffled = list(places)
    for remaining in range(len(shuffled), 1, -1):
        chosen = choose(remaining)
        shuffled[chosen], shuffled[remaining - 1] = shuffled[remaining - 1], shuffled[chosen]
    result = list(caught)
    for place, index in zip(places, shuffled, strict=True):
        result[place] = caught[index]
    return result
