"""A write of several records, of which a crash left the first ones only: it is no point."""

import pytest

from appliance.cdp.interfaces import WRITE, HostRequest
from appliance.errors import PointInGap, PointOutsideWindow
from tests.cdp.simulated_pair import SimulatedPair

LENGTH = 20 << 10
"""Bytes of a write that takes three records where a segment has 32 KiB."""


def crash(position: int, way: str) -> tuple[SimulatedPair, int, bytes, bool]:
    """The pair after so many events of the write, in service again; the write's number, what the
    volume was behind it, and whether it had been answered."""
    pair = SimulatedPair(position)
    pair.start()
    data = pair.random.randbytes(LENGTH)
    answers: list[HostRequest] = []
    request = HostRequest(WRITE, 4096, LENGTH, answers.append, data=memoryview(data))
    before = pair.states[max(pair.states)]
    pair.volume.submit(request)
    for _ in range(position):
        if not answers:
            pair.world.step()
    getattr(pair, way)()
    pair.start()
    whole = before[:4096] + data + before[4096 + LENGTH :]
    return pair, request.number, whole, bool(answers)


@pytest.mark.parametrize("way", ["kill", "power_cut"])
def test_it_is_a_point_only_if_the_volume_was_ever_so(way: str) -> None:
    cut_short = 0
    for position in range(100):
        pair, number, whole, answered = crash(position, way)
        try:
            found = pair.point(f"write:{number}")
        except PointInGap as error:
            cut_short += "cut this write short" in str(error)
        except PointOutsideWindow:
            assert not cut_short, "of a later crash there is more"
        else:
            assert found in (whole, pair.read(pair.volume)), position
        if answered:
            assert cut_short, "some crash must have come between two records"
            return
    pytest.fail("the write was never answered")
