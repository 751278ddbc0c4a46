"""The main job on the whole machine: protect, write, look back."""

import pytest

from hil_tests.box import Box
from hil_tests.host import Host
from hil_tests.oracle import BLOCK, content


@pytest.mark.smoke
def test_a_volume_is_protected_from_the_console(box: Box, host: Host) -> None:
    pair = box.pair()
    box.console.log_in()
    primary, secondary = box.disk(pair.primary), box.disk(pair.secondary)
    box.console.say(f"protect finance --primary {primary} --secondary {secondary}")
    box.await_state("finance", "protected")
    with host.attach("finance") as finance:
        finance.write(0, content(7))
        finance.flush()
        assert finance.read(0, BLOCK) == content(7)


@pytest.mark.parametrize(("sector", "bus"), [(4096, "scsi"), (None, "nvme")])
def test_disks_of_every_kind(box: Box, host: Host, sector: int | None, bus: str) -> None:
    pair = box.pair(sector, bus)
    box.protect("finance", pair)
    with host.attach("finance") as finance:
        finance.write(BLOCK, content(1))
        finance.flush()
        before = box.volume("finance")["write_number"]
        finance.write(BLOCK, content(2))
        with host.attach(f"finance@write:{before}") as past:
            assert past.read(BLOCK, BLOCK) == content(1)
    assert box.verify("finance") == 0
