"""What is a bay and what is not; disks pulled while hosts write, and put back."""

import pytest

from hil_tests.accidents import judge
from hil_tests.box import Box
from hil_tests.host import Host


def test_only_disks_in_bays_are_told(box: Box) -> None:
    """Not the system's own disk, and not what comes and goes while an update is installed."""
    node = box.shell("truncate --size 1M /run/bundle && losetup --find --show /run/bundle")
    pair = box.pair()
    ours = {pair.primary.serial, pair.secondary.serial}
    assert {disk["serial"] for disk in box.ask("disks")["disks"]} == ours
    ids = {box.disk(pair.primary), box.disk(pair.secondary)}
    box.shell(f"losetup --detach {node}; rm /run/bundle")
    pair.secondary.pull()
    box.until("it is missed", lambda: box.told("EV102"))
    assert {event["fields"]["disk"] for event in box.told("EV101", "EV102")} == ids


@pytest.mark.smoke
def test_the_secondary_is_pulled_under_load_and_put_back(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(50)
    pair.secondary.pull()
    box.await_state("finance", "tracking")
    load.await_writes(50)
    pair.secondary.plug()
    box.await_state("finance", "protected")
    oracle = load.stop()
    assert load.failed == []
    assert len(box.cdpctl("timeline finance")["gaps"]) == 1
    judge(box, host, "finance", oracle, before, points=False)


def test_the_primary_is_pulled_under_load_and_put_back(box: Box, host: Host, seed: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(50)
    pair.primary.pull()
    box.until("it is noticed", lambda: box.volume("finance")["state"] != "protected")
    oracle = load.cut_off()
    pair.primary.plug()
    judge(box, host, "finance", oracle, before)
