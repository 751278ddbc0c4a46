"""A power cut in the midst of a fold: the base image is half new, and no point is told wrongly.

DESIGN.md, section 7: the floor moves first, durably; only then is the base touched.
"""

import pytest

from appliance.cdp.interfaces import WRITE, HostRequest
from tests.cdp.simulated_pair import SimulatedPair

BLOCK = 4096


def base_of(pair: SimulatedPair) -> bytes:
    begin = pair.superblock.base_offset
    return bytes(pair.secondary.medium.view[begin : begin + pair.superblock.volume_size])


def write_until_the_base_changes(pair: SimulatedPair) -> None:
    """Each write is another version of some block; a fold begins by itself."""
    before = base_of(pair)
    answers: list[HostRequest] = []
    for number in range(1, 500):
        offset = pair.random.randrange(pair.volume.size // BLOCK) * BLOCK
        data = pair.random.randbytes(BLOCK)
        contents = pair.states[max(pair.states)]
        request = HostRequest(WRITE, offset, BLOCK, answers.append, data=memoryview(data))
        pair.volume.submit(request)
        pair.states[request.number] = contents[:offset] + data + contents[offset + BLOCK :]
        while len(answers) < number:
            pair.world.step()
            if base_of(pair) != before:
                return
    pytest.fail("nothing was folded")


@pytest.mark.parametrize("seed", range(5))
def test_every_point_is_what_it_was_or_refused(seed: int) -> None:
    pair = SimulatedPair(seed=seed)
    pair.start()
    write_until_the_base_changes(pair)
    pair.power_cut()

    pair.start()

    right, refused = pair.hold_against_states()
    assert right > 10
    assert refused, "what was being folded is no point any more"
