"""Pinned snapshots go last, and each that goes is named."""

from typing import Any

import pytest

from appliance import events
from appliance.cdp import retention
from appliance.cdp.history import History
from tests.cdp.simulated_pair import SimulatedPair

BLOCK = 4096


@pytest.fixture
def pair() -> SimulatedPair:
    pair = SimulatedPair(seed=31)
    pair.start()
    return pair


def history(pair: SimulatedPair) -> History:
    return pair.volume.require_history()


def a_map(pair: SimulatedPair, *names: str, pinned: bool = False) -> None:
    """A closed map with snapshots in the middle of it."""
    pair.write(BLOCK, pair.random.randbytes(BLOCK))
    for name in names:
        pair.run(pair.volume.take_snapshot(name, pinned))
    pair.write(2 * BLOCK, pair.random.randbytes(BLOCK))
    history(pair).journal.close_map()


def fold(pair: SimulatedPair) -> None:
    assert pair.run(retention.fold(history(pair), pair.primary))


def names(pair: SimulatedPair) -> list[str]:
    return [snapshot.name for snapshot in pair.volume.snapshots()]


def test_a_fold_stops_before_a_pinned_snapshot(
    pair: SimulatedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(pair.volume, "emit", lambda code, **fields: told.append(fields))
    a_map(pair)
    a_map(pair, "noon")
    a_map(pair, "kept", "too", pinned=True)
    a_map(pair, "evening")
    kept = history(pair).chain.snapshots["kept"].write

    while history(pair).chain.floor < kept - 1:
        fold(pair)

    assert history(pair).chain.floor == kept - 1, "the map before it is the last that went"
    assert names(pair) == ["kept", "too", "evening"]
    assert pair.point("snapshot:kept") == pair.states[kept]
    assert [(fields["kind"], fields["name"]) for fields in told] == [("snapshot", "noon")]

    fold(pair)

    assert names(pair) == ["evening"]
    assert [(fields["kind"], fields["name"]) for fields in told[1:]] == [
        ("pinned snapshot", "kept"),
        ("pinned snapshot", "too"),
    ]


def test_a_pin_on_the_border_of_a_map_holds_nothing_up(pair: SimulatedPair) -> None:
    a_map(pair)
    a_map(pair)
    pair.run(pair.volume.take_snapshot("border", True))
    border = history(pair).chain.snapshots["border"].write
    while history(pair).chain.maps:
        fold(pair)
    assert history(pair).chain.floor == border
    assert names(pair) == ["border"]
    assert events.SNAPSHOT_DROPPED not in pair.events
