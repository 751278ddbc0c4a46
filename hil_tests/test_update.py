"""A new version comes on a stick; a bad one does not stay; a power cut in the midst of it does no
harm."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from appliance.events import WENT_BACK
from hil_tests.accidents import judge
from hil_tests.box import Box
from hil_tests.host import Host

pytestmark = [pytest.mark.lg_feature("update-stick"), pytest.mark.timeout(2400)]
FOUND_GOOD = "systemctl is-active ebbtide-mark-good || true"
RETURN_SECONDS = 1200
"""The box gives a new version eight minutes to show that it works; under TCG it boots twice."""
BOOT_LOADER, OTHER_SLOT = 1, 3
"""Partitions of the box's disk, as it runs slot A."""


@pytest.fixture
def stick(box: Box) -> Iterator[Any]:
    yield box.stick
    if box.power.running:
        box.stick.pull()


def test_an_update_of_a_strangers_is_refused(box: Box, stick: Any) -> None:
    before = box.boot_memory()
    stick.plug(stick.strangers())
    box.await_update_notice("refused")
    assert box.boot_memory() == before
    assert "signature verification failed" in box.shell("journalctl -u rauc --no-pager").lower()


def test_an_update_while_hosts_write(box: Box, host: Host, stick: Any, seed: int) -> None:
    box.protect("finance", box.pair())
    load = host.load("finance", seed)
    stick.plug(stick.working("0.1.1"))
    box.await_update_notice("installed")
    load.await_writes(20)
    oracle = load.stop()
    assert box.version == "0.1.0"
    stick.pull()
    box.restart()
    assert (box.version, box.slot) == ("0.1.1", "B")
    judge(box, host, "finance", oracle, 0, points=False)
    box.until("it is found good", lambda: box.shell(FOUND_GOOD) == "active")
    assert box.boot_memory()["ORDER"] == "B A"
    image = box.ask("status")["image"]
    assert (image["version"], image["slot"], image["proven"]) == ("0.1.1", "B", True)


@pytest.mark.lg_feature("earlier-cut")
@pytest.mark.parametrize(
    "partition",
    [OTHER_SLOT, BOOT_LOADER],
    ids=["the slot is written", "the boot loader is told"],
)
def test_a_power_cut_while(box: Box, stick: Any, seed: int, partition: int) -> None:
    """At any write: the version before boots, or the new one as a whole."""
    stick.plug(stick.working("0.1.1"))
    box.await_update_notice("installed")
    box.cut_power_within(partition, Random(seed).random())
    box.power_on()
    assert (box.version, box.slot) in [("0.1.0", "A"), ("0.1.1", "B")]
    box.until("it is found good", lambda: box.shell(FOUND_GOOD) == "active")
    told = box.boot_memory()
    assert (told[f"{box.slot}_OK"], told[f"{box.slot}_TRY"]) == ("1", "0")
    if partition == OTHER_SLOT:
        assert (told["ORDER"], told["B_OK"]) == ("A B", "0")


def test_a_version_that_does_not_work_is_left(box: Box, host: Host, stick: Any, seed: int) -> None:
    box.protect("finance", box.pair())
    load = host.load("finance", seed)
    load.await_writes(50)
    oracle = load.stop()
    stick.plug(stick.failing("0.1.2"))
    box.await_update_notice("installed")
    stick.pull()
    box.restart()
    assert box.version == "0.1.2"
    box.await_restart(RETURN_SECONDS)
    assert box.version == "0.1.0"
    judge(box, host, "finance", oracle, 0, points=False)
    box.until("it is found good", lambda: box.shell(FOUND_GOOD) == "active")
    assert box.boot_memory()["B_OK"] == "0"
    assert [alert["code"] for alert in box.ask("status")["image"]["alerts"]] == [WENT_BACK]
    stick.plug(stick.failing("0.1.2"))
    box.await_update_notice("nothing is done")


@pytest.mark.lg_feature("fresh-box")
def test_what_the_boot_loader_remembers_is_lost(box: Box) -> None:
    """A file system that a power cut left with an empty file; slot B is the one that is booted."""
    size = "od -An -t u8 -j 40 -N 8 /dev/ebbtide/slot-a"  # of a squashfs
    box.shell(f"head -c $({size}) /dev/ebbtide/slot-a >/dev/ebbtide/slot-b", timeout=400)
    box.shell("grub-editenv /efi/EFI/ebbtide/grubenv set 'ORDER=B A' B_OK=1 B_TRY=0")
    box.shell("truncate -s 0 /efi/EFI/ebbtide/grubenv; sync")
    box.cut_power()
    box.power_on()
    assert box.slot == "B"
    told = box.boot_memory()
    assert (told["ORDER"], told["B_OK"], told["A_OK"]) == ("B A", "1", "1")
