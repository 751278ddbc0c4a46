"""A new version comes on a stick; a bad one does not stay."""

from collections.abc import Iterator
from typing import Any

import pytest

from hil_tests.accidents import judge
from hil_tests.box import Box
from hil_tests.host import Host

pytestmark = [pytest.mark.lg_feature("update-stick"), pytest.mark.timeout(2400)]
FOUND_GOOD = "systemctl is-active ebbtide-mark-good || true"
RETURN_SECONDS = 1200
"""The box gives a new version eight minutes to show that it works; under TCG it boots twice."""


@pytest.fixture
def stick(box: Box) -> Iterator[Any]:
    yield box.stick
    if box.power.running:
        box.stick.pull()


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
    assert box.version == "0.1.1"
    judge(box, host, "finance", oracle, 0, points=False)
    box.until("it is found good", lambda: box.shell(FOUND_GOOD) == "active")


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
    stick.plug(stick.failing("0.1.2"))
    box.await_update_notice("nothing is done")


def test_an_update_of_a_strangers_is_refused(box: Box, stick: Any) -> None:
    before = box.shell("grub-editenv /efi/EFI/ebbtide/grubenv list")
    stick.plug(stick.strangers())
    box.await_update_notice("refused")
    assert box.shell("grub-editenv /efi/EFI/ebbtide/grubenv list") == before
    assert "signature verification failed" in box.shell("journalctl -u rauc --no-pager").lower()
