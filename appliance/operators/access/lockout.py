"""Wrong passwords make the next try wait, longer each time.

The count is kept in a file before it is told whether the password was right:
pulling the plug neither hides a try nor ends a wait.  Each place where one can
try has a file of its own: every line of the console, and the front panel.
Times are not kept, since the box's clock may be unset: a restart begins the
wait anew.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.operators.access.kept_file import read_kept, write_kept

FREE_TRIES: Final = 3
FIRST_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 900.0
_log = logging.getLogger("ebbtide.access")


def wait_seconds(failures: int) -> float:
    """How long no password is taken after so many wrong ones in a row."""
    if failures < FREE_TRIES:
        return 0.0
    return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - FREE_TRIES, 32))


class Lockout:
    """The wrong passwords, or PINs, in a row at one place.  Trouble with the file costs only memory
    across restarts."""

    def __init__(self, path: Path, told: Callable[[str], None] = _log.warning) -> None:
        self._path = path
        self._told = told
        self.failures = self._read()

    def count(self) -> None:
        """A password is about to be tried: it is wrong until `clear`."""
        self.failures += 1
        self._write()

    def clear(self) -> None:
        """The password was right."""
        self.failures = 0
        self._write()

    @property
    def seconds(self) -> float:
        """How long to wait now."""
        return wait_seconds(self.failures)

    def _read(self) -> int:
        try:
            text = read_kept(self._path)
        except OSError as error:
            self._told(f"{self._path} cannot be read: {error.strerror}")
            return FREE_TRIES
        if text is None:
            return 0
        return int(text) if text.isdecimal() and len(text) < 10 else FREE_TRIES

    def _write(self) -> None:
        try:
            write_kept(self._path, f"{self.failures}\n")
        except OSError as error:
            self._told(f"{self._path} cannot be written: {error.strerror}")
