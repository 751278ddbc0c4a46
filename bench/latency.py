"""What hosts feel of a synchronisation: the 99th percentile of their writes, with and without."""

import threading

from bench import fio
from bench.figures import Bound, Effort, Figure
from bench.hosts import BLOCK, Exports, exports

DEPTH = 4
AT_MOST = 3.0
"""Our own measure of "the host comes first"; the design names none."""


def latency(effort: Effort) -> list[Figure]:
    """A verify runs over and over beside 4 KiB random writes, at the throttle it has by default."""
    seconds = 1.0 if effort.quick else 3.0
    alone, beside, times = [], [], []
    with exports(effort) as both:
        for _ in range(effort.repeat):
            alone.append(_p99(both, seconds))
            with _Verifying(both):
                beside.append(_p99(both, seconds))
            times.append(beside[-1] / alone[-1])
    work = f"p99 of 4 KiB random host writes, QD {DEPTH}"
    return [
        Bound(f"{work}: alone", "ms", alone),
        Bound(f"{work}: during a verify", "ms", beside),
        Bound(f"{work}: during a verify, beside alone", "times", times, AT_MOST),
    ]


def _p99(both: Exports, seconds: float) -> float:
    return 1000 * fio.p99_over_nbd(
        both.ours, "randwrite", block=BLOCK, depth=DEPTH, span=both.span, seconds=seconds
    )


class _Verifying:
    """Verifies again and again in the background."""

    def __init__(self, both: Exports) -> None:
        self._both = both
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._over.is_set():
            self._both.service.ask("sync", volume="bench", verify=True, wait=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
