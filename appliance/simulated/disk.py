"""A disk as the engine sees it, over a simulated medium.

Invariants (beside those of `medium` and of `appliance.cdp.interfaces.Disk`):

* Nothing happens inside `submit`: every request, a refused one too, completes
  in a later step of the world, in an order that its chooser picks.
* A request that is unaligned, out of range or short of memory is a mistake of
  the engine's and raises AssertionError at once.
* Past its deadline (only a stalled disk gets there), removed or closed, a disk
  is fenced: all its requests complete with an error, their memory stays pinned
  and counts as outstanding until the medium is done with it.  So a write that
  was given up may still reach the medium, later.
* A disk of an ended life does nothing at all.
"""

import os
from collections.abc import Sequence
from errno import ESHUTDOWN, ETIMEDOUT

from appliance.cdp.interfaces import DISCARD, FLUSH, READ, SECTOR, WRITE, ZERO, DiskRequest
from appliance.simulated.medium import KIND_NAMES, Medium
from appliance.simulated.world import World


class Operation:
    """A request that the medium has.  Implements `world.Pending`."""

    __slots__ = ("disk", "request", "covers", "due", "abandoned")

    def __init__(self, disk: "SimulatedDisk", request: DiskRequest, covers: int, due: int) -> None:
        self.disk = disk
        self.request = request
        self.covers = covers
        self.due = due
        self.abandoned = False
        """Its submitter has been told of an error already."""

    def happen(self) -> None:
        request, medium = self.request, self.disk.medium
        error = medium.perform(request, self.covers)
        self.let_go()
        if medium.log_events:
            self.disk.log("fails" if error else "done", request)
        if not self.abandoned:
            request.error = error
            request.done(request)

    def let_go(self) -> None:
        """The memory is the submitter's again."""
        del self.disk.medium.in_flight[self]
        self.disk.outstanding -= 1
        if self.request.buffer is not None:
            self.request.buffer.unpin()

    def __str__(self) -> str:
        request = self.request
        given_up = ", given up" if self.abandoned else ""
        return (
            f"{self.disk.identity.id}: {KIND_NAMES[request.kind]}"
            f" {request.offset:#x}+{request.length:#x}{given_up}"
        )


class SimulatedDisk:
    """One opening of a medium.  Implements `appliance.cdp.interfaces.Disk`.

    Raises OSError ENODEV if the medium has been removed.
    """

    def __init__(self, world: World, medium: Medium, *, deadline_seconds: float = 30.0) -> None:
        medium.opened(self, world)
        self.medium = medium
        self.identity = medium.identity
        self.size = medium.size
        self.logical_block = medium.logical_block
        self.physical_block = medium.physical_block
        self.cheap_zero = medium.cheap_zero
        self.direct = True
        self.outstanding = 0
        self._world = world
        self._deadline_seconds = deadline_seconds
        self._deadline_ns = int(deadline_seconds * 1e9)
        self._watching = False
        self._fence: OSError | None = None

    @property
    def fenced(self) -> bool:
        return self._fence is not None

    def submit(self, requests: Sequence[DiskRequest]) -> None:
        world, medium = self._world, self.medium
        if not world.alive:
            return
        queue = world.pending if medium.held is None else medium.held
        due = world.clock.monotonic_ns() + self._deadline_ns
        for request in requests:
            self._check(request)
            if self._fence is not None:
                self._answer(request, self._fence)
                continue
            self._count(request)
            if request.buffer is not None:
                request.buffer.pins += 1
            operation = Operation(self, request, medium.writes_completed, due)
            medium.in_flight[operation] = None
            self.outstanding += 1
            queue.append(operation)
            if medium.log_events:
                self.log("submit", request)
        if medium.held is not None:
            self.watch_deadline()

    def close(self) -> None:
        self.fence(OSError(ESHUTDOWN, os.strerror(ESHUTDOWN)))

    def reopen(self) -> "SimulatedDisk":
        """A fresh opening of the same medium, in the life that is going on now."""
        return SimulatedDisk(
            self.medium.world, self.medium, deadline_seconds=self._deadline_seconds
        )

    # Called by the medium.

    def fence(self, error: OSError) -> None:
        """Answer everything with that error, from now on; idempotent."""
        if self._fence is None:
            self._fence = error
            for operation in self._operations():
                operation.abandoned = True
                self._answer(operation.request, error)

    def watch_deadline(self) -> None:
        """The medium stalls: fence this disk when its oldest request is past the deadline."""
        if not self._watching:
            oldest = next(iter(self._operations()), None)
            if oldest is not None and self._fence is None:
                self._watching = True
                left = oldest.due - self._world.clock.monotonic_ns()
                self._world.after(max(0, left) / 1e9, self._deadline)

    def log(self, event: str, request: DiskRequest) -> None:
        world = self._world
        word = "durable write" if request.durable else KIND_NAMES[request.kind]
        world.log.append(
            (
                world.clock.monotonic_ns(),
                f"{self.identity.id} {event} {word}",
                request.offset,
                request.length,
            )
        )

    def _deadline(self) -> None:
        self._watching = False
        if self.medium.held is None:
            return
        oldest = next(iter(self._operations()), None)
        if oldest is not None and oldest.due <= self._world.clock.monotonic_ns():
            self.fence(OSError(ETIMEDOUT, os.strerror(ETIMEDOUT)))
        else:
            self.watch_deadline()

    def _operations(self) -> list[Operation]:
        return [operation for operation in self.medium.in_flight if operation.disk is self]

    def _answer(self, request: DiskRequest, error: OSError) -> None:
        request.error = error
        self._world.post(lambda: request.done(request))

    def _check(self, request: DiskRequest) -> None:
        kind, offset, length = request.kind, request.offset, request.length
        if kind == FLUSH:
            return
        wrong = ""
        if kind not in (READ, WRITE, ZERO, DISCARD):
            wrong = "is of no known kind"
        elif offset % self.logical_block or length % self.logical_block or length <= 0:
            wrong = f"is not aligned to {self.logical_block}"
        elif offset < 0 or offset + length > self.size:
            wrong = f"reaches outside the disk of {self.size:#x}"
        elif kind in (READ, WRITE):
            buffer, start = request.buffer, request.start
            if buffer is None:
                wrong = "has no buffer"
            elif start < 0 or start % SECTOR or start + length > buffer.size:
                wrong = f"does not fit its buffer of {buffer.size:#x} at {start:#x}"
        assert not wrong, (
            f"{self.identity.id}: {KIND_NAMES.get(kind, kind)} {offset:#x}+{length:#x} {wrong}"
        )

    def _count(self, request: DiskRequest) -> None:
        counters = self.medium.counters
        kind = request.kind
        if kind == READ:
            counters.reads += 1
            counters.bytes_read += request.length
        elif kind == WRITE:
            counters.writes += 1
            counters.durable_writes += request.durable
            counters.bytes_written += request.length
        elif kind == FLUSH:
            counters.flushes += 1
        else:
            counters.zeros += kind == ZERO
            counters.discards += kind == DISCARD
            counters.bytes_zeroed += request.length
