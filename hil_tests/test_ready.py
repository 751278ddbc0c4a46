"""The box comes up, and is there for whoever stands before it."""

import pytest

from hil_tests.box import Box


@pytest.mark.smoke
def test_a_box_is_ready(box: Box) -> None:
    assert box.shell("systemctl is-system-running") == "running"
    assert box.cdpctl("status")["volumes"] == []
    assert "no volumes yet" in box.console.log_in()


def test_the_units_of_the_image_say_nothing_that_its_systemd_does_not_know(box: Box) -> None:
    units = "cd /usr/lib/systemd/system; ls cdp* ebbtide-* efi.* | sed 's/@[.]/@x./'"
    verify = f"systemd-analyze verify --man=no $({units}) 2>&1"
    said = box.shell(f"{verify} | grep -E 'cdp|ebbtide|efi[.]' || true", timeout=180)
    assert said == ""


@pytest.mark.lg_feature("clock-battery")
def test_it_boots_though_its_clock_battery_is_empty(box: Box) -> None:
    box.cut_power()
    box.battery.set_clock("1970-01-01T00:00:00")
    box.power_on()
    box.until("cdpd is ready", lambda: box.cdpctl("status")["volumes"] == [])
