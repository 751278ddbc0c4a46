"""The primary drops its cache with a failed flush, and the next flush succeeds.

DESIGN.md, section 4, rule 4: nobody is told that something is durable which was
dropped, and what was dropped is compared.
"""

from errno import EIO

import pytest

from appliance.cdp.interfaces import FLUSH, HostRequest
from appliance.cdp.policies import Ack
from appliance.cdp.tasks import Completion
from tests.cdp.simulated_pair import REGION, SimulatedPair
from tests.simulation.draws import Shape
from tests.simulation.exhaustive import hold_to_the_word
from tests.simulation.rig import Rig
from tests.simulation.watching import protected_media, watched

BLOCK = 4096
SHAPE = Shape(primary=136 << 10, secondary=1280 << 10, segment=64 << 10, region=4 << 10)


def ask_to_flush(pair: SimulatedPair) -> int:
    """The errno of a host's FLUSH."""
    answered: Completion[HostRequest] = Completion()
    pair.volume.submit(HostRequest(FLUSH, 0, 0, answered.succeed))
    return pair.world.run_until(answered).error


def test_what_a_failed_flush_may_have_dropped_is_compared() -> None:
    pair = SimulatedPair(seed=9)
    pair.start()
    pair.write(0, b"\x44" * BLOCK)
    medium = pair.primary.medium
    medium.lose_cache_on_failed_flush()
    medium.fail_next(FLUSH, EIO, 1)
    assert ask_to_flush(pair) == EIO
    pair.idle()

    pair.world.run_until(lambda: pair.volume.protection.value == "protected")
    pair.idle()

    window = pair.volume.window()
    assert window is not None
    assert pair.point(f"write:{window.newest_write}") == pair.read(pair.volume)


def test_a_failed_flush_that_can_have_dropped_nothing_leaves_the_volume_protected() -> None:
    pair = SimulatedPair(seed=9)
    pair.start()
    pair.write(0, b"\x44" * BLOCK)
    pair.idle()
    assert not pair.volume.log.active
    pair.primary.medium.fail_next(FLUSH, EIO, 1)
    assert ask_to_flush(pair) == EIO
    pair.idle()
    assert pair.volume.state == "protected"


@pytest.mark.parametrize("ack", list(Ack))
@pytest.mark.parametrize("size", [8, 100], ids=["one group", "several groups"])
def test_at_whatever_moment_it_fails_nobody_is_told_a_lie(size: int, ack: Ack) -> None:
    """Writes whose data was dropped before their answer, and flushes that queued behind it."""
    for position in range(48):
        rig = Rig(position, SHAPE, media=protected_media(SHAPE))
        with watched(rig):
            rig.primary_medium.lose_cache_on_failed_flush(rig.oracle.cache_lost)
            rig.start()
            rig.path.ack = ack
            rig.errors_allowed = True
            rig.write(0, size)
            rig.write(110, 8, fua=True)
            rig.write(120, 8)
            for _ in range(position):
                rig.turn()
            rig.primary_medium.fail_next(FLUSH, EIO)
            answers = [rig.flush(host=1), rig.flush(host=2)]
            rig.settle()
            assert [flush.error for flush in answers] == [EIO, EIO]
            last = rig.flush(host=1)
            rig.settle()
            assert not last.error
            rig.end("cut")
            rig.start()  # where what hosts were told is held against what is there
            rig.settle_jobs()
            hold_to_the_word(rig)


def test_a_flush_of_a_resync_that_fails_is_told_to_the_host() -> None:
    pair = SimulatedPair(seed=9)
    pair.start()
    pair.stop()
    pair.start(with_secondary=False)
    for region in range(pair.superblock.regions):
        pair.write(region * REGION, b"\x66" * BLOCK)
    pair.stop()
    pair.start(until_protected=False)
    job = pair.volume.job
    assert job is not None
    pair.world.run_until(lambda: job.bytes_scanned > 0)
    pair.write(0, b"\x77" * BLOCK)
    medium = pair.primary.medium
    medium.lose_cache_on_failed_flush()
    medium.fail_next(FLUSH, EIO)
    pair.world.run_until(lambda: job.finished.finished)
    assert job.result == "failed"

    assert ask_to_flush(pair) == EIO
    assert ask_to_flush(pair) == 0

    pair.world.run_until(lambda: pair.volume.protection.value == "protected")
    window = pair.volume.window()
    assert window is not None
    assert pair.point(f"write:{window.newest_write}") == pair.read(pair.volume)
