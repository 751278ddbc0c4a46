"""TRIM and WRITE_ZEROES: what they do to both disks, and what they cost (rule 7)."""

from errno import EIO

import numpy as np
import pytest

from appliance.cdp.interfaces import DISCARD, FLUSH, ZERO, HostRequest
from appliance.cdp.tasks import Completion
from appliance.cdp.volume import LARGEST_ZERO
from appliance.simulated.counters import Counters
from tests.cdp.simulated_pair import SimulatedPair
from tests.simulation.draws import Shape
from tests.simulation.rig import Rig
from tests.simulation.watching import protected_media, watched

BLOCK = 4096
MIB = 1 << 20


def ask(pair: SimulatedPair, kind: int, offset: int, length: int) -> int:
    """Submit it and give its errno."""
    answered: Completion[HostRequest] = Completion()
    pair.volume.submit(HostRequest(kind, offset, length, answered.succeed))
    return pair.world.run_until(answered).error


def lived(*, cheap_zero: bool) -> SimulatedPair:
    pair = SimulatedPair(seed=2, cheap_zero=cheap_zero)
    pair.start()
    pair.write(0, b"\x11" * BLOCK * 2)
    pair.idle()
    return pair


def spent_so_far(pair: SimulatedPair) -> tuple[Counters, Counters]:
    return pair.primary.medium.counters.copy(), pair.secondary.medium.counters.copy()


def newest(pair: SimulatedPair) -> bytes:
    return pair.point(f"write:{pair.volume.write_number}")


def test_a_trim_that_would_cost_written_zeros_does_nothing() -> None:
    pair = lived(cheap_zero=False)
    before, number = pair.read(pair.volume), pair.volume.write_number
    primary, secondary = spent_so_far(pair)

    assert ask(pair, DISCARD, 0, BLOCK) == 0

    pair.world.run_idle()
    assert spent_so_far(pair) == (primary, secondary), "no disk was asked for anything"
    assert pair.volume.write_number == number
    assert newest(pair) == pair.read(pair.volume) == before


@pytest.mark.parametrize("cheap_zero", [False, True])
def test_a_trim_outside_the_volume_is_refused(cheap_zero: bool) -> None:
    pair = lived(cheap_zero=cheap_zero)
    assert ask(pair, DISCARD, pair.volume.size - BLOCK, 2 * BLOCK)
    assert ask(pair, DISCARD, 100, BLOCK)
    assert ask(pair, FLUSH, 0, 0) == 0


def test_a_trim_with_an_offload_zeros_both_disks_for_the_price_of_an_entry() -> None:
    pair = lived(cheap_zero=True)
    primary, secondary = spent_so_far(pair)
    number = pair.volume.write_number

    assert ask(pair, DISCARD, 0, BLOCK) == 0

    pair.world.run_idle()
    spent = pair.primary.medium.counters - primary
    assert (spent.zeros, spent.discards, spent.bytes_zeroed) == (1, 0, BLOCK)
    assert (pair.secondary.medium.counters - secondary).bytes_written == BLOCK, "a header"
    assert pair.volume.write_number == number + 1
    expected = bytes(BLOCK) + b"\x11" * BLOCK
    assert pair.read(pair.volume, 0, 2 * BLOCK) == expected
    assert newest(pair)[: 2 * BLOCK] == expected


def test_zeros_that_a_host_asked_for_are_written_without_an_offload_too() -> None:
    pair = lived(cheap_zero=False)
    assert ask(pair, ZERO, BLOCK, BLOCK) == 0
    expected = b"\x11" * BLOCK + bytes(BLOCK)
    assert pair.read(pair.volume, 0, 2 * BLOCK) == expected
    assert newest(pair)[: 2 * BLOCK] == expected


LARGE = Shape(primary=34 * MIB, secondary=96 * MIB, segment=MIB, region=MIB)


def test_the_largest_zero_is_split_into_numbered_pieces() -> None:
    """32 MiB at a time, each a write of its own; the host hears once."""
    rig = Rig(1, LARGE, media=protected_media(LARGE))
    with watched(rig):
        rig.start()
        before, counted = rig.path.next_write, rig.primary_medium.counters.copy()
        length = LARGEST_ZERO + 4096
        answers: list[HostRequest] = []
        rig.volume.submit(HostRequest(ZERO, 4096, length, answers.append, fua=True))
        rig.wait("its answer", lambda: bool(answers))
        rig.world.run_idle()
        spent = rig.primary_medium.counters - counted
        assert [request.error for request in answers] == [0]
        assert rig.path.next_write == before + 2
        assert (spent.zeros, spent.bytes_zeroed) == (2, length)
        first = np.flatnonzero(rig.view(before) == 0)
        assert len(first) == LARGEST_ZERO // 512, "one piece is a point of its own"
        last = rig.view(before + 1)
        assert len(np.flatnonzero(last == 0)) == length // 512
        assert np.array_equal(last, rig.read(0, rig.sectors))


def test_a_piece_that_fails_is_an_error_of_the_whole() -> None:
    rig = Rig(1, LARGE, media=protected_media(LARGE))
    with watched(rig):
        rig.start()
        answers: list[HostRequest] = []
        rig.primary_medium.fail_next(ZERO, EIO)
        rig.volume.submit(HostRequest(ZERO, 0, LARGEST_ZERO + 4096, answers.append))
        rig.wait("its answer", lambda: bool(answers))
        assert [request.error for request in answers] == [EIO]
