"""Hosts at random: they read, write and flush, half of the time around one hot place."""

import random
from collections.abc import Callable, Sequence

from tests.simulation.findings import Tally
from tests.simulation.rig import Rig


class Hosts:
    """Two of them, on one rig."""

    def __init__(
        self,
        rig: Rig,
        rng: random.Random,
        tally: Tally,
        *,
        align: int,
        lengths: Sequence[int],
        bursts: Sequence[int],
        in_flight: int,
        block: int = 1,
    ) -> None:
        """`lengths`, `align` and `block` in sectors: a request is aligned to `align`, and half of
        them begin a `block`.  So many of `bursts` at once, while not `in_flight`."""
        self.hot = rng.randrange(rig.sectors)
        self.writes: Callable[[int, int], None] = lambda first, length: None
        """Told the sectors of a write before it begins."""
        self._rig = rig
        self._rng = rng
        self._tally = tally
        self._align = align
        self._lengths = lengths
        self._bursts = bursts
        self._in_flight = in_flight
        self._block = block

    def _range(self) -> tuple[int, int]:
        """First sector and count."""
        rng, align = self._rng, self._align
        length = -(-rng.choice(self._lengths) // align) * align
        first = rng.randrange(self._rig.sectors)
        if rng.random() < 0.5:
            first = self.hot + rng.randrange(-16, 17)
        if self._block > 1 and rng.random() < 0.5:
            first = first // self._block * self._block
        return max(0, min(first // align * align, self._rig.sectors - length)), length

    def burst(self) -> None:
        rng, rig = self._rng, self._rig
        for _ in range(rng.choice(self._bursts)):
            if len(rig.hosts_in_flight) > self._in_flight:
                return
            first, length = self._range()
            self.writes(first, length)
            zeros, fua = rng.random() < 0.12, rng.random() < 0.08
            rig.write(first, length, zeros=zeros, fua=fua, host=rng.randrange(2))
            self._tally.writes += 1

    def flush(self) -> None:
        self._rig.flush(self._rng.randrange(2))

    def read(self) -> None:
        self._rig.begin_read(*self._range())
