"""How fast a line gets bytes."""

import pytest

from appliance.operators.console.pacing import Pacer


@pytest.mark.parametrize("baud", [9600, 115200])
def test_over_a_second_a_line_gets_what_it_can_send(baud: int) -> None:
    pacer = Pacer(baud)
    now, sent = 100.0, 0
    while now < 101.0:
        room = pacer.room(now, 0)
        pacer.sent(room)
        sent += room
        now += 0.001
    most = int(baud / 10 * 0.04)
    assert baud / 10 * 0.95 <= sent <= baud / 10 + most + 1


def test_never_more_waits_than_40_ms() -> None:
    pacer = Pacer(9600)
    assert pacer.room(5.0, 0) == 38
    pacer.sent(38)
    assert pacer.room(5.0, 0) == 0
    assert pacer.room(5.02, 0) in (19, 20)
    assert pacer.room(60.0, 0) == 38
    # The kernel says that something holds it up.
    assert pacer.room(60.0, 30) == 8
    assert pacer.room(60.0, 3000) == 0
    assert 0 < pacer.pause < 0.04
