"""`python -m tests.service.held PHASE --config FILE`: cdpd whose scans stop for good in the
midst of a phase, so that whoever wants to end it there need not be quick.
"""

import sys

from appliance.cdp.pace import Pace
from appliance.cdp.tasks import Completion
from appliance.service.main import main

SCANNED = 1 << 20
"""Bytes that are scanned, and told, before a scan stops in that phase."""


def run(phase: str) -> None:
    go_on = Pace.__call__
    steps = 0

    async def hold(pace: Pace, size: int) -> None:
        nonlocal steps
        await go_on(pace, size)
        job = pace._job
        if job.phase == phase and (phase != "scanning" or job.bytes_scanned >= SCANNED):
            steps += 1
            if steps > 1:
                await Completion[None]()

    Pace.__call__ = hold  # type: ignore[method-assign, assignment]
    main()


if __name__ == "__main__":
    run(sys.argv.pop(1))
