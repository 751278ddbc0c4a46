"""The primary refuses an intent: what asked for it fails, and the next write asks again."""

from errno import EIO

from appliance.cdp.interfaces import WRITE, HostRequest
from appliance.cdp.tasks import Completion
from tests.cdp.simulated_pair import SimulatedPair

BLOCK = 4096


def test_a_region_whose_intent_failed_is_not_taken_for_known() -> None:
    pair = SimulatedPair(seed=3)
    pair.start()
    medium = pair.primary.medium
    medium.fail_next(WRITE, EIO, 1)
    answered: Completion[HostRequest] = Completion()
    data = memoryview(b"\x55" * BLOCK)
    pair.volume.submit(HostRequest(WRITE, 0, BLOCK, answered.succeed, data=data))
    assert pair.world.run_until(answered).error == EIO
    before = medium.counters.copy()

    pair.write(0, b"\x66" * BLOCK)

    assert (medium.counters - before).durable_writes >= 1
