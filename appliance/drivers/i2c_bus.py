"""I2C buses of this machine, found by the name of their adapter.

Numbers change from boot to boot, and a bus behind USB goes and comes under another one; so a bus
is looked for whenever it is opened, and opened again after every error.
"""

from contextlib import suppress
from errno import EBUSY, ENODEV
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Final, Protocol

from smbus2 import SMBus, i2c_msg

ADAPTERS: Final = Path("/sys/class/i2c-dev")
"""Where the kernel's i2c-dev driver lists the buses: `i2c-N/name`."""


MESSAGE_BYTES: Final = 254
"""The longest message that every adapter takes: V-USB, on which the firmware of i2c-tiny-usb
stands, carries no longer one (USB_CFG_LONG_TRANSFERS is not set); the kernel would take 8192."""


class Bus(Protocol):
    """What the front panel needs of an I2C bus, in the shape of `smbus2.SMBus`.

    What it asks of a bus is what every adapter can do: 42 messages in one transaction
    (I2C_RDWR_IOCTL_MAX_MSGS of the kernel's i2c-dev), each of `MESSAGE_BYTES` at most, and none
    that reads but the last one (the kernel's i2c-bcm2835 refuses any other with EOPNOTSUPP).
    """

    def i2c_rdwr(self, *i2c_msgs: i2c_msg) -> None:
        """One transaction: the messages in turn, with repeated starts.

        Raises OSError: ENXIO, EREMOTEIO or EIO (it depends on the adapter) if nobody
        acknowledges, ENODEV if the bus itself has gone.
        """


def find_bus(name: str, adapters: Path = ADAPTERS) -> str:
    """The device node of the one bus whose adapter's name begins so; a path is one already.

    Raises OSError ENODEV if there is none, or more than one.
    """
    if name.startswith("/"):
        return name
    found = []
    for adapter in sorted(adapters.glob("i2c-*")):
        with suppress(OSError):  # it may go while we look
            if (adapter / "name").read_text().strip().startswith(name):
                found.append(adapter.name)
    if len(found) != 1:
        seen = f"they are {', '.join(found)}" if found else "there is none"
        raise OSError(ENODEV, f"no single I2C bus is named '{name}…': {seen}")
    return f"/dev/{found[0]}"


class NamedBus:
    """A bus of this machine by name or path: opened at its first use, and anew at the next use
    after an error.

    While it is open no other process has it as a `NamedBus`, but gets OSError EBUSY: two who
    write to one display would garble it.
    """

    def __init__(self, name: str, adapters: Path = ADAPTERS) -> None:
        self._name = name
        self._adapters = adapters
        self._opened: SMBus | None = None

    def i2c_rdwr(self, *i2c_msgs: i2c_msg) -> None:
        try:
            if self._opened is None:
                # Opening in the constructor would leak the descriptor if its ioctl failed.
                self._opened = SMBus()
                self._opened.open(find_bus(self._name, self._adapters))
                _lock(self._opened)
            self._opened.i2c_rdwr(*i2c_msgs)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._opened is not None:
            with suppress(OSError):
                self._opened.close()
            self._opened = None


def _lock(bus: SMBus) -> None:
    """Until it is closed."""
    assert bus.fd is not None
    try:
        flock(bus.fd, LOCK_EX | LOCK_NB)
    except BlockingIOError as error:
        raise OSError(EBUSY, "another process has its bus") from error
