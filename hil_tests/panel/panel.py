"""The front panel that a test plugs into a machine, reads and presses."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from types import TracebackType
from typing import Final, Self, TypeVar

from appliance.boards import Board
from appliance.glass import Glass, Key
from hil_tests.panel.i2c_tiny_usb import I2cTinyUsb
from hil_tests.panel.plate import Plate
from hil_tests.panel.usbredir import Connection, ProtocolError

TAP_SECONDS: Final = 0.1
"""How long a finger rests on a key, and how long it was away before."""
PATIENCE_SECONDS: Final = 30.0
"""Within which a machine that has the panel looks at its keys."""
TRANSACTION_SECONDS: Final = 2.0
"""Within which what has begun on the bus goes on: the driver waits so long for a message."""
SETTLED_SECONDS: Final = 0.02
"""A key that was down for less cannot have counted: contacts bounce."""
A_LOOK: Final = "look at the keys"
RECEIVED_MAXIMUM: Final = 65536
NOT_PLUGGED: Final = "it is not plugged in"

Found = TypeVar("Found")


class PanelTrouble(Exception):
    """The panel does not do what the test waits for; says what it shows."""


class Panel:
    """A panel for the machine whose QEMU listens at `path` for the `usb-redir` device's socket.

    A thread answers for it while it is plugged in.  All methods are for one other thread.
    """

    def __init__(self, path: Path, board: Board) -> None:
        self._path = path
        self._plate = Plate(board)
        self._adapter = I2cTinyUsb(self._plate)
        self._changed = Condition()
        """Held by whoever touches the plate; notified after whatever came over the wires."""
        self._socket: socket.socket | None = None
        self._thread: Thread | None = None
        self._trouble = NOT_PLUGGED
        """Why nothing comes over the wires any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pull()

    # The cable.

    def plug(self) -> None:
        """Into the machine's USB, which also powers it; out of one that has hung up.  Raises
        OSError if QEMU does not listen."""
        assert self._socket is None or self._trouble, "it is plugged in"
        self.pull()
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(str(self._path))
        except OSError:
            link.close()
            raise
        self._trouble = ""
        with self._changed:
            self._plate.power_on()
            self._adapter = I2cTinyUsb(self._plate)
        self._socket = link
        self._thread = Thread(target=self._serve, args=(link,), name="panel", daemon=True)
        self._thread.start()

    def pull(self) -> None:
        """Out of it, whether it is in or not."""
        if self._socket is None or self._thread is None:
            return
        with suppress(OSError):  # the machine has hung up
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._socket = self._thread = None
        self._trouble = NOT_PLUGGED

    # The glass.

    def glass(self) -> Glass:
        """What stands on it now; nobody's eye is so fast as to see a half of what is shown at
        once."""
        with self._changed:
            self._changed.wait_for(lambda: not self._adapter.is_underway, TRANSACTION_SECONDS)
            return self._plate.glass()

    def wait_for(self, what: str | Callable[[Glass], bool], timeout: float) -> Glass:
        """Until a text stands in one of its lines, or until that is true of the glass; which it
        then was.  Raises PanelTrouble after `timeout` seconds."""

        def look() -> Glass | None:
            glass = self._plate.glass()
            if isinstance(what, str):
                is_so = any(what in line for line in glass.lines)
            else:
                is_so = what(glass)
            return glass if is_so and not self._adapter.is_underway else None

        return self._wait(look, timeout, repr(what))

    # The keys.

    def press(self, key: Key) -> None:
        """A finger goes down on it and up again; and once more if the machine, which had other
        things to do, cannot have seen it."""
        ends = monotonic() + PATIENCE_SECONDS
        while not self._push(key, TAP_SECONDS, SETTLED_SECONDS):
            if monotonic() > ends:
                raise PanelTrouble(f"no {A_LOOK}: only now and then")

    def hold(self, key: Key, seconds: float) -> None:
        """So long at least.  Raises PanelTrouble if the machine does not watch all the while:
        then it takes the key for let go."""
        if not self._push(key, seconds, seconds):
            raise PanelTrouble(f"no {A_LOOK} for a while, with {key.value} held")

    def stick(self, key: Key) -> None:
        """It goes down for good."""
        with self._changed:
            self._plate.stick(key)

    # Accidents.

    @contextmanager
    def silent(self) -> Iterator[None]:
        """The wires between adapter and plate are broken: nobody acknowledges."""
        with self._changed:
            self._plate.is_silent = True
        try:
            yield
        finally:
            with self._changed:
                self._plate.is_silent = False

    def blink(self) -> None:
        """The plate, not its adapter, is without power for a moment."""
        with self._changed:
            self._plate.power_off()
            self._plate.power_on()

    # ---

    def _push(self, key: Key, seconds: float, needed: float) -> bool:
        """Hold it so long; whether the machine watched it for as long as is needed, and before."""
        plate, start = self._plate, monotonic()

        def watched(since: float, seconds: float) -> bool:
            # What was read is looked at some time before the next reading.
            return plate.read_at - max(since, plate.watched_since) >= seconds + plate.slowest

        # A key that was never seen up is not believed to be down.
        self._look(lambda: watched(start, TAP_SECONDS))
        with self._changed:
            since, down = plate.watched_since, monotonic()
            plate.press(key)
        try:
            self._look(lambda: watched(down, seconds) or plate.watched_since > since, seconds)
        finally:
            with self._changed:
                plate.release(key)
        return plate.watched_since == since or plate.watched_until - down >= needed

    def _look(self, seen: Callable[[], bool], seconds: float = 0.0) -> None:
        """Until the machine has read the keys so that this is true."""
        self._wait(lambda: seen() or None, seconds + PATIENCE_SECONDS, A_LOOK)

    def _wait(self, look: Callable[[], Found | None], timeout: float, what: str) -> Found:
        end = monotonic() + timeout
        with self._changed:
            while (found := look()) is None:
                left = end - monotonic()
                if left <= 0 or self._trouble:
                    reason = self._trouble or f"not within {timeout:.0f} s"
                    raise PanelTrouble(f"no {what}: {reason}; it shows {self._plate.glass()}")
                self._changed.wait(left)
            return found

    def _serve(self, link: socket.socket) -> None:
        connection = Connection(self._adapter)
        trouble = "the machine has hung up"
        try:
            link.sendall(connection.start())
            while received := link.recv(RECEIVED_MAXIMUM):
                with self._changed:
                    answers = connection.receive(received)
                    self._changed.notify_all()
                link.sendall(answers)
        except ProtocolError as error:
            trouble = str(error)
        except OSError as error:
            trouble = f"the machine has hung up: {error.strerror}"
        with self._changed:
            self._plate.power_off()
            self._trouble = trouble
            self._changed.notify_all()
