"""The adapter and the plate behind it, before the service's own driver and control transfers like
the kernel's."""

import os
import struct
from collections.abc import Callable, Sequence
from errno import ENXIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smbus2 import i2c_msg

from appliance.boards import Board
from appliance.drivers.front_panel import FrontPanel
from appliance.glass import DARK, Backlight, Key
from appliance.simulated.front_panel import SimulatedPanel
from hil_tests.panel.i2c_tiny_usb import I2cTinyUsb
from hil_tests.panel.plate import Plate
from hil_tests.panel.usbredir import Connection
from tests.drivers.panel_rig import BOARDS, GLASSES, glass, seen
from tests.hil.played_machine import VENDOR_IN, VENDOR_OUT, KernelBus, UsbHost

SUCCESS, STALL = 0, 4
STANDARD_IN, GET_DESCRIPTOR = 0x80, 6
PLATE = BOARDS["lcd-plate"]
FUNCTIONS = {
    "I2C_FUNC_I2C": 0x00000001,
    "I2C_FUNC_10BIT_ADDR": 0x00000002,
    "I2C_FUNC_NOSTART": 0x00000010,
    "I2C_FUNC_SMBUS_EMUL": 0x0EFF0008,
}


class Rig:
    """A panel that is plugged in, and the kernel's bus to it; what the driver sleeps passes, and
    nothing else takes time but the bytes on the bus."""

    def __init__(self, board: Board, piece: int = 4096) -> None:
        self.now = 0.0
        self.plate = Plate(board, lambda: self.now)
        self.plate.power_on()
        self._connection = Connection(I2cTinyUsb(self.plate))
        self._waiting = self._connection.start()
        self._piece = piece
        self.usb = UsbHost(self._exchange)
        self.bus = KernelBus(self.usb)

    def driver(self, board: Board, sleep: Callable[[float], None] | None = None) -> FrontPanel:
        return FrontPanel(self.bus, board, sleep or self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _exchange(self, data: bytes) -> bytes:
        for start in range(0, len(data), self._piece):
            self._waiting += self._connection.receive(data[start : start + self._piece])
        answers, self._waiting = self._waiting, b""
        return answers


@pytest.mark.parametrize("piece", [1, 7, 4096])
@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_the_services_driver_before_it(board: Board, piece: int) -> None:
    rig = Rig(board, piece)
    driver = rig.driver(board)
    for shown in GLASSES:
        driver.show(shown)
        assert rig.plate.glass() == seen(board, shown)
    for key in Key:
        rig.plate.press(key)
        assert driver.keys() == {key}
        rig.plate.release(key)
        assert driver.keys() == frozenset()


@pytest.mark.parametrize("left_out", [0.045, 0.0045, 0.0025])
def test_a_wait_that_is_left_out_shows(left_out: float) -> None:
    rig = Rig(PLATE)
    driver = rig.driver(PLATE, lambda seconds: rig.sleep(0.0 if seconds == left_out else seconds))
    driver.show(GLASSES[0])
    assert rig.plate.glass() != GLASSES[0]


def test_a_board_that_is_wired_otherwise_shows() -> None:
    rig = Rig(PLATE)
    with pytest.raises(OSError, match=os.strerror(ENXIO)):
        rig.driver(BOARDS["hand-wired"]).show(GLASSES[0])
    rig.driver(BOARDS["lcd-plate-mono"]).show(GLASSES[0])
    assert rig.plate.glass() != GLASSES[0]


addresses = st.sampled_from([0x20, 0x20, 0x20, 0x21])
writes = st.lists(st.tuples(addresses, st.binary(max_size=40)), max_size=4)
reads = st.lists(st.tuples(addresses, st.integers(1, 9)), max_size=1)
"""A transaction that every adapter takes reads at its end only."""


@settings(deadline=None)
@given(st.lists(st.tuples(writes, reads), max_size=6))
def test_a_transaction_does_what_it_does_without_an_adapter(
    transactions: list[tuple[list[tuple[int, bytes]], list[tuple[int, int]]]],
) -> None:
    rig, part = Rig(PLATE), SimulatedPanel(PLATE)
    for writing, reading in transactions:
        transaction: list[tuple[int, bytes | int]] = [*writing, *reading]
        assert outcome(rig.bus.i2c_rdwr, transaction) == outcome(part.i2c_rdwr, transaction)
        assert rig.plate.glass() == part.glass()


def outcome(
    i2c_rdwr: Callable[..., None], transaction: Sequence[tuple[int, bytes | int]]
) -> tuple[int | None, list[bytes]]:
    built = [
        i2c_msg.read(address, what) if isinstance(what, int) else i2c_msg.write(address, what)
        for address, what in transaction
    ]
    try:
        i2c_rdwr(*built)
    except OSError as error:
        return error.errno, []
    return None, [bytes(each) for each in built]


def test_nobody_at_the_address() -> None:
    usb = Rig(PLATE).usb
    assert usb.control(VENDOR_IN, 7, 1, 0x21, 3) == (SUCCESS, bytes(3))
    assert usb.control(VENDOR_IN, 3, 0, 0, 1) == (SUCCESS, b"\x02")
    assert usb.control(VENDOR_OUT, 7, 0, 0x21, b"abc") == (SUCCESS, b"")
    assert usb.control(VENDOR_IN, 3, 0, 0, 1) == (SUCCESS, b"\x02")
    assert usb.control(VENDOR_OUT, 7, 0, 0x20, b"\x0b\xa0") == (SUCCESS, b"")
    assert usb.control(VENDOR_IN, 3, 0, 0, 1) == (SUCCESS, b"\x01")


def test_its_own_requests() -> None:
    rig = Rig(PLATE)
    assert rig.usb.control(VENDOR_IN, 0, 0xABCD, 0, 2) == (SUCCESS, b"\xcd\xab")
    assert rig.usb.control(VENDOR_IN, 3, 0, 0, 1) == (SUCCESS, b"\x00")
    assert rig.usb.control(VENDOR_OUT, 2, 10, 0, b"") == (SUCCESS, b"")
    _, functions = rig.usb.control(VENDOR_IN, 1, 0, 0, 4)
    told = int.from_bytes(functions, "little")
    assert {name for name, bits in FUNCTIONS.items() if told & bits == bits} == {
        "I2C_FUNC_I2C",
        "I2C_FUNC_SMBUS_EMUL",
    }
    for request_type, request, value in (
        (VENDOR_IN, 8, 0),  # no such request
        (VENDOR_OUT, 1, 0),  # the wrong way
        (VENDOR_OUT, 7, 1),  # a read that sends
        (0x21, 7, 0),  # a class's
        (0x00, 3, 1),  # a feature
    ):
        assert rig.usb.control(request_type, request, value, 0x20, b"")[0] == STALL
    assert rig.usb.control(VENDOR_OUT, 7, 0, 0x20, bytes(254))[0] == SUCCESS
    assert rig.usb.control(VENDOR_OUT, 7, 0, 0x20, bytes(255))[0] == STALL


def test_its_descriptors() -> None:
    usb = Rig(PLATE).usb

    def descriptor(kind: int, number: int, length: int = 255) -> bytes:
        status, brought = usb.control(STANDARD_IN, GET_DESCRIPTOR, kind << 8 | number, 0, length)
        assert status == SUCCESS
        return brought

    device = descriptor(1, 0)
    assert len(device) == device[0] == 18
    assert struct.unpack_from("<HHH", device, 8) == (0x0403, 0xC631, 0x0201)
    assert device[7] == 8
    assert device[17] == 1
    configuration = descriptor(2, 0)
    assert len(configuration) == 18 == struct.unpack_from("<H", configuration, 2)[0]
    assert descriptor(2, 0, 9) == configuration[:9]
    assert configuration[9:14] == bytes((9, 4, 0, 0, 0))
    assert descriptor(3, 0) == bytes((4, 3, 0x09, 0x04))
    assert descriptor(3, device[15])[2:].decode("utf-16-le") == "i2c-tiny-usb"
    for missing in (0x0600, 0x0101, 0x0303, 0x0201):
        assert usb.control(STANDARD_IN, GET_DESCRIPTOR, missing, 0, 255) == (STALL, b"")


def test_a_broken_wire_and_one_that_is_whole_again() -> None:
    rig = Rig(PLATE)
    driver = rig.driver(PLATE)
    first, second = glass("first"), glass("second", backlight=Backlight.RED)
    driver.show(first)
    rig.plate.is_silent = True
    with pytest.raises(OSError, match=os.strerror(ENXIO)):
        driver.show(second)
    assert rig.plate.glass() == first
    rig.plate.is_silent = False
    driver.show(second)
    assert rig.plate.glass() == second


def test_a_plate_that_was_without_power_for_a_moment() -> None:
    rig = Rig(PLATE)
    driver = rig.driver(PLATE)
    driver.show(GLASSES[0])
    rig.plate.power_off()
    assert rig.plate.glass() == DARK
    rig.plate.power_on()
    with pytest.raises(OSError, match="the expander was reset"):
        driver.keys()
    driver.show(GLASSES[0])
    assert rig.plate.glass() == GLASSES[0]


def test_what_is_a_pause_in_watching_the_keys() -> None:
    rig = Rig(PLATE)
    driver = rig.driver(PLATE)
    for pause in (0.0, 0.2, 0.2, 0.7, 0.2):
        rig.sleep(pause)
        driver.keys()
    ends = rig.plate.read_at
    assert rig.plate.watched_since == pytest.approx(ends - 0.2)
    assert rig.plate.watched_until == pytest.approx(ends - 0.9)
