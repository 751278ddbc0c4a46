"""Range locks: host writes that must wait while the appliance looks at their bytes."""

from collections.abc import Callable
from errno import EIO

from appliance.cdp.interfaces import HostRequest


class RangeLocks:
    """Bytes that are locked, and the writes that wait for them, in their order."""

    def __init__(self) -> None:
        self.locked: list[tuple[int, int]] = []
        """First byte and end of each."""
        self._waiting: list[tuple[HostRequest, bytes | None]] = []

    def lock(self, offset: int, length: int) -> None:
        self.locked.append((offset, offset + length))

    def unlock(self, offset: int, length: int, write: Callable[[HostRequest], None]) -> None:
        """Give the bytes free; what waited is written anew, which may have to wait again."""
        self.locked.remove((offset, offset + length))
        waiting, self._waiting = self._waiting, []
        for request, data in waiting:
            request.data = data
            write(request)

    def covers(self, request: HostRequest) -> bool:
        """Are all of its bytes locked, by one lock?"""
        first, end = request.offset, request.offset + request.length
        return any(low <= first and end <= high for low, high in self.locked)

    def holds_back(self, request: HostRequest) -> bool:
        """Keep a write that touches locked bytes, or one that is kept already; False if it may go.

        Its data is copied.
        """
        first, end = request.offset, request.offset + request.length
        if not any(low < end and first < high for low, high in self.locked):
            # Of two overlapping writes the one that came first stays the first.
            waiting = (other for other, _ in self._waiting)
            if not any(o.offset < end and first < o.offset + o.length for o in waiting):
                return False
        kept = None if request.data is None else bytes(request.data)
        self._waiting.append((request, kept))
        return True

    def refuse_all(self) -> None:
        """What waits fails with EIO."""
        waiting, self._waiting = self._waiting, []
        for request, _ in waiting:
            request.error = EIO
            request.done(request)
