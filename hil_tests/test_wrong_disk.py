"""A twin of a disk, copied before, stands where another one belongs: refused, or brought up to
date; what it does not know is a gap that is shown, and nothing that was kept is lost."""

from typing import Any

import pytest

from hil_tests.accidents import judge, judge_point
from hil_tests.box import Box
from hil_tests.host import Host

pytestmark = pytest.mark.lg_feature("disk-copy")


def test_a_twin_of_the_secondary_beside_it(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    twin = _twin_of(box, pair.secondary, box.spare(pair))
    load = host.load("finance", seed)
    load.await_writes(30)
    twin.plug()
    box.until("it is refused", lambda: "already" in _state(box, twin.serial))
    oracle = load.stop()
    assert load.failed == []
    judge(box, host, "finance", oracle, before)


def test_an_old_twin_in_place_of_the_secondary(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    twin = _twin_of(box, pair.secondary, box.spare(pair))
    load = host.load("finance", seed)
    load.await_writes(30)
    pair.secondary.pull()
    box.await_state("finance", "tracking")
    twin.plug()
    box.await_state("finance", "protected")
    oracle = load.stop()
    assert load.failed == []
    assert box.cdpctl("timeline finance")["gaps"]
    judge(box, host, "finance", oracle, before, points=False)


def test_an_old_twin_in_place_of_the_primary(box: Box, host: Host, seed: int) -> None:
    """What the true one had is in the past that is kept."""
    pair = box.pair()
    box.protect("finance", pair)
    twin = _twin_of(box, pair.primary, box.bay("twin"))
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(30)
    oracle = load.stop()
    pair.primary.pull()
    box.await_state("finance", "offline")
    twin.plug()
    box.until("it is said", lambda: "EV212" in _events(box))
    box.await_state("finance", "protected")
    last = len(oracle.writes)
    judge_point(host, f"finance@write:{before + last}", oracle, last)


def _twin_of(box: Box, bay: Any, blank: Any) -> Any:
    """The disk as it is now, copied while it is out for a moment."""
    bay.pull()
    box.until("it is missed", lambda: box.volume("finance")["state"] != "protected")
    blank.copy_from(bay)
    bay.plug()
    box.await_state("finance", "protected")
    return blank


def _state(box: Box, serial: str) -> str:
    return " ".join(d["state"] for d in box.ask("disks")["disks"] if d["serial"] == serial)


def _events(box: Box) -> list[str]:
    return [event["code"] for event in box.cdpctl("events")["events"]]
