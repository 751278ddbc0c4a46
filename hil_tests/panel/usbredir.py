"""The usbredir protocol (version 0.7), as the end that has the USB device speaks it: sans-IO.

QEMU's `usb-redir` device is the other end: what its guest's kernel asks of the device comes in
here as packets, over a socket.  The device here has endpoint 0 and nothing else, one
configuration, and one interface with one setting.

* Both ends say hello first.  Its header is always the short one; every later packet has the long
  one, with an id of 64 bits, if both have announced that.
* The device is told of when the other's hello is in: interface_info, ep_info, device_connect, in
  this order.
* Each control packet is answered before the next is looked at, so there is never one to cancel.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final, Protocol


class Packet(IntEnum):
    """Types of packets that come or go here."""

    HELLO = 0
    DEVICE_CONNECT = 1
    DEVICE_DISCONNECT = 2
    RESET = 3
    INTERFACE_INFO = 4
    EP_INFO = 5
    SET_CONFIGURATION = 6
    GET_CONFIGURATION = 7
    CONFIGURATION_STATUS = 8
    SET_ALT_SETTING = 9
    GET_ALT_SETTING = 10
    ALT_SETTING_STATUS = 11
    CANCEL_DATA_PACKET = 21
    DEVICE_DISCONNECT_ACK = 24
    CONTROL_PACKET = 100


class Capability(IntEnum):
    """Bits of the hello."""

    CONNECT_DEVICE_VERSION = 1
    DEVICE_DISCONNECT_ACK = 3
    EP_INFO_MAX_PACKET_SIZE = 4
    IDS_OF_64_BITS = 5
    BULK_LENGTH_OF_32_BITS = 6
    """There are no bulk transfers here, but behind an xHCI controller QEMU refuses who cannot."""


class Status(IntEnum):
    """How a transfer has ended."""

    SUCCESS = 0
    INVALID = 2
    STALL = 4


NAME: Final = b"Ebbtide's rig"
CAPABILITIES: Final = sum(1 << capability for capability in Capability)
NOTHING_TO_SAY: Final = frozenset(
    {Packet.RESET, Packet.CANCEL_DATA_PACKET, Packet.DEVICE_DISCONNECT_ACK}
)
"""What may come in and wants no answer."""

SHORT_HEADER: Final = Struct("<III")
LONG_HEADER: Final = Struct("<IIQ")
HELLO: Final = Struct("<64sI")
CONNECT: Final = Struct("<BBBBHHH")
CONTROL: Final = Struct("<BBBBHHH")
LENGTH_MAXIMUM: Final = HELLO.size + CONTROL.size + 0xFFFF
"""No packet for such a device is longer; a longer one is no packet."""

ENDPOINTS: Final = 32
"""Endpoints 0 to 15 are those towards the device, 16 to 31 those from it."""
CONTROL_ENDPOINTS: Final = (0, 16)
TYPE_CONTROL: Final = 0
TYPE_INVALID: Final = 255
SPEED_LOW: Final = 0
CONFIGURATION: Final = 1
TOWARDS_HOST: Final = 0x80
"""The bit of an endpoint, and of a request's type."""


class ProtocolError(Exception):
    """What came in is not what such an end may send."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a USB host knows a device by."""

    vendor: int
    product: int
    version: int
    """As in its descriptor: binary coded decimal."""
    device_class: int
    packet_size: int
    """Of endpoint 0, in bytes."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a control transfer asks for (USB 1.1, 9.3)."""

    request_type: int
    request: int
    value: int
    index: int
    length: int
    """Bytes that the host sends, or those it has room for."""

    @property
    def reads(self) -> bool:
        return bool(self.request_type & TOWARDS_HOST)


class Device(Protocol):
    """What is plugged in."""

    @property
    def identity(self) -> Identity: ...

    def control(self, setup: Setup, data: bytes) -> bytes | None:
        """One transfer on endpoint 0: what it brings, or None for a stall.  `data` is what the
        host sends; an answer longer than it has room for is cut short."""


