"""The box comes up, and is there for whoever stands before it."""

import pytest

from hil_tests.box import Box


@pytest.mark.smoke
def test_a_box_is_ready(box: Box) -> None:
    assert box.shell("systemctl is-system-running") == "running"
    assert box.cdpctl("status")["volumes"] == []
    assert "no volumes yet" in box.console.log_in()


@pytest.mark.lg_feature("clock-battery")
def test_it_boots_though_its_clock_battery_is_empty(box: Box) -> None:
    box.cut_power()
    box.battery.set_clock("1970-01-01T00:00:00")
    box.power_on()
    box.until("cdpd is ready", lambda: box.cdpctl("status")["volumes"] == [])
