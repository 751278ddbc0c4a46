"""The usbredir protocol, before packets of QEMU's and packets made by hand."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.boards import read_board
from appliance.glass import Backlight
from hil_tests.panel.i2c_tiny_usb import I2cTinyUsb
from hil_tests.panel.plate import Plate
from hil_tests.panel.usbredir import Connection, Identity, ProtocolError, Setup
from tests.drivers.panel_rig import glass
from tests.hil.played_machine import EVERY_CAPABILITY, VENDOR_IN, VENDOR_OUT, UsbHost

RECORDED = Path(__file__).with_name("recorded.txt")
SUCCESS, INVALID, STALL = 0, 2, 4
SET_CONFIGURATION, GET_CONFIGURATION, SET_ALT_SETTING, GET_ALT_SETTING = 6, 7, 9, 10
IDS_OF_64_BITS = 1 << 5


class PlayedDevice:
    """Gives back what it gets, twice; stalls at request 9."""

    identity = Identity(
        vendor=0x1234, product=0x5678, version=0x0102, device_class=0xFE, packet_size=64
    )

    def __init__(self) -> None:
        self.asked: list[tuple[Setup, bytes]] = []

    def control(self, setup: Setup, data: bytes) -> bytes | None:
        self.asked.append((setup, data))
        return None if setup.request == 9 else setup.value.to_bytes(2, "little") * 2


def recorded() -> list[tuple[float, bytes, bytes]]:
    lines = [line.split() for line in RECORDED.read_text().splitlines() if line[0] != "#"]
    return [
        (float(when), bytes.fromhex(received), b"" if sent == "-" else bytes.fromhex(sent))
        for when, received, sent in lines
    ]


def host(device: PlayedDevice, capabilities: int = EVERY_CAPABILITY) -> UsbHost:
    connection = Connection(device)
    waiting = [connection.start()]

    def exchange(data: bytes) -> bytes:
        waiting.append(connection.receive(data))
        answers = b"".join(waiting)
        waiting.clear()
        return answers

    return UsbHost(exchange, capabilities)


def test_what_qemu_said_is_answered_as_it_was() -> None:
    now = [0.0]
    plate = Plate(read_board("lcd-plate"), lambda: now[0])
    plate.power_on()
    connection = Connection(I2cTinyUsb(plate))
    for when, received, sent in recorded():
        now[0] = when
        assert connection.receive(received) == sent
    assert plate.glass() == glass("No volumes yet", "↵menu", Backlight.WHITE)


@settings(deadline=None)
@given(st.data())
def test_it_does_not_matter_how_packets_are_cut(data: st.DataObject) -> None:
    stream = b"".join(received for _, received, _ in recorded())
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=40)))
    connection = Connection(PlayedDevice())
    answers = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        answers += connection.receive(stream[start:end])
    assert answers == Connection(PlayedDevice()).receive(stream)


def test_what_is_told_of_the_device() -> None:
    (interfaces, _, its_interfaces), (endpoints, _, its_endpoints), (connect, _, its) = host(
        PlayedDevice()
    ).announced
    assert (interfaces, endpoints, connect) == (4, 5, 1)
    assert its_interfaces == struct.pack("<I32s32s64x", 1, b"", b"\xfe")
    types, sizes = its_endpoints[:32], struct.unpack("<32H", its_endpoints[96:])
    assert {place for place, kind in enumerate(types) if kind == 0} == {0, 16}
    assert set(types) == {0, 255}
    assert sizes[0] == sizes[16] == 64
    assert sum(sizes) == 128
    assert its == struct.pack("<BBBBHHH", 0, 0xFE, 0, 0, 0x1234, 0x5678, 0x0102)


@pytest.mark.parametrize("capabilities", [EVERY_CAPABILITY, EVERY_CAPABILITY & ~IDS_OF_64_BITS])
def test_control_transfers(capabilities: int) -> None:
    device = PlayedDevice()
    usb = host(device, capabilities)
    assert usb.control(VENDOR_IN, 1, 0xABCD, 7, 64) == (SUCCESS, b"\xcd\xab\xcd\xab")
    assert usb.control(VENDOR_IN, 1, 0xABCD, 7, 3) == (SUCCESS, b"\xcd\xab\xcd")
    assert usb.control(VENDOR_IN, 9, 0, 0, 3) == (STALL, b"")
    assert usb.control(VENDOR_OUT, 2, 1, 2, b"data") == (SUCCESS, b"")
    assert usb.control(VENDOR_OUT, 9, 1, 2, b"data") == (STALL, b"")
    assert device.asked[3] == (Setup(VENDOR_OUT, 2, 1, 2, 4), b"data")


def test_configurations_and_settings() -> None:
    usb = host(PlayedDevice())
    assert usb.ask(GET_CONFIGURATION, b"") == (8, bytes((SUCCESS, 1)))
    assert usb.ask(SET_CONFIGURATION, b"\x00") == (8, bytes((SUCCESS, 0)))
    assert usb.ask(SET_CONFIGURATION, b"\x02") == (8, bytes((INVALID, 0)))
    assert usb.ask(SET_CONFIGURATION, b"\x01") == (8, bytes((SUCCESS, 1)))
    assert usb.ask(GET_CONFIGURATION, b"") == (8, bytes((SUCCESS, 1)))
    assert usb.ask(SET_ALT_SETTING, b"\x00\x00") == (11, bytes((SUCCESS, 0, 0)))
    assert usb.ask(SET_ALT_SETTING, b"\x00\x01") == (11, bytes((INVALID, 0, 0)))
    assert usb.ask(GET_ALT_SETTING, b"\x00") == (11, bytes((SUCCESS, 0, 0)))
    assert usb.ask(GET_ALT_SETTING, b"\x01") == (11, bytes((INVALID, 1, 0)))


def greeted() -> Connection:
    connection = Connection(PlayedDevice())
    assert connection.receive(packet(0, struct.pack("<64sI", b"", EVERY_CAPABILITY), "<III"))
    return connection


def packet(kind: int, body: bytes, header: str = "<IIQ") -> bytes:
    return struct.pack(header, kind, len(body), 1) + body


@pytest.mark.parametrize(
    "wrong",
    [
        packet(101, bytes(10)),  # bulk
        packet(0, bytes(68)),  # a second hello
        packet(6, b""),
        packet(9, b"\x00"),
        packet(100, bytes(9)),
        packet(100, struct.pack("<BBBBHHH", 1, 0, 0x41, 0, 0, 0, 0)),  # endpoint 1
        packet(100, struct.pack("<BBBBHHH", 0, 0, 0x41, 0, 0, 0, 2) + b"1"),
        packet(100, struct.pack("<BBBBHHH", 0x80, 0, 0xC1, 0, 0, 0, 2) + b"12"),
        struct.pack("<IIQ", 100, 70_000, 1),
    ],
)
def test_what_no_such_end_sends_is_refused(wrong: bytes) -> None:
    with pytest.raises(ProtocolError):
        greeted().receive(wrong)


@pytest.mark.parametrize("body", [bytes(63), bytes(64), bytes(68), struct.pack("<64sI", b"", 2)])
def test_an_end_that_cannot_be_told_of_the_device_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        Connection(PlayedDevice()).receive(packet(0, body, "<III"))


@settings(deadline=None)
@given(st.booleans(), st.binary(max_size=300))
def test_noise_is_refused_or_waited_with(is_greeted: bool, noise: bytes) -> None:
    connection = greeted() if is_greeted else Connection(PlayedDevice())
    try:
        connection.receive(noise)
    except ProtocolError:
        return
