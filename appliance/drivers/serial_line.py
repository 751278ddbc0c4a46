"""A serial line: a real tty, or a pseudo-terminal that plays one.

Eight bits, no parity, one stop bit, no flow control, and no modem lines
looked at (CLOCAL): most console cables carry three wires.  The kernel's line
discipline does nothing; what a line means is for the console.
"""

import os
import termios
from pathlib import Path
from typing import Final

import serial

from appliance.errors import LineUnusable

READ_BYTES: Final = 256


class SerialLine:
    """An open line, for this process alone (flock).  Every call returns at once.

    Raises LineUnusable if the line is not there or another program has it, and
    later if it has gone: nothing works then but `close`.
    """

    def __init__(self, device: Path, baud: int) -> None:
        self._device = device
        try:
            self._port = serial.Serial(
                os.fspath(device),
                baud,
                timeout=0,
                write_timeout=0,
                # Makes VMIN 1, so that reading nothing means a hang-up.
                inter_byte_timeout=0,
                exclusive=True,
            )
        except (OSError, ValueError, termios.error) as error:
            # pyserial's own error is an OSError; what the kernel said stands behind it.
            raise self._unusable(error) from error

    def fileno(self) -> int:
        return self._port.fileno()

    def read(self) -> bytes:
        """What has come in."""
        try:
            data = os.read(self._port.fileno(), READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._unusable(error) from error
        if not data:
            raise LineUnusable(device=self._device, reason="it hung up")
        return data

    def write(self, data: bytes) -> int:
        """How much the kernel took."""
        try:
            return os.write(self._port.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._unusable(error) from error

    def unsent(self) -> int:
        """Bytes that the kernel has taken and that have not left yet."""
        try:
            return self._port.out_waiting
        except (OSError, termios.error) as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """What has not left is dropped; idempotent."""
        try:
            self._port.close()
        except (OSError, termios.error):
            # The line has gone; the descriptor goes with it.
            return

    def _unusable(self, error: Exception) -> LineUnusable:
        reason = (
            os.strerror(error.errno)
            if isinstance(error, OSError) and error.errno
            else "it is no serial line"
        )
        return LineUnusable(device=self._device, reason=reason.lower())
