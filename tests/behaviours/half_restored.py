"""A restore that is caught half-way."""

from contextlib import suppress

import pytest

from appliance import events
from appliance.cdp.interfaces import BLOCK
from appliance.cdp.jobs import Job
from appliance.cdp.tasks import Task
from appliance.errors import EbbtideError
from tests.cdp.simulated_pair import SimulatedPair
from tests.cdp.test_restore import start_restore

BLOCKS = 20


class Interrupted:
    """A restore of `wanted` of which some blocks are written."""

    def __init__(self) -> None:
        self.pair = pair = SimulatedPair(5, secondary_size=2 << 20)
        pair.start()
        for block in range(BLOCKS):
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
        self.point = pair.volume.write_number
        self.wanted = pair.states[self.point]
        for block in range(BLOCKS):
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
        pair.flush()
        self.newest = pair.volume.write_number
        self.job: Job = start_restore(pair, self.point)
        pair.world.run_until(lambda: self.job.bytes_copied >= 6 * BLOCK)

    def lose_secondary(self) -> None:
        pair = self.pair
        pair.secondary.medium.remove()
        pair.lifecycle.secondary_gone()
        pair.world.run_until(self.job.finished)
        pair.world.run_until(lambda: pair.volume.protection.value == "tracking")
        pair.idle()

    def bring_back(self) -> None:
        """The secondary, to the running service."""
        pair = self.pair
        pair.secondary.medium.replug()
        pair.secondary = pair.secondary.reopen()
        pair.run(pair.lifecycle.attach(pair.secondary))

    def lose_secondary_again(self) -> None:
        """It is back for a moment, in which the restore is gone on with."""
        pair = self.pair
        pair.secondary.medium.replug()
        pair.secondary = pair.secondary.reopen()
        attaching = Task(pair.lifecycle.attach(pair.secondary))
        pair.world.run_until(lambda: pair.volume.job is not None)
        pair.secondary.medium.remove()
        pair.lifecycle.secondary_gone()
        pair.idle()
        with suppress(EbbtideError):
            attaching.result()

    def is_closed(self) -> bool:
        volume = self.pair.volume
        with pytest.raises(OSError, match="read"):
            self.pair.read(volume, 0, BLOCK)
        return volume.state == "restoring" and events.RESTORE_OWED in dict(volume.alerts())

    def is_whole(self) -> bool:
        pair = self.pair
        assert events.RESTORE_OWED not in dict(pair.volume.alerts())
        return pair.read(pair.volume) == self.wanted
