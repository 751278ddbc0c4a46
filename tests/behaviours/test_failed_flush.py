"""The primary drops its cache with a failed flush, and the next flush succeeds."""

from errno import EIO

from appliance.cdp.interfaces import FLUSH, HostRequest
from appliance.cdp.tasks import Completion
from tests.cdp.simulated_pair import SimulatedPair

BLOCK = 4096


def test_what_a_failed_flush_may_have_dropped_is_compared() -> None:
    pair = SimulatedPair(seed=9)
    pair.start()
    pair.write(0, b"\x44" * BLOCK)
    medium = pair.primary.medium
    medium.lose_cache_on_failed_flush()
    medium.fail_next(FLUSH, EIO, 1)
    answered: Completion[HostRequest] = Completion()
    pair.volume.submit(HostRequest(FLUSH, 0, 0, answered.succeed))
    assert pair.world.run_until(answered).error == EIO
    pair.idle()

    pair.world.run_until(lambda: pair.volume.protection.value == "protected")
    pair.idle()

    window = pair.volume.window()
    assert window is not None
    assert pair.point(f"write:{window.newest_write}") == pair.read(pair.volume)
