"""Disks of every kind, mixed: each mix loses its power once under load."""

import pytest

from hil_tests.accidents import judge
from hil_tests.box import Box
from hil_tests.host import Host


@pytest.mark.lg_feature("fresh-box")
@pytest.mark.parametrize(
    ("primary", "secondary"),
    [("bay0", "bay4"), ("bay3", "bay1"), ("bay5", "bay4"), ("bay0", "bay6")],
    ids=["512 with 4096", "4096 with 512", "NVMe with SCSI", "SCSI with NVMe"],
)
def test_a_cut_with_disks_that_differ(
    box: Box, host: Host, seed: int, primary: str, secondary: str
) -> None:
    pair = box.plug(box.bay(primary), box.bay(secondary))
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(40 + seed % 50)
    box.replace()
    judge(box, host, "finance", load.cut_off(), before)
