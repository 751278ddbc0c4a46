"""Power cuts in every phase of every kind, while blocks change behind the appliance's back."""

import pytest

from tests.simulation.findings import Tally
from tests.simulation.sabotage import SCAN_SABOTAGES, Sabotage
from tests.simulation.scans import ScanExplorer

SEEDS = 120
"""A sabotage must be noticed within so many."""


def test_no_cut_makes_a_scan_lie() -> None:
    tally = Tally()
    for seed in range(1, 31):
        explorer = ScanExplorer(seed)
        failure = explorer.run(8)
        if failure is not None:
            pytest.fail(str(failure))
        tally.add(explorer.tally)
    assert tally.scans > 60
    assert tally.spoils > 300
    cut = {phase.split()[0] for phase in tally.phases}
    assert {"baseline", "full", "resync", "verify", "recovery"} <= cut
    for phase in ("scanning", "revising", "copying"):
        assert tally.phases[f"full {phase}"], phase


@pytest.mark.parametrize("sabotage", SCAN_SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_scan_that_lies_is_noticed(sabotage: Sabotage) -> None:
    for seed in range(sabotage.first, sabotage.first + SEEDS):
        with sabotage.apply():
            failure = ScanExplorer(seed).run(8)
        if failure is not None:
            return
    pytest.fail(f"{sabotage.name}: nobody noticed in {SEEDS} runs ({sabotage.rule})")
