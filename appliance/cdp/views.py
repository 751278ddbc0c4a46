"""Views: a point in time as a disk of its own, read-only, with nothing copied.

A view reads through an immutable PIT map and holds its point.  When history
needs the room, views are the first to give up: reads fail from then on.
"""

from errno import EINVAL, EIO, EPERM, ESTALE

from appliance.cdp.history import History
from appliance.cdp.interfaces import FLUSH, READ, HostRequest, Post
from appliance.cdp.point_reader import PointReader
from appliance.cdp.points import Point
from appliance.cdp.tasks import Task
from appliance.errors import EbbtideError


class View:
    """One point of one volume, as a `HostTarget`."""

    def __init__(
        self, history: History, reader: PointReader, point: Point, sector: int, post: Post
    ) -> None:
        self.size = history.superblock.volume_size
        self.sector = sector
        self.read_only = True
        self.point = point
        self._history = history
        self._reader = reader
        self._post = post
        self._hold = history.hold(point.write, self._give_up)
        self.given_up = False

    @classmethod
    async def open(cls, history: History, point: Point, sector: int, post: Post) -> "View":
        """Make the PIT map and hold the point."""
        history.chain.check_restorable(point.write, point.text)  # since it was resolved
        return cls(history, await history.reader_of(point), point, sector, post)

    def _give_up(self) -> None:
        self.given_up = True

    def close(self) -> None:
        """Let go of the point; idempotent."""
        self.given_up = True
        self._history.let_go(self._hold)

    def submit(self, request: HostRequest) -> None:
        """READ; FLUSH does nothing; everything else is EPERM."""
        if request.kind == FLUSH:
            self._refuse(request, 0)
        elif request.kind != READ:
            self._refuse(request, EPERM)
        elif self.given_up:
            self._refuse(request, ESTALE)
        elif (
            request.offset % self.sector
            or request.length % self.sector
            or request.offset + request.length > self.size
            or not request.length
        ):
            self._refuse(request, EINVAL)
        else:
            # Zeros are answered without any I/O, and yet not from inside submit.
            self._post.post(lambda: self._start(request))

    def _start(self, request: HostRequest) -> None:
        Task(self._read(request))

    def _refuse(self, request: HostRequest, error: int) -> None:
        request.error = error
        self._post.post(lambda: request.done(request))

    async def _read(self, request: HostRequest) -> None:
        try:
            request.buffer = await self._reader.read(request.offset, request.length)
        except EbbtideError:
            request.error = EIO
        if self.given_up:
            # A fold may have written over the base image while it was read.
            request.error = ESTALE
            request.release()
        request.done(request)