class Connection:
    """One connection, in which the device is plugged in."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._received = bytearray()
        self._header: Struct | None = None
        """Of what follows the hellos; there is none before."""
        self._configuration = CONFIGURATION

    def start(self) -> bytes:
        """What is sent before anything comes in."""
        hello = HELLO.pack(NAME, CAPABILITIES)
        return SHORT_HEADER.pack(Packet.HELLO, len(hello), 0) + hello

    def receive(self, data: bytes) -> bytes:
        """What is to be sent, now that these bytes came in, be they a part of a packet or many.

        Raises ProtocolError; the connection is then of no more use.
        """
        self._received += data
        answers = bytearray()
        while (packet := self._next_packet()) is not None:
            answers += self._answer(*packet)
        return bytes(answers)

    def _next_packet(self) -> tuple[int, int, bytes] | None:
        """Type, id and body, if it is here whole."""
        header = self._header or SHORT_HEADER
        if len(self._received) < header.size:
            return None
        kind, length, number = header.unpack_from(self._received)
        if length > LENGTH_MAXIMUM:
            raise ProtocolError(f"a packet of type {kind} and {length} bytes")
        end = header.size + length
        if len(self._received) < end:
            return None
        body = bytes(self._received[header.size : end])
        del self._received[:end]
        return kind, number, body

    def _answer(self, kind: int, number: int, body: bytes) -> bytes:
        if self._header is None:
            return self._greet(kind, body)
        if kind in NOTHING_TO_SAY:
            return b""
        match kind, len(body):
            case Packet.CONTROL_PACKET, length if length >= CONTROL.size:
                return self._packet(Packet.CONTROL_PACKET, self._control(body), number)
            case Packet.SET_CONFIGURATION, 1:
                return self._configure(number, body[0])
            case Packet.GET_CONFIGURATION, 0:
                return self._configure(number, self._configuration)
            case Packet.SET_ALT_SETTING, 2:
                return self._alternate(number, body[0], body[1])
            case Packet.GET_ALT_SETTING, 1:
                return self._alternate(number, body[0], 0)
        raise ProtocolError(f"a packet of type {kind} with {len(body)} bytes")

    def _greet(self, kind: int, body: bytes) -> bytes:
        """The other's hello is in; one of an old version carries no capabilities."""
        if kind != Packet.HELLO or len(body) < HELLO.size - 4:
            raise ProtocolError(f"a packet of type {kind} and {len(body)} bytes for a hello")
        theirs = HELLO.unpack_from(body)[1] if len(body) >= HELLO.size else 0
        shared = theirs & CAPABILITIES
        for needed in (Capability.CONNECT_DEVICE_VERSION, Capability.EP_INFO_MAX_PACKET_SIZE):
            if not shared >> needed & 1:
                raise ProtocolError(f"an end that cannot do {needed.name}")
        is_long = shared >> Capability.IDS_OF_64_BITS & 1
        self._header = LONG_HEADER if is_long else SHORT_HEADER
        return b"".join(
            (
                self._packet(Packet.INTERFACE_INFO, self._interface_info()),
                self._packet(Packet.EP_INFO, self._ep_info()),
                self._packet(Packet.DEVICE_CONNECT, self._device_connect()),
            )
        )

    def _packet(self, kind: Packet, body: bytes, number: int = 0) -> bytes:
        assert self._header is not None
        return self._header.pack(kind, len(body), number) + body

    def _interface_info(self) -> bytes:
        """One interface: number 0 of the device's class, without subclass and protocol."""
        classes = bytes((self._device.identity.device_class, *bytes(31)))
        return (1).to_bytes(4, "little") + bytes(32) + classes + bytes(64)

    def _ep_info(self) -> bytes:
        kinds = bytearray([TYPE_INVALID]) * ENDPOINTS
        sizes = [0] * ENDPOINTS
        for endpoint in CONTROL_ENDPOINTS:
            kinds[endpoint] = TYPE_CONTROL
            sizes[endpoint] = self._device.identity.packet_size
        intervals_and_interfaces = bytes(2 * ENDPOINTS)
        return (
            bytes(kinds)
            + intervals_and_interfaces
            + b"".join(size.to_bytes(2, "little") for size in sizes)
        )

    def _device_connect(self) -> bytes:
        its = self._device.identity
        return CONNECT.pack(SPEED_LOW, its.device_class, 0, 0, its.vendor, its.product, its.version)

    def _configure(self, number: int, wanted: int) -> bytes:
        """The host chooses the one configuration, or takes it away (0), or asks for it."""
        known = wanted in {0, CONFIGURATION}
        if known:
            self._configuration = wanted
        status = Status.SUCCESS if known else Status.INVALID
        body = bytes((status, self._configuration))
        return self._packet(Packet.CONFIGURATION_STATUS, body, number)

    def _alternate(self, number: int, interface: int, setting: int) -> bytes:
        known = interface == 0 and setting == 0
        status = Status.SUCCESS if known else Status.INVALID
        return self._packet(Packet.ALT_SETTING_STATUS, bytes((status, interface, 0)), number)

    def _control(self, body: bytes) -> bytes:
        endpoint, request, request_type, _, value, index, length = CONTROL.unpack_from(body)
        setup = Setup(request_type, request, value, index, length)
        data = body[CONTROL.size :]
        if endpoint & ~TOWARDS_HOST or len(data) != (0 if setup.reads else length):
            raise ProtocolError(f"a control packet for endpoint {endpoint:#x} with {setup}")
        answer = self._device.control(setup, data)
        if answer is None:
            status, answer, length = Status.STALL, b"", 0
        else:
            status, answer = Status.SUCCESS, answer[:length]
            if setup.reads:
                length = len(answer)
        return CONTROL.pack(endpoint, request, request_type, status, value, index, length) + (
            answer if setup.reads else b""
        )
