"""A serial line that is recorded whole, whether somebody listens or not."""

import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import attr
from labgrid import target_factory
from labgrid.driver import Driver
from labgrid.driver.consoleexpectmixin import ConsoleExpectMixin
from labgrid.protocol import ConsoleProtocol
from pexpect import TIMEOUT


@target_factory.reg_driver
@attr.s(eq=False)
class RecordedLine(ConsoleExpectMixin, Driver, ConsoleProtocol):
    """Over any labgrid console, whose bytes it takes as they come.

    `directory` gets a file named for this driver, from the rig's settings file.
    """

    bindings: ClassVar = {"port": ConsoleProtocol}
    directory: str = attr.ib(default="../../build/hil/lines")
    txdelay: float = attr.ib(default=0.0)
    txchunk: int = attr.ib(default=1)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._news = threading.Condition()
        self._unread = bytearray()
        self._ends = threading.Event()
        self._recorder: threading.Thread | None = None
        where = Path(self.target.env.config.resolve_path(self.directory))
        where.mkdir(parents=True, exist_ok=True)
        self.path = where / f"{self.name}.txt"
        self.path.write_bytes(b"")
        self.length = 0

    def on_activate(self) -> None:
        self._ends.clear()
        self._recorder = threading.Thread(target=self._record, name=f"line {self.name}")
        self._recorder.start()

    def on_deactivate(self) -> None:
        self._ends.set()
        if self._recorder is not None:
            self._recorder.join()
            self._recorder = None

    def since(self, mark: int) -> bytes:
        """What came after the first `mark` bytes."""
        with self.path.open("rb") as stream:
            stream.seek(mark)
            return stream.read()

    def forget(self) -> None:
        """What nobody has read so far, nobody waits for any more."""
        with self._news:
            self._unread.clear()
            self._expect.buffer = b""

    def _record(self) -> None:
        with self.path.open("ab", buffering=0) as stream:
            while not self._ends.is_set():
                try:
                    data = self.port._read(size=1, timeout=0.2, max_size=4096)
                except TIMEOUT:
                    continue
                stream.write(data)
                with self._news:
                    self._unread += data
                    self.length += len(data)
                    self._news.notify_all()

    def _read(
        self,
        size: int = 1,  # noqa: ARG002 -- part of what labgrid calls
        timeout: float = 0,
        max_size: int | None = None,
    ) -> bytes:
        ends = time.monotonic() + timeout
        with self._news:
            while not self._unread:
                left = ends - time.monotonic()
                if left <= 0 or not self._news.wait(left):
                    raise TIMEOUT(f"nothing on line {self.name} for {timeout:.2f} s")
            data = bytes(self._unread[: max_size or len(self._unread)])
            del self._unread[: len(data)]
        return data

    def _write(self, data: bytes) -> Any:
        return self.port._write(data)
