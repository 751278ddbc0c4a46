"""I2C buses of this machine, found by name."""

from typing import Protocol

from smbus2 import i2c_msg


class Bus(Protocol):
    """What the front panel needs of an I2C bus, in the shape of `smbus2.SMBus`."""

    def i2c_rdwr(self, *i2c_msgs: i2c_msg) -> None:
        """One transaction: the messages in turn, with repeated starts.

        Raises OSError: ENXIO, EREMOTEIO and EIO if nobody acknowledges, ENODEV if the bus itself
        has gone.
        """
