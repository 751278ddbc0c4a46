"""The panel's hardware, which may be missing, pulled, or put back at any time.

Trouble is told once and tried again after a growing pause; nothing else of the
panel's process notices.
"""

import logging
from typing import Final

from appliance.glass import Glass, Key, Panel

PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds until the next try, after so many that failed."""
_log = logging.getLogger("ebbtide.panel")


class Plate:
    """A `Panel` that never raises."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._shown: Glass | None = None
        self._failures = 0
        self._retry_at = 0.0

    def keys(self, now: float) -> frozenset[Key] | None:
        """The keys that are down, or None while there is no panel."""
        if self._failures and now < self._retry_at:
            return None
        try:
            return self._panel.keys()
        except OSError as error:
            self._fail(error, now)
            return None

    def show(self, glass: Glass, now: float) -> None:
        """Make it look so, as soon as there is a panel."""
        if glass == self._shown or (self._failures and now < self._retry_at):
            return
        try:
            self._panel.show(glass)
        except OSError as error:
            self._fail(error, now)
            return
        self._shown = glass
        if self._failures:
            _log.info("the panel is there again")
            self._failures = 0

    def _fail(self, error: OSError, now: float) -> None:
        if not self._failures:
            _log.warning("no panel: %s; trying again", error.strerror or error)
        self._shown = None
        self._retry_at = now + PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
