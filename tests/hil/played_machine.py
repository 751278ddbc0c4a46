"""The other end of the panel's socket, played: QEMU's `usb-redir` device, and above it the kernel's
drivers that make an I2C bus of i2c-tiny-usb.

Written from the protocol's description and from the kernel's source, and with nothing of the room
that it tests.
"""

import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from errno import EIO, ENXIO
from pathlib import Path
from threading import Condition, Event, Thread
from time import monotonic
from typing import Final

from smbus2 import i2c_msg

from appliance.boards import Board
from appliance.drivers.front_panel import FrontPanel
from appliance.glass import DARK
from appliance.operators.panel.keypad import WATCH_SECONDS, Edge, Keypad

EVERY_CAPABILITY: Final = 0xFF
CONTROL: Final = 100
DEVICE_CONNECT: Final = 1
VENDOR_OUT, VENDOR_IN = 0x41, 0xC1
"""Vendor's, of the interface."""
GET_STATUS, MESSAGE, BEGIN, END = 3, 4, 1, 2
NOT_ACKNOWLEDGED: Final = 2

STALL_SECONDS: Final = WATCH_SECONDS + 0.1

Exchange = Callable[[bytes], bytes]
"""Sends this, and brings what is there then; nothing was sent if it is empty."""


class UsbHost:
    """What QEMU does: packets of control transfers, and their answers."""

    def __init__(self, exchange: Exchange, capabilities: int = EVERY_CAPABILITY) -> None:
        self._exchange = exchange
        self._buffer = b""
        self._header = struct.Struct("<III")
        self._number = 0
        body = struct.pack("<64sI", b"a played machine", capabilities)
        self._send(0, body)
        kind, _, theirs = self.packet()
        assert (kind, len(theirs)) == (0, 68)
        if capabilities & struct.unpack_from("<I", theirs, 64)[0] & 1 << 5:
            self._header = struct.Struct("<IIQ")
        self.announced = [self.packet()]
        """What came behind the hello, up to the device itself."""
        while self.announced[-1][0] != DEVICE_CONNECT:
            self.announced.append(self.packet())

    def ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """A packet, and type and body of the answer, which carries the same id."""
        self._number += 48
        self._send(kind, body)
        answer, number, theirs = self.packet()
        assert number == self._number
        return answer, theirs

    def control(
        self, request_type: int, request: int, value: int, index: int, data: bytes | int
    ) -> tuple[int, bytes]:
        """Its status, and what it brought; `data` is what is sent or how much is asked for."""
        endpoint = request_type & 0x80
        length = data if isinstance(data, int) else len(data)
        header = struct.pack(
            "<BBBBHHH", endpoint, request, request_type, 0x62, value, index, length
        )
        kind, body = self.ask(CONTROL, header + (b"" if isinstance(data, int) else data))
        assert kind == CONTROL
        fields = struct.unpack_from("<BBBBHHH", body)
        assert fields[:3] == (endpoint, request, request_type)
        assert fields[4:6] == (value, index)
        brought = body[10:]
        assert len(brought) == (fields[6] if endpoint else 0)
        return fields[3], brought

    def packet(self) -> tuple[int, int, bytes]:
        """The next that came: type, id, body."""
        while len(self._buffer) < self._header.size:
            self._more()
        kind, length, number = self._header.unpack_from(self._buffer)
        end = self._header.size + length
        while len(self._buffer) < end:
            self._more()
        body, self._buffer = self._buffer[self._header.size : end], self._buffer[end:]
        return kind, number, body

    def _more(self) -> None:
        more = self._exchange(b"")
        if not more:
            raise ConnectionError("nothing comes any more")
        self._buffer += more

    def _send(self, kind: int, body: bytes) -> None:
        self._buffer += self._exchange(self._header.pack(kind, len(body), self._number) + body)


class KernelBus:
    """What the kernel's driver makes of it: implements `appliance.drivers.i2c_bus.Bus`."""

    def __init__(self, host: UsbHost) -> None:
        self._host = host

    def i2c_rdwr(self, *i2c_msgs: i2c_msg) -> None:
        for number, message in enumerate(i2c_msgs):
            request = MESSAGE
            request |= BEGIN if number == 0 else 0
            request |= END if number == len(i2c_msgs) - 1 else 0
            if message.flags & 1:
                brought = self._transfer(VENDOR_IN, request, message, message.len)
                if len(brought) != message.len:
                    raise OSError(EIO, "a short answer")
                for place, value in enumerate(brought):
                    message.buf[place] = value
            else:
                self._transfer(VENDOR_OUT, request, message, bytes(message))
            failed, status = self._host.control(VENDOR_IN, GET_STATUS, 0, 0, 1)
            if failed or len(status) != 1:
                raise OSError(EIO, "no status")
            if status[0] == NOT_ACKNOWLEDGED:
                raise OSError(ENXIO, os.strerror(ENXIO))

    def _transfer(
        self, request_type: int, request: int, message: i2c_msg, data: bytes | int
    ) -> bytes:
        failed, brought = self._host.control(
            request_type, request, message.flags, message.addr, data
        )
        if failed:
            raise OSError(EIO, "a failed transfer")
        return brought


class PlayedMachine:
    """A machine with a socket for the panel at `path`, and `cdp-panel` in it: it shows `glass`
    and takes down what the keys do."""

    def __init__(self, path: Path, board: Board) -> None:
        self._board = board
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._changed = Condition()
        self._changes: list[Edge] = []
        self.glass = DARK
        self._link: socket.socket | None = None
        self._is_on = True
        self.stalls = 0
        """So often it has other things to do, just as a key goes down."""
        self._stalled = Event()
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def changes(self, count: int, timeout: float = 10.0) -> list[Edge]:
        """The first so many presses and releases, as soon as they are there."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self._changes) >= count, timeout)
            assert enough, self._changes
            return self._changes[:count]

    def switch_off(self) -> None:
        """For good, and whatever is plugged in is told."""
        self._is_on = False
        self._stalled.set()
        for each in (self._listener, self._link):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._listener.close()

    def _serve(self) -> None:
        while self._is_on:
            try:
                self._link, _ = self._listener.accept()
            except OSError:
                return
            with self._link, suppress(ConnectionError):
                self._use(self._link)

    def _use(self, link: socket.socket) -> None:
        driver = FrontPanel(KernelBus(UsbHost(over(link))), self._board)
        keypad = Keypad()
        while self._is_on:
            try:
                driver.show(self.glass)
                keys = driver.keys()
            except ConnectionError:
                raise
            except OSError:
                continue
            if keys and self.stalls:
                self.stalls -= 1
                self._stalled.wait(STALL_SECONDS)
                continue
            with self._changed:
                self._changes += keypad.read(keys, monotonic())
                self._changed.notify_all()


def over(link: socket.socket) -> Exchange:
    def exchange(data: bytes) -> bytes:
        if data:
            link.sendall(data)
            return b""
        return link.recv(65536)

    return exchange
