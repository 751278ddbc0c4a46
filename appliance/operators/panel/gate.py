"""The optional PIN: who passed, and how long a wrong one has to wait.

The panel stands where people walk by; a PIN keeps a passer-by from changing
anything.  It is no secret from those who may open the control socket, since
keys pressed from afar show the same glass.
"""

from typing import Protocol


class Tries(Protocol):
    """Wrong PINs in a row, kept across restarts."""

    @property
    def seconds(self) -> float:
        """How long to wait now until the next try."""
        ...

    def count(self) -> None:
        """A PIN is about to be compared: it is wrong until `clear`."""

    def clear(self) -> None:
        """It was right."""


class Gate:
    """With `tries`, a PIN is asked for before anything that changes."""

    def __init__(self, tries: Tries | None) -> None:
        self._tries = tries
        self._passed = False
        self._closed_until: float | None = None

    @property
    def open(self) -> bool:
        return self._passed or self._tries is None

    def shut(self) -> None:
        """The person left; the next one is asked again."""
        self._passed = False

    def wait(self, now: float) -> float:
        """Seconds until a PIN may be tried; a restart begins the wait anew."""
        if self._tries is None:
            return 0.0
        if self._closed_until is None:
            self._closed_until = now + self._tries.seconds
        return max(0.0, self._closed_until - now)

    def trying(self) -> None:
        """A PIN is about to be compared: whoever does not wait for what comes of it has to wait as
        after a wrong one."""
        self._closed_until = None
        if self._tries is not None:
            self._tries.count()

    def tried(self, right: bool) -> None:
        """What came of it, for whoever tries next."""
        self._closed_until = None
        if right and self._tries is not None:
            self._tries.clear()

    def admit(self) -> None:
        """The person who typed a right one is still there."""
        self._passed = True
