"""The hands of a person at the front panel, who looks before each press."""

from time import monotonic
from typing import Final

from appliance.glass import Glass, Key
from hil_tests.drivers.protocols import PanelProtocol
from hil_tests.panel.panel import PanelTrouble

STILL_SECONDS: Final = 0.5
"""A glass that has not changed for so long is read."""
PATIENCE_SECONDS: Final = 20.0
"""For an answer to a press."""


class Hands:
    """Implements `tests.operators.panel.stranger.Hands`, on a rig's panel."""

    def __init__(self, panel: PanelProtocol) -> None:
        self._panel = panel

    @property
    def lines(self) -> tuple[str, str]:
        return self._panel.glass().lines

    def tap(self, *keys: Key) -> None:
        for key in keys:
            before = self._panel.glass()
            self._panel.press(key)
            self._read(before)

    def hold(self, key: Key, seconds: float) -> None:
        before = self._panel.glass()
        self._panel.hold(key, seconds)
        self._read(before)

    def turn(self, seconds: float) -> None:
        """Wait so long for the glass to change by itself."""
        self._next(self._panel.glass(), seconds)

    def _read(self, before: Glass) -> None:
        """Until it has changed, and then stands still; a bar that grows never does."""
        after = self._panel.wait_for(lambda glass: glass != before, PATIENCE_SECONDS)
        ends = monotonic() + PATIENCE_SECONDS
        while monotonic() < ends and (later := self._next(after, STILL_SECONDS)) is not None:
            after = later

    def _next(self, before: Glass, seconds: float) -> Glass | None:
        try:
            return self._panel.wait_for(lambda glass: glass != before, seconds)
        except PanelTrouble:
            return None
