"""The power goes while hosts write.

What a completed FLUSH covers is there afterwards, what came later is old or new, both disks agree,
and every point up to the last flush is exact.
"""

import pytest

from hil_tests.accidents import judge
from hil_tests.box import Box
from hil_tests.host import Host


@pytest.mark.lg_feature("fresh-box")
@pytest.mark.parametrize("cut", [pytest.param(0, marks=pytest.mark.smoke), *range(1, 6)])
def test_while_protected(box: Box, host: Host, seed: int, cut: int) -> None:
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(20 + 40 * cut)
    box.replace()
    judge(box, host, "finance", load.cut_off(), before)


def test_on_the_same_box(box: Box, host: Host, seed: int) -> None:
    """Its own system disk suffers, too."""
    pair = box.pair()
    box.protect("finance", pair)
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(100)
    box.cut_power()
    oracle = load.cut_off()
    box.power_on()
    judge(box, host, "finance", oracle, before)
