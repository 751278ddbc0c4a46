"""What the engine needs from outside: a disk, a clock, and a turn of the loop.

The engine (`appliance.cdp`) knows no hardware, socket or screen.  Everything
it touches comes in through the protocols of this module, so that the same code
runs over kernel AIO in the appliance and over played disks in the simulator.

Invariants that every implementation holds and the engine relies on:

* `Disk.submit` never blocks and never calls back.  Completions are delivered
  one by one, on the loop's thread, between two calls into the engine.
* A request completes exactly once.  Requests that are in flight together may
  complete, and reach the medium, in any order.
* A write that completed may still be lost by a power cut until a FLUSH that
  was submitted after its completion has completed, unless it was `durable`.
* A fenced disk (past its deadline, or gone) completes everything with an
  error at once; the memory of what the kernel still holds stays pinned until
  the kernel gives it back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, TypeVar

from appliance.cdp.memory import Buffer
from appliance.cdp.tasks import Completion

T = TypeVar("T")
Data: TypeAlias = memoryview | bytes

READ: Final = 0
WRITE: Final = 1
FLUSH: Final = 2
ZERO: Final = 3
"""The range reads as zeros afterwards; the host's TRIM and WRITE_ZEROES."""
DISCARD: Final = 4
"""The range is not needed any more; what it reads as afterwards is open."""

SECTOR: Final = 512
"""Bytes in the unit of every address on disk, whatever the disk's own sector."""
BLOCK: Final = 4096
"""Bytes in the unit of padding and of comparison."""


@dataclass(frozen=True, slots=True)
class DiskIdentity:
    """Which disk this is, in the words printed on its label.

    `id` is stable across reboots and ports (never a kernel name); `node` is
    where the kernel shows it now.
    """

    id: str
    node: str
    serial: str = ""
    model: str = ""
    wwn: str = ""


class DiskRequest:
    """One operation on one disk.

    `offset` and `length` are bytes and multiples of the disk's logical block.
    `buffer[start:start + length]` is the memory of a READ or WRITE.  A
    `durable` WRITE is on the medium when it completes (FUA).  `done(request)`
    is called once, with `error` set to None or to the `OSError` that says why.
    `owner` belongs to the submitter.
    """

    __slots__ = ("kind", "offset", "length", "buffer", "start", "durable", "done", "error", "owner")

    def __init__(
        self,
        kind: int,
        offset: int,
        length: int,
        buffer: Buffer | None,
        start: int,
        done: "Callable[[DiskRequest], None]",
        durable: bool = False,
        owner: object = None,
    ) -> None:
        self.kind = kind
        self.offset = offset
        self.length = length
        self.buffer = buffer
        self.start = start
        self.durable = durable
        self.done = done
        self.error: OSError | None = None
        self.owner = owner


class Disk(Protocol):
    """A raw disk.  See the module's invariants."""

    identity: DiskIdentity
    size: int
    """Bytes."""
    logical_block: int
    physical_block: int
    cheap_zero: bool
    """ZERO costs the disk next to nothing (an offload, not written zeros)."""
    direct: bool
    """I/O goes past the page cache."""

    @property
    def fenced(self) -> bool:
        """No request will be served any more; reopen the disk to use it again."""
        ...

    @property
    def outstanding(self) -> int:
        """Requests whose memory the kernel still holds, fenced ones included."""
        ...

    def submit(self, requests: Sequence[DiskRequest]) -> None: ...

    def close(self) -> None:
        """Fence the disk, and let go of it once nothing is outstanding."""
        ...


class HostRequest:
    """One operation of a host on a volume or a view.

    `offset` and `length` are bytes.  For a WRITE, `data` is only borrowed: it
    is valid during `submit` and copied there.  A READ that completed without
    error holds its answer in `answer()` until `release()`.  `error` is an
    errno, 0 for success.  `host` is the connection it came over: a failed flush is
    told to each of them.  `cookie` belongs to the host's side; `parts` and
    `number` (its write number) to the engine.
    """

    __slots__ = (
        "kind",
        "offset",
        "length",
        "fua",
        "data",
        "done",
        "cookie",
        "error",
        "buffer",
        "start",
        "host",
        "parts",
        "number",
    )

    def __init__(
        self,
        kind: int,
        offset: int,
        length: int,
        done: "Callable[[HostRequest], None]",
        fua: bool = False,
        data: Data | None = None,
        cookie: int = 0,
        host: object = None,
    ) -> None:
        self.kind = kind
        self.offset = offset
        self.length = length
        self.fua = fua
        self.data = data
        self.done = done
        self.cookie = cookie
        self.host = host
        self.parts = 0
        self.number = 0
        self.error = 0
        self.buffer: Buffer | None = None
        self.start = 0

    def answer(self) -> memoryview:
        """The bytes that a READ brought."""
        assert self.buffer is not None
        return self.buffer.view[self.start : self.start + self.length]

    def release(self) -> None:
        """Give the memory of the answer back; idempotent."""
        buffer, self.buffer = self.buffer, None
        if buffer is not None:
            buffer.release()


class HostTarget(Protocol):
    """What a host connection talks to: a volume, or a view of a point.

    `submit` never blocks; `done` of the request is called later, never from
    inside `submit`.  A request that is unaligned to `sector` or reaches past
    `size` completes with EINVAL (ENOSPC for a write past the end), a write to
    a `read_only` target with EPERM.
    """

    size: int
    sector: int
    """Logical sector: the smallest unit a host may address."""
    read_only: bool

    def submit(self, request: HostRequest) -> None: ...


class Clock(Protocol):
    """Time, twice: what people call it, and what really passed."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC, as the box believes; may step."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment of this boot; never steps back."""
        ...


class Timer(Protocol):
    def cancel(self) -> None: ...


class Post(Protocol):
    """The loop, as its users see it.  All calls but none else on its thread."""

    def post(self, action: Callable[[], None]) -> None:
        """Run `action` in this turn, after the sockets and completions at hand."""
        ...

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Run `action` once, that much later."""
        ...

    def offload(self, work: Callable[[], T]) -> Completion[T]:
        """Run `work` (NumPy and system calls only) beside the loop."""
        ...
