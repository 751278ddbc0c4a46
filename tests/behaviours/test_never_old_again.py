"""What hosts have read since a start is not undone by a power cut (rule 5)."""

import pytest

from tests.cdp.simulated_pair import SimulatedPair

BLOCK = 4096
BLOCKS = 8


@pytest.mark.parametrize("with_secondary", [True, False])
def test_what_was_read_after_a_kill_is_there_after_a_cut(with_secondary: bool) -> None:
    """The killed service had flushed nothing: the disk keeps it, but not yet on its medium."""
    for seed in range(4):
        pair = SimulatedPair(seed)
        pair.start()
        for block in range(BLOCKS):
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
        pair.kill()
        pair.start(with_secondary=with_secondary, until_protected=False, readable=False)
        found = pair.read(pair.volume)
        pair.power_cut()
        pair.start(with_secondary=with_secondary, until_protected=False, readable=False)
        assert pair.read(pair.volume) == found, seed
