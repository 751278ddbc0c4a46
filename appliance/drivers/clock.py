"""The clock of this machine."""

from time import monotonic_ns, time_ns


class SystemClock:
    """A `Clock`: CLOCK_REALTIME, which people and NTP may step, and CLOCK_MONOTONIC."""

    def wall_ns(self) -> int:
        return time_ns()

    def monotonic_ns(self) -> int:
        return monotonic_ns()
