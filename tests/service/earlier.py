"""`python -m tests.service.earlier SECONDS --config FILE`: cdpd on a box whose clock is behind.

What is written to it was written that long ago, once it has been started again by itself.
"""

import sys
import time

from appliance.drivers.clock import SystemClock
from appliance.service.main import main


def run(behind_ns: int) -> None:
    SystemClock.wall_ns = lambda self: time.time_ns() - behind_ns  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    run(int(sys.argv.pop(1)) * 1_000_000_000)
