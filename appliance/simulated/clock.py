"""A clock that moves only when it is told to.

Invariants:

* Nothing here reads the machine's time: a life in the simulator depends on its
  seed alone.
* The monotonic time never steps back within one boot.  The wall clock is the
  monotonic one plus an offset, which `step` changes, as a person or NTP would.
* `rebooted` is the clock of the next boot, with a monotonic time of its own, as
  after a power cut: an engine that compares monotonic times of two boots is
  found out.  The old clock stands still for whoever of the old life holds it.
"""

from typing import Final

BOOT_NS: Final = 1_000_000_000
"""Monotonic time at which every boot starts."""
FIRST_WALL_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z, where a new clock begins."""


class SimulatedClock:
    """Implements `appliance.cdp.interfaces.Clock`."""

    def __init__(self, wall_ns: int = FIRST_WALL_NS) -> None:
        self._monotonic_ns = BOOT_NS
        self._offset_ns = wall_ns - BOOT_NS

    def wall_ns(self) -> int:
        return self._monotonic_ns + self._offset_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def advance(self, nanoseconds: int) -> None:
        """Time passes: both times grow."""
        assert nanoseconds >= 0, f"time does not run backwards ({nanoseconds} ns)"
        self._monotonic_ns += nanoseconds

    def step(self, nanoseconds: int) -> None:
        """Somebody sets the wall clock, forwards or back (negative)."""
        self._offset_ns += nanoseconds

    def rebooted(self, off_nanoseconds: int) -> "SimulatedClock":
        """The box was off that long; the wall clock ran on, the monotonic one starts again."""
        return SimulatedClock(self.wall_ns() + off_nanoseconds)
