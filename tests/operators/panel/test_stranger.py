"""Restore to ten minutes ago in six presses and a hold, by the words on the glass alone."""

from pathlib import Path

import pytest

from tests.operators.fake_appliance import NOON, FakeDisk, FakeVolume
from tests.operators.panel.played_panel import plated_panel
from tests.operators.panel.stranger import restore_ten_minutes
from tests.operators.running_service import RunningService


def add_volumes(service: RunningService) -> None:
    """Two more, which begin before and after `finance`."""
    for name in ("accounts", "payroll"):
        labels = service.appliance.labels
        volume = FakeVolume(name, service.loop, FakeDisk(labels["a"]), FakeDisk(labels["b"]))
        volume.chain = list(service.finance.chain)
        service.appliance.volumes[name] = volume


def test_one_volume(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    with plated_panel(tmp_path) as (panel, service):
        assert restore_ten_minutes(panel, "finance", seen.append) <= 6
        panel.turn(0.2)
        assert service.on_loop(lambda: service.finance.job or service.finance.last_job)
        assert panel.requests("restore") == [
            {"volume": "finance", "to": "-10m", "plan": True},
            {"volume": "finance", "to": "write:1000", "yes": True},
        ]
        assert panel.wall == pytest.approx(NOON / 1e9, abs=60)
    assert "restore" in seen[-1][0]


@pytest.mark.parametrize("volume", ["accounts", "finance", "payroll"])
def test_several_volumes(tmp_path: Path, volume: str) -> None:
    with plated_panel(tmp_path, add_volumes) as (panel, _):
        assert restore_ten_minutes(panel, volume) <= 6
        panel.turn(0.2)
        assert panel.destroyed == [{"volume": volume, "to": "write:1000", "yes": True}]
        assert [verb for verb, _ in panel.asked] == ["lock", "restore", "restore", "unlock"]


def test_a_hold_that_is_too_short_restores_nothing(tmp_path: Path) -> None:
    with plated_panel(tmp_path) as (panel, _):
        whole = panel.hold
        panel.hold = lambda key, seconds: whole(key, 2.8)  # type: ignore[method-assign]
        restore_ten_minutes(panel, "finance")
        assert panel.lines == ("Let go too soon:", "nothing is done ")
        panel.turn(120)
        assert panel.destroyed == []
        assert panel.asked[-1] == ("unlock", {})
