"""A bad sector under an intent: hosts are let in, and what it hides is told as not in sync."""

import errno

import pytest

from tests.cdp.simulated_pair import SimulatedPair

BLOCK = 4096
SECTOR = 512


def test_one_bad_sector_does_not_keep_the_hosts_out() -> None:
    pair = SimulatedPair(seed=5)
    pair.start()
    before = pair.write(0, b"before" * 1024)
    pair.flush()
    pair.write(8 * BLOCK, b"x" * BLOCK)
    pair.kill()
    pair.primary.medium.bad_sectors.add(8 * BLOCK // SECTOR)

    pair.start(until_protected=False, readable=False)

    assert pair.volume.state == "syncing"
    assert pair.read(pair.volume, 0, 6 * 1024) == b"before" * 1024
    with pytest.raises(OSError, match="read") as refused:
        pair.read(pair.volume, 8 * BLOCK, BLOCK)
    assert refused.value.errno == errno.EIO
    assert pair.point(f"write:{before}") == pair.states[before]


def test_the_host_heals_it_by_writing_and_protection_returns() -> None:
    pair = SimulatedPair(seed=6)
    pair.start()
    pair.write(8 * BLOCK, b"x" * BLOCK)
    pair.kill()
    pair.primary.medium.bad_sectors.add(8 * BLOCK // SECTOR)
    pair.start(until_protected=False, readable=False)

    pair.write(8 * BLOCK, b"y" * BLOCK)

    pair.world.run_until(lambda: pair.volume.protection.value == "protected")
    newest = pair.volume.maps()[-1].last_write
    assert pair.point(f"write:{newest}") == pair.read(pair.volume)
