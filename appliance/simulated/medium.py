"""The platters of a simulated disk: what lasts, what a cache may lose, what can go wrong.

A `Medium` is the disk as a thing that can be pulled, stalled and carried into
the next life; a `SimulatedDisk` is one opening of it by the service.

Invariants:

* Reads see every write that completed.  A completed write stays volatile until
  a FLUSH that was submitted after its completion has completed, unless it was
  durable itself.
* Losing power keeps what was durable.  Of every volatile write, and of every
  write in flight, the medium gets nothing, all, or with torn writes any part
  in whole sectors (a logical block is never torn); where such writes overlap,
  they land in any order.
* A durable write wins over volatile ones that it overtook: they never
  reappear over it.
* A write that fails leaves its range in any mixture of old and new sectors.
  A bad sector fails reads until it is written again.
* A new life finds a disk that neither stalls nor has failures to come; bad
  sectors, the cache after a kill, and its absence if it was removed, stay.
* Memory is read when a write reaches the medium and not when it is submitted,
  so a submitter that reuses memory under I/O is found out.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from errno import EIO, ENODEV
from typing import TYPE_CHECKING, Final

from appliance.cdp.interfaces import (
    DISCARD,
    FLUSH,
    READ,
    SECTOR,
    WRITE,
    ZERO,
    DiskIdentity,
    DiskRequest,
)
from appliance.simulated.choices import Chooser
from appliance.simulated.counters import Counters
from appliance.simulated.loss import any_order, survivor
from appliance.simulated.world import World

if TYPE_CHECKING:
    from appliance.simulated.disk import Operation, SimulatedDisk

KIND_NAMES: Final = {
    READ: "read",
    WRITE: "write",
    FLUSH: "flush",
    ZERO: "zero",
    DISCARD: "discard",
}


class _Volatile:
    """A completed write that a power cut may still undo."""

    __slots__ = ("number", "offset", "end", "old", "new")

    def __init__(self, number: int, offset: int, end: int, old: bytes, new: bytes) -> None:
        self.number = number
        self.offset = offset
        self.end = end
        self.old = old
        self.new = new


class Medium:
    """`size` bytes, zeros at first, with a write cache.  Implements `world.Player`.

    `log_events` keeps every submission and completion in the story of the world.
    """

    def __init__(
        self,
        id: str,
        size: int,
        *,
        logical_block: int = SECTOR,
        physical_block: int = 4096,
        cheap_zero: bool = True,
        log_events: bool = True,
    ) -> None:
        assert logical_block in (512, 4096), f"no disk has {logical_block}-byte blocks"
        assert size > 0, "a disk has a size"
        assert size % logical_block == 0, f"{size} bytes are not whole blocks"
        self.identity = DiskIdentity(id, f"/simulated/{id}", serial=f"SIM-{id}", model="Simulated")
        self.size = size
        self.logical_block = logical_block
        self.physical_block = max(physical_block, logical_block)
        self.cheap_zero = cheap_zero
        self.log_events = log_events
        self.counters = Counters()
        self.present = True
        self.contents = bytearray(size)
        """What reads see.  Tests may look at it, and may change it while nothing is volatile."""
        self.view = memoryview(self.contents)
        self.bad_sectors: set[int] = set()
        """Addresses, in 512-byte units, that cannot be read until they are written."""
        self.in_flight: dict[Operation, None] = {}
        """Requests that the disk has and has not finished, in order of submission."""
        self.held: list[Operation] | None = None
        """Where requests wait while the disk stalls."""
        self.volatile: deque[_Volatile] = deque()
        self.writes_completed = 0
        self._faults: dict[int, deque[int]] = {}
        self._cache_lost: Callable[[], None] | None = None
        self._handles: list[SimulatedDisk] = []
        self._world: World | None = None

    @property
    def world(self) -> World:
        """The life that is going on."""
        assert self._world is not None, "no disk has been opened over this medium yet"
        return self._world

    # What a test does to the disk.

    def fail_next(self, kind: int, error: int, count: int = 1) -> None:
        """The next `count` completions of that kind fail with that errno."""
        self._faults.setdefault(kind, deque()).extend([error] * count)

    def change_behind(self, offset: int, data: bytes) -> None:
        """What lies there changes past the service and the cache: a bad cable, or somebody else."""
        self._write_durably(offset, data)

    def lose_cache_on_failed_flush(self, lost: Callable[[], None] = lambda: None) -> None:
        """From now on, a FLUSH that fails also loses what was volatile, wholly or in part;
        `lost` is called whenever that happens."""
        self._cache_lost = lost

    def stall(self) -> None:
        """Nothing completes any more, until `release`."""
        if self.held is None:
            self.world.note(f"{self.identity.id} stalls")
            self.held = list(self.in_flight)
            ours = set(self.held)
            pending = self.world.pending
            pending[:] = [event for event in pending if event not in ours]
            for handle in self._handles:
                handle.watch_deadline()

    def release(self) -> None:
        """The stalled disk goes on, with everything it was given meanwhile."""
        if self.held is not None:
            self.world.note(f"{self.identity.id} goes on")
            self.world.pending.extend(self.held)
            self.held = None

    def remove(self) -> None:
        """The disk is pulled: its cache is lost, and all that was open on it is gone."""
        world = self.world
        world.note(f"{self.identity.id} is removed")
        self.release()
        operations = list(self.in_flight)
        gone = set(operations)
        world.pending[:] = [event for event in world.pending if event not in gone]
        self._lose_power(operations, world.choose, world.torn_writes)
        for handle in self._handles:
            handle.fence(OSError(ENODEV, os.strerror(ENODEV)))
        for operation in operations:
            operation.let_go()
        self.present = False

    def replug(self) -> None:
        """The disk is back; open it with `reopen` of any earlier opening."""
        self.present = True

    # What the disk does.

    def opened(self, handle: "SimulatedDisk", world: World) -> None:
        """Called by every new opening."""
        if not self.present:
            raise OSError(ENODEV, os.strerror(ENODEV))
        if self not in world.players:
            world.players.append(self)
        self._world = world
        self._handles.append(handle)

    def perform(self, request: DiskRequest, covers: int) -> OSError | None:
        """One request reaches the medium; `covers` is what `writes_completed` was when it was
        submitted.  Gives the error that it completes with."""
        faults = self._faults.get(request.kind)
        if faults:
            return self._fail(request, faults.popleft())
        offset, length = request.offset, request.length
        if request.kind == READ:
            if self.bad_sectors and self._bad(offset, length):
                return OSError(EIO, f"{self.identity.id}: bad sector")
            assert request.buffer is not None
            start = request.start
            request.buffer.view[start : start + length] = self.view[offset : offset + length]
        elif request.kind == FLUSH:
            volatile = self.volatile
            while volatile and volatile[0].number <= covers:
                volatile.popleft()
        else:
            data = self._data(request)
            if data is None:
                return None
            if self.bad_sectors:
                self.bad_sectors -= self._bad(offset, length)
            if request.durable:
                self._write_durably(offset, data)
            else:
                self._write(offset, data)
        return None

    def power_lost(self, choose: Chooser, torn_writes: bool) -> None:
        self._lose_power(list(self.in_flight), choose, torn_writes)

    def service_killed(self, choose: Chooser) -> None:
        survivors: list[tuple[int, bytes]] = []
        for operation in self.in_flight:
            request = operation.request
            if request.kind in (WRITE, ZERO, DISCARD) and choose(2):
                data = self._data(request)
                if data is not None:
                    survivors.append((request.offset, data))
        for offset, data in any_order(survivors, choose):
            self._write(offset, data)

    def enter(self, world: World) -> None:
        self._world = world
        self.in_flight.clear()
        self.held = None
        self._handles.clear()
        self._faults.clear()

    def waiting(self) -> list[str]:
        return [f"{operation} (stalled)" for operation in self.held or ()]

    def _data(self, request: DiskRequest) -> bytes | None:
        """What a write puts there; None for a DISCARD that the disk ignores."""
        if request.kind == WRITE:
            assert request.buffer is not None
            return bytes(request.buffer.view[request.start : request.start + request.length])
        if request.kind == DISCARD:
            effect = self.world.choose(3)
            return (None, bytes(request.length), b"\xdb" * request.length)[effect]
        return bytes(request.length)

    def _bad(self, offset: int, length: int) -> set[int]:
        sectors = range(offset // SECTOR, (offset + length) // SECTOR)
        return {sector for sector in self.bad_sectors if sector in sectors}

    def _fail(self, request: DiskRequest, error: int) -> OSError:
        world = self.world
        if request.kind in (WRITE, ZERO):
            before = bytes(self.view[request.offset : request.offset + request.length])
            data = self._data(request)
            assert data is not None
            after = survivor(before, data, self.logical_block, world.choose, world.torn_writes)
            if after is not before:
                self._write(request.offset, bytes(after))
        elif request.kind == FLUSH and self._cache_lost is not None:
            self._lose_power([], world.choose, world.torn_writes)
            self._cache_lost()
        return OSError(error, f"{self.identity.id}: {os.strerror(error)} (played)")

    def _write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        self.writes_completed += 1
        old = bytes(self.view[offset:end])
        self.volatile.append(_Volatile(self.writes_completed, offset, end, old, data))
        self.contents[offset:end] = data

    def _write_durably(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        for entry in self.volatile:
            low, high = max(offset, entry.offset), min(end, entry.end)
            if low < high:  # the older write is overtaken there, whichever way it is looked at
                head, tail = low - entry.offset, high - entry.offset
                settled = data[low - offset : high - offset]
                entry.old = entry.old[:head] + settled + entry.old[tail:]
                entry.new = entry.new[:head] + settled + entry.new[tail:]
        self.contents[offset:end] = data

    def _lose_power(
        self, in_flight: "Sequence[Operation]", choose: Chooser, torn_writes: bool
    ) -> None:
        caught: list[tuple[int, bytes]] = []
        for operation in in_flight:
            if operation.request.kind in (WRITE, ZERO, DISCARD):
                data = self._data(operation.request)
                if data is not None:
                    caught.append((operation.request.offset, data))
        while self.volatile:
            entry = self.volatile.pop()
            self.contents[entry.offset : entry.end] = entry.old
            caught.append((entry.offset, entry.new))
        for offset, data in any_order(caught, choose):
            end = offset + len(data)
            before = self.contents[offset:end]
            after = survivor(before, data, self.logical_block, choose, torn_writes)
            if after is not before:
                self.contents[offset:end] = after
