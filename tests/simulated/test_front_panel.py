"""The played front panel as a thing on a bus: what its verbs do."""

from errno import EINVAL, EIO, ENXIO, EOPNOTSUPP, EREMOTEIO

import pytest
from smbus2 import i2c_msg

from appliance.boards import read_board
from appliance.glass import COLUMNS, DARK, Backlight, Glass, Key
from appliance.simulated.front_panel import SimulatedPanel

BOARD = read_board("lcd-plate")
KEYS_PULLED_UP = (0x0C, 0x1F)
GPIO_A = 0x12


@pytest.fixture
def part() -> SimulatedPanel:
    return SimulatedPanel(BOARD)


def write(part: SimulatedPanel, *values: int, address: int = BOARD.address) -> None:
    part.i2c_rdwr(i2c_msg.write(address, values))


def read(part: SimulatedPanel, register: int, count: int = 1) -> list[int]:
    answer = i2c_msg.read(BOARD.address, count)
    part.i2c_rdwr(i2c_msg.write(BOARD.address, [register]), answer)
    return [answer.buf[place][0] for place in range(count)]


def test_messages_write_and_read(part: SimulatedPanel) -> None:
    write(part, 0x02, 0x12, 0x34)
    assert read(part, 0x02, 2) == [0x12, 0x34]


def test_bytes_and_time_are_counted(part: SimulatedPanel) -> None:
    """An address and what follows; 90 µs a byte."""
    write(part, 0x02, 0x12, 0x34)
    assert (part.transactions, part.bytes) == (1, 4)
    read(part, 0x02, 2)
    assert (part.transactions, part.bytes) == (2, 4 + 2 + 3)
    assert part.seconds == pytest.approx(9 * 90e-6)
    part.sleep(0.5)
    assert part.seconds == pytest.approx(0.5 + 9 * 90e-6)


def test_nobody_is_at_another_address(part: SimulatedPanel) -> None:
    with pytest.raises(OSError, match=r".") as raised:
        write(part, 0, address=BOARD.address + 1)
    assert raised.value.errno == ENXIO


def test_naks_come_as_often_and_as_late_as_told(part: SimulatedPanel) -> None:
    part.nak(2, error=EREMOTEIO)
    part.nak(after=3, error=EIO)
    for error in (EREMOTEIO, EREMOTEIO, EIO):
        with pytest.raises(OSError, match=r".") as raised:
            write(part, 0x02, 0x12, 0x34)
        assert raised.value.errno == error
    assert read(part, 0x02, 2) == [0x12, 0], "address, register and one byte came through"


SHORT = i2c_msg.write(BOARD.address, [0])
ANSWER = i2c_msg.read(BOARD.address, 1)


@pytest.mark.parametrize(
    ("most", "more", "error"),
    [
        pytest.param([SHORT] * 42, [SHORT] * 43, EINVAL, id="messages"),
        pytest.param(
            [i2c_msg.write(BOARD.address, [0] * 254)],
            [SHORT, i2c_msg.write(BOARD.address, [0] * 255)],
            EIO,
            id="bytes of a message",
        ),
        pytest.param([SHORT, SHORT, ANSWER], [ANSWER, SHORT], EOPNOTSUPP, id="a read, then more"),
        pytest.param([ANSWER], [SHORT, ANSWER, SHORT, ANSWER], EOPNOTSUPP, id="two reads"),
    ],
)
def test_it_takes_what_every_adapter_takes(
    part: SimulatedPanel, most: list[i2c_msg], more: list[i2c_msg], error: int
) -> None:
    part.i2c_rdwr(*most)
    passed = part.bytes
    with pytest.raises(OSError, match=r".") as raised:
        part.i2c_rdwr(*more)
    assert raised.value.errno == error
    assert part.bytes == passed


def test_unplugged_it_is_dark_and_deaf_and_forgets(part: SimulatedPanel) -> None:
    write(part, 0x02, 0x12)
    part.unplug()
    assert part.glass() == DARK
    with pytest.raises(OSError, match=r".") as raised:
        read(part, 0x02)
    assert raised.value.errno == ENXIO
    part.plug()
    assert read(part, 0x02) == [0]


def test_keys_ground_their_pins(part: SimulatedPanel) -> None:
    write(part, *KEYS_PULLED_UP)
    assert read(part, GPIO_A) == [0x1F]
    for bit, key in enumerate(Key):
        part.press(key)
        assert read(part, GPIO_A) == [0x1F & ~(1 << bit)]
        part.release(key)
    part.stick(Key.UP)
    part.release(Key.UP)
    assert read(part, GPIO_A) == [0x1F & ~0x08]


def test_without_pull_ups_all_keys_look_pressed(part: SimulatedPanel) -> None:
    assert read(part, GPIO_A) == [0]


@pytest.mark.parametrize(
    ("levels", "colour"),
    [
        ((0xC0, 0x01), Backlight.OFF),
        ((0x80, 0x01), Backlight.RED),
        ((0x40, 0x01), Backlight.GREEN),
        ((0xC0, 0x00), Backlight.BLUE),
        ((0x00, 0x00), Backlight.WHITE),
    ],
)
def test_lamps_are_lit_by_low_levels(
    part: SimulatedPanel, levels: tuple[int, int], colour: Backlight
) -> None:
    write(part, 0x14, *levels)
    assert part.glass().backlight is Backlight.OFF, "nothing drives them yet"
    write(part, 0x00, 0x3F, 0xFE)
    assert part.glass() == Glass((" " * COLUMNS, " " * COLUMNS), colour)


def test_lamps_that_are_lit_by_high_levels() -> None:
    board = read_board("hand-wired")
    part = SimulatedPanel(board)
    write(part, 0x00, 0xF7, 0x9F, address=board.address)
    assert part.glass().backlight is Backlight.OFF
    write(part, 0x14, 0x08, 0x40, address=board.address)
    assert part.glass().backlight is Backlight.TEAL
