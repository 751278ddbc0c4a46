"""The front panel of the whole machine: what a person does there, and what becomes of the cable."""

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.glass import DARK, Key
from hil_tests.box import Box
from hil_tests.drivers.protocols import PanelFaultProtocol, PanelProtocol
from hil_tests.hands import Hands
from hil_tests.host import Host
from hil_tests.oracle import BLOCK, content
from tests.operators.panel.stranger import restore

SEEN_SECONDS = 60
"""From the plug to the first page, on a box that has much to do."""
SAID = "journalctl --boot --unit cdp-panel --no-pager"

pytestmark = pytest.mark.lg_feature("panel")


@pytest.fixture
def panel(box: Box) -> Iterator[Any]:
    """Plugged in, and showing the idle page of a box without volumes."""
    panel = box.driver(PanelProtocol)
    panel.plug()
    panel.wait_for("↵menu", SEEN_SECONDS)
    yield panel
    panel.pull()


@pytest.fixture
def failing(panel: Any) -> PanelFaultProtocol:
    """The same, on a rig where its parts can be made to fail."""
    assert isinstance(panel, PanelFaultProtocol)
    return panel


def test_a_restore_in_six_presses_and_a_hold(box: Box, host: Host, panel: Any) -> None:
    box.protect("finance", box.pair())
    with host.attach("finance") as finance:
        finance.write(0, content(1))
        finance.flush()
        box.cdpctl("snapshot finance good")
        finance.write(0, content(2))
        finance.flush()
    assert restore(Hands(panel), "finance", ("Restore", "By snapshot", "good")) <= 6
    panel.wait_for("restore done", SEEN_SECONDS)
    box.await_state("finance", "protected")
    with host.attach("finance") as finance:
        assert finance.read(0, BLOCK) == content(1)


def test_pulled_and_plugged_in_while_it_is_used(box: Box, panel: Any) -> None:
    for _ in range(3):
        panel.press(Key.SELECT)
        panel.wait_for("Menu", SEEN_SECONDS)
        panel.pull()
        assert panel.glass() == DARK
        panel.plug()
        # What was there is there again; a menu is left after a minute without a key.
        panel.wait_for("↵", SEEN_SECONDS)
        panel.press(Key.LEFT)
        panel.wait_for("↵menu", SEEN_SECONDS)
    assert box.cdpctl("panel")["lines"]


@pytest.mark.lg_feature("panel-faults")
def test_broken_wires(box: Box, panel: Any, failing: PanelFaultProtocol) -> None:
    """The box notices, and goes on as soon as they are whole."""

    def missed() -> int:
        return int(box.shell(f"{SAID} | grep --count 'no panel: ' || true"))

    before = missed()
    with failing.silent():
        box.until("the panel is missed", lambda: missed() > before)
    panel.wait_for("↵menu", SEEN_SECONDS)
    panel.press(Key.SELECT)
    panel.wait_for("Menu", SEEN_SECONDS)


@pytest.mark.lg_feature("panel-faults")
def test_a_plate_without_power_for_a_moment(panel: Any, failing: PanelFaultProtocol) -> None:
    failing.blink()
    panel.wait_for("↵menu", SEEN_SECONDS)
