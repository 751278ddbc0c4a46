"""Linux's own asynchronous I/O, as far as a disk needs it: a batch in, completions out.

Requests are packed side by side into one array and given to the kernel in one
system call; the kernel copies them, so the array is free again at once.  An
eventfd tells of completions.  See io_submit(2), io_getevents(2) and
linux/aio_abi.h for the structures.

The hot calls are made without letting go of Python's global lock: they take
microseconds, and another thread that took the lock meanwhile could keep it for
five milliseconds.  That holds only as long as io_submit does not wait, which it
does when the block layer's queue is full: whoever submits must stay below that.
"""

import ctypes
import math
import os
import platform
import struct
from typing import Final

READ: Final = 0
WRITE: Final = 1
FLUSH: Final = 3
"""IOCB_CMD_FDSYNC: data, and whatever is needed to read it back."""

_RWF_DSYNC: Final = 2
_IOCB_FLAG_RESFD: Final = 1
_REQUEST: Final = struct.Struct("<QIIHhIQQqQII")
"""struct iocb: data, key, rw_flags, opcode, priority, descriptor, memory, bytes, offset,
reserved, flags, eventfd."""
_EVENT: Final = struct.Struct("<Q8xq8x")
"""struct io_event: data, (the request's address), result, (never used)."""

_SYSTEM_CALLS: Final = {
    # machine: io_setup, io_destroy, io_getevents, io_submit
    "x86_64": (206, 207, 208, 209),
    "aarch64": (0, 1, 4, 2),
    "riscv64": (0, 1, 4, 2),
}

_call = ctypes.PyDLL(None, use_errno=True).syscall
_call_that_waits = ctypes.CDLL(None, use_errno=True).syscall
for _function in (_call, _call_that_waits):
    _function.restype = ctypes.c_long


class Batch:
    """Requests that go to the kernel together, side by side in `memory`."""

    __slots__ = ("tokens", "given", "_memory", "_eventfd")

    def __init__(self, memory: "ctypes.Array[ctypes.c_char]", eventfd: int) -> None:
        self.tokens: list[int] = []
        self.given = math.inf
        """When they went (monotonic seconds)."""
        self._memory = memory
        self._eventfd = eventfd

    def add(
        self,
        token: int,
        opcode: int,
        fd: int,
        address: int,
        length: int,
        offset: int,
        durable: bool,
    ) -> None:
        """Add a request.

        `token` comes back with its completion.  `address` and `length` (bytes)
        tell the memory, `offset` the place on the disk; all 0 for a FLUSH.
        """
        tokens = self.tokens
        _REQUEST.pack_into(
            self._memory,
            len(tokens) * 64,
            token,
            0,
            _RWF_DSYNC if durable else 0,
            opcode,
            0,
            fd,
            address,
            length,
            offset,
            0,
            _IOCB_FLAG_RESFD,
            self._eventfd,
        )
        tokens.append(token)


class KernelAio:
    """One kernel queue of at most `slots` requests in flight, told of through `eventfd`."""

    def __init__(self, slots: int, eventfd: int) -> None:
        """Raises OSError: EAGAIN when the machine's fs.aio-max-nr is used up."""
        setup, destroy, getevents, submit = _SYSTEM_CALLS[platform.machine()]
        self._eventfd = eventfd
        self._requests = ctypes.create_string_buffer(_REQUEST.size * slots)
        self._requests_at = ctypes.addressof(self._requests)
        every = range(self._requests_at, self._requests_at + _REQUEST.size * slots, _REQUEST.size)
        self._pointers = (ctypes.c_uint64 * slots)(*every)
        self._events = ctypes.create_string_buffer(_EVENT.size * slots)
        self._events_view = memoryview(self._events)
        context = ctypes.c_ulong(0)
        if _call(*_words(setup, slots, ctypes.addressof(context))) < 0:
            raise _last_error()
        self._destroy = _words(destroy, context.value)
        # Arguments of the hot calls, made once: that is half of the time of a call.
        self._ask = _words(getevents, context.value, 0, slots, ctypes.addressof(self._events), 0)
        self._pointers_at = ctypes.addressof(self._pointers)
        self._give = _words(submit, context.value, 0, self._pointers_at)

    def batch(self) -> Batch:
        """The next batch, once the one before has been submitted."""
        return Batch(self._requests, self._eventfd)

    def submit(self, first: int, count: int) -> int:
        """Give requests `first` to `first + count` of the batch to the kernel; how many it took.

        Raises OSError if it did not even take the first.
        """
        _, _, how_many, which = self._give
        how_many.value, which.value = count, self._pointers_at + 8 * first
        taken: int = _call(*self._give)
        if taken < 0:
            raise _last_error()
        return taken

    def completions(self) -> list[tuple[int, int]]:
        """Token and result of what has completed: bytes moved, or an errno below zero."""
        count: int = _call(*self._ask)
        if count < 0:
            raise _last_error()
        return list(_EVENT.iter_unpack(self._events_view[: count * _EVENT.size]))

    def destroy(self) -> None:
        """Give the queue back; takes tens of milliseconds, and waits for whatever is in flight.

        Any thread may call it.
        """
        if _call_that_waits(*self._destroy) < 0:
            raise _last_error()


def _words(*numbers: int) -> tuple[ctypes.c_ulong, ...]:
    """Arguments of a system call, each as wide as a register."""
    return tuple(map(ctypes.c_ulong, numbers))


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
