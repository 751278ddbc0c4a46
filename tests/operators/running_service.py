"""A control server with a fake appliance behind it, on the real loop in a thread of its own."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TypeVar

from appliance.loop import Loop
from appliance.operators.control.server import ControlServer
from tests.operators.fake_appliance import FakeAppliance

T = TypeVar("T")


class RunningService:
    """`socket` is its control socket.  What its thread owns is reached by `on_loop`."""

    def __init__(self, loop: Loop, directory: Path, connections_maximum: int) -> None:
        self.loop = loop
        self.socket = directory / "control.sock"
        self.appliance = FakeAppliance(loop, directory)
        self.finance = self.appliance.finance
        self.server = ControlServer(
            loop, self.socket, self.appliance, connections_maximum=connections_maximum
        )

    def on_loop(self, action: Callable[[], T]) -> T:
        """The result of `action`, run on the loop's thread."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(action())
            except BaseException as error:
                future.set_exception(error)

        self.loop.post_from_thread(run)
        return future.result(timeout=10)


@contextmanager
def running_service(directory: Path, connections_maximum: int = 64) -> Iterator[RunningService]:
    """The service, until the block is left; raises then what a callback let out."""
    errors: list[Exception] = []
    with Loop(on_error=errors.append) as loop:
        service = RunningService(loop, directory, connections_maximum)
        thread = Thread(target=loop.run, name="loop")
        thread.start()
        try:
            yield service
        finally:
            loop.post_from_thread(service.server.close)
            loop.post_from_thread(loop.stop)
            thread.join(timeout=10)
            assert not thread.is_alive()
    if errors:
        raise errors[0]
