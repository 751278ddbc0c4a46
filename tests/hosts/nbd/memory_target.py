"""A target in memory, and a source of exports made of such targets."""

import errno
from collections import Counter
from collections.abc import Callable

from appliance.cdp.interfaces import DISCARD, FLUSH, READ, WRITE, ZERO, HostRequest
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.tasks import Completion
from appliance.errors import VolumeNotFound, VolumeNotReady
from appliance.hosts.nbd.exports import Export

CHANGES = {WRITE, ZERO, DISCARD}


class CountingPool(BufferPool):
    """Knows how much is out."""

    def __init__(self) -> None:
        super().__init__(keep=0)
        self.out = 0
        self.most = 0

    def get(self, size: int) -> Buffer:
        buffer = super().get(size)
        self.out += buffer.size
        self.most = max(self.most, self.out)
        return buffer

    def put(self, buffer: Buffer) -> None:
        self.out -= buffer.size
        super().put(buffer)


class MemoryTarget:
    """Does what is asked at once, and says so when `deliver` is called.

    With `post` it delivers by itself, in a later action of the loop.
    `fail_with` is the errno of everything from now on.
    """

    def __init__(
        self,
        size: int = 1 << 20,
        sector: int = 512,
        read_only: bool = False,
        post: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.size = size
        self.sector = sector
        self.read_only = read_only
        self.bytes = bytearray(size)
        self.pool = CountingPool()
        self.pending: list[HostRequest] = []
        self.fail_with = 0
        self.submitted: Counter[int] = Counter()
        self.fua: Counter[int] = Counter()
        self.most_pending = 0
        self._post = post

    def submit(self, request: HostRequest) -> None:
        request.error = self._do(request)
        request.data = None
        self.submitted[request.kind] += 1
        self.fua[request.kind] += request.fua
        if self._post is not None and not self.pending:
            self._post(self._deliver_posted)
        self.pending.append(request)
        self.most_pending = max(self.most_pending, len(self.pending))

    def deliver(self, order: Callable[[list[HostRequest]], None] | None = None) -> int:
        """Complete what is pending, in the order that `order` sorts it into."""
        pending, self.pending = self.pending, []
        if order is not None:
            order(pending)
        for request in pending:
            request.done(request)
        return len(pending)

    def _deliver_posted(self) -> None:
        self.deliver()

    def _do(self, request: HostRequest) -> int:
        kind, start, stop = request.kind, request.offset, request.offset + request.length
        if self.fail_with:
            return self.fail_with
        if kind in CHANGES and self.read_only:
            return errno.EPERM
        if start % self.sector or stop % self.sector:
            return errno.EINVAL
        if stop > self.size:
            return errno.ENOSPC if kind in CHANGES else errno.EINVAL
        if kind == WRITE:
            assert request.data is not None
            self.bytes[start:stop] = request.data
        elif kind == READ:
            request.buffer = self.pool.get(request.length)
            request.buffer.view[: request.length] = self.bytes[start:stop]
        elif kind in {ZERO, DISCARD}:
            self.bytes[start:stop] = bytes(request.length)
        else:
            assert kind == FLUSH
            assert (start, stop) == (0, 0)
        return 0


class PlayedSource:
    """Exports by name, opened at once or, with `slow`, when the test says so."""

    def __init__(self, *targets: tuple[str, MemoryTarget], slow: bool = False) -> None:
        self.targets = dict(targets)
        self.slow = slow
        self.opening: list[tuple[str, Completion[Export]]] = []
        self.opened: Counter[str] = Counter()
        self.connected: Counter[str] = Counter()
        self.not_ready: set[str] = set()
        """Names that take no new connection."""

    def names(self) -> list[tuple[str, str]]:
        return [(name, f"the {name} volume") for name in self.targets]

    def check(self, name: str) -> None:
        if name in self.not_ready:
            raise VolumeNotReady(volume=name, state="offline", reason="for now")

    def open(self, name: str) -> Completion[Export]:
        completion: Completion[Export] = Completion()
        self.opened[name] += 1
        self.opening.append((name, completion))
        if not self.slow:
            self.finish_opening()
        return completion

    def finish_opening(self) -> None:
        opening, self.opening = self.opening, []
        for name, completion in opening:
            target = self.targets.get(name)
            if target is None:
                completion.fail(VolumeNotFound(volume=name))
            else:
                completion.succeed(self._export(name, target))

    def _export(self, name: str, target: MemoryTarget) -> Export:
        def count(change: int) -> None:
            self.connected[name] += change

        return Export(
            name,
            f"the {name} volume",
            target,
            on_open=lambda: count(1),
            on_close=lambda: count(-1),
        )
