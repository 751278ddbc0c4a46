"""The USB device i2c-tiny-usb: an I2C bus behind control transfers, as its own firmware does it
and as the kernel's driver of that name asks for it (drivers/i2c/busses/i2c-tiny-usb.c).

The driver sends each message of a transaction as a transfer of its own: the request says where in
the transaction it stands, the value are the kernel's flags of the message, the index is the
address.  After each it asks for the status.  What the firmware does and nobody would guess:

* who reads what nobody acknowledged gets zeros, as many as asked for; the status alone tells;
* the status tells of the address only: that a byte of data was not acknowledged is lost;
* V-USB, on which it stands, carries no more than 254 bytes in a transfer.
"""

from enum import IntEnum
from struct import Struct
from typing import Final, Protocol

from hil_tests.panel.usbredir import Identity, Setup

IDENTITY: Final = Identity(
    vendor=0x0403, product=0xC631, version=0x0201, device_class=0xFF, packet_size=8
)
FUNCTIONALITY: Final = 0x0EFF0009
"""I2C_FUNC_I2C and I2C_FUNC_SMBUS_EMUL: no mangling (I2C_M_NOSTART), no ten-bit addresses."""
STRINGS: Final = ("Till Harbaum", "i2c-tiny-usb")
LENGTH_MAXIMUM: Final = 254
"""Of a transfer: USB_CFG_LONG_TRANSFERS is not set."""
ENGLISH: Final = 0x0409
MILLIAMPERES: Final = 200

TYPE_MASK: Final = 0x60
GET_STATUS: Final = 0
GET_DESCRIPTOR: Final = 6


class Request(IntEnum):
    """Whose a request is, by its type (USB 1.1, table 9-2)."""

    STANDARD = 0x00
    VENDOR = 0x40


class Descriptor(IntEnum):
    """Types of descriptors (USB 1.1, table 9-5)."""

    DEVICE = 1
    CONFIGURATION = 2
    STRING = 3
    INTERFACE = 4


class Command(IntEnum):
    """The device's own requests."""

    ECHO = 0
    GET_FUNCTIONALITY = 1
    SET_DELAY = 2
    GET_STATUS = 3
    MESSAGE = 4
    """With the two bits below."""


BEGIN: Final = 1
"""The message is its transaction's first."""
END: Final = 2
"""And its last."""
READ: Final = 1
"""I2C_M_RD."""


class BusStatus(IntEnum):
    """What became of the last message's address."""

    IDLE = 0
    ACKNOWLEDGED = 1
    NOT_ACKNOWLEDGED = 2


DEVICE_DESCRIPTOR: Final = Struct("<BBHBBBBHHHBBBB")
CONFIGURATION_DESCRIPTOR: Final = Struct("<BBHBBBBB")
INTERFACE_DESCRIPTOR: Final = Struct("<BBBBBBBBB")


class Wires(Protocol):
    """The bus behind the device.  Both raise OSError if nobody acknowledges the address."""

    def write(self, address: int, data: bytes) -> None: ...

    def read(self, address: int, length: int) -> bytes: ...


class I2cTinyUsb:
    """Implements `hil_tests.panel.usbredir.Device`."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._status = BusStatus.IDLE
        self.is_underway = False
        """Whether a transaction has begun that has not ended."""
        self.delay_microseconds = 10
        """Half of what a clock of the bus lasts, as the driver has asked for."""

    @property
    def identity(self) -> Identity:
        return IDENTITY

    def control(self, setup: Setup, data: bytes) -> bytes | None:
        match setup.request_type & TYPE_MASK:
            case Request.STANDARD:
                return _standard(setup)
            case Request.VENDOR:
                return self._own(setup, data)
        return None

    def _own(self, setup: Setup, data: bytes) -> bytes | None:
        if setup.length > LENGTH_MAXIMUM:
            return None
        match setup.request, setup.reads:
            case Command.ECHO, True:
                return setup.value.to_bytes(2, "little")
            case Command.GET_FUNCTIONALITY, True:
                return FUNCTIONALITY.to_bytes(4, "little")
            case Command.SET_DELAY, False:
                self.delay_microseconds = setup.value
                return b""
            case Command.GET_STATUS, True:
                return bytes((self._status,))
            case request, reads if request & ~(BEGIN | END) == Command.MESSAGE:
                # The direction stands there twice, and the driver never lets the two differ.
                return self._message(setup, data) if reads is bool(setup.value & READ) else None
        return None

    def _message(self, setup: Setup, data: bytes) -> bytes:
        """Whether it begins its transaction or follows another makes no difference to the wires:
        a start it is, or a repeated one."""
        try:
            answer = self._pass(setup, data)
            self._status = BusStatus.ACKNOWLEDGED
            self.is_underway = not setup.request & END
        except OSError:
            answer = bytes(setup.length) if setup.reads else b""
            self._status = BusStatus.NOT_ACKNOWLEDGED
            self.is_underway = False
        return answer

    def _pass(self, setup: Setup, data: bytes) -> bytes:
        if setup.reads:
            return self._wires.read(setup.index, setup.length)
        self._wires.write(setup.index, data)
        return b""


def _standard(setup: Setup) -> bytes | None:
    """The standard requests that reach a device; who has it answers the others itself."""
    if not setup.reads:
        return None
    if setup.request == GET_STATUS:
        return bytes(2)
    if setup.request == GET_DESCRIPTOR:
        return _descriptor(setup.value >> 8, setup.value & 0xFF)
    return None


def _descriptor(kind: int, number: int) -> bytes | None:
    match kind, number:
        case Descriptor.DEVICE, 0:
            return DEVICE_DESCRIPTOR.pack(
                DEVICE_DESCRIPTOR.size,
                Descriptor.DEVICE,
                0x0110,  # the version of USB
                IDENTITY.device_class,
                0,
                0,
                IDENTITY.packet_size,
                IDENTITY.vendor,
                IDENTITY.product,
                IDENTITY.version,
                1,  # the strings: who made it,
                2,  # what it is,
                0,  # and no serial number
                1,  # configuration
            )
        case Descriptor.CONFIGURATION, 0:
            interface = INTERFACE_DESCRIPTOR.pack(
                INTERFACE_DESCRIPTOR.size,
                Descriptor.INTERFACE,
                0,
                0,
                0,  # endpoints beside 0
                IDENTITY.device_class,
                0,
                0,
                0,
            )
            return (
                CONFIGURATION_DESCRIPTOR.pack(
                    CONFIGURATION_DESCRIPTOR.size,
                    Descriptor.CONFIGURATION,
                    CONFIGURATION_DESCRIPTOR.size + len(interface),
                    1,  # interface
                    1,  # its number as a configuration
                    0,
                    0x80,  # powered by the bus
                    MILLIAMPERES // 2,
                )
                + interface
            )
        case Descriptor.STRING, 0:
            return _string(ENGLISH.to_bytes(2, "little"))
        case Descriptor.STRING, place if place <= len(STRINGS):
            return _string(STRINGS[place - 1].encode("utf-16-le"))
    return None


def _string(content: bytes) -> bytes:
    return bytes((2 + len(content), Descriptor.STRING)) + content
