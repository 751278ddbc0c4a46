"""The front panel of the virtual rig, as labgrid has it: see `hil_tests.panel`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar

import attr
from labgrid import target_factory
from labgrid.driver import Driver
from labgrid.step import step

from appliance.boards import read_board
from appliance.glass import Glass, Key
from hil_tests.drivers.protocols import PanelFaultProtocol, PanelProtocol
from hil_tests.drivers.virtual import VirtualBox
from hil_tests.panel.panel import Panel


@target_factory.reg_driver
@attr.s(eq=False)
class VirtualPanel(Driver, PanelProtocol, PanelFaultProtocol):
    """Wired as the file of `board` says; unplugged until a test plugs it in."""

    bindings: ClassVar = {"box": VirtualBox}
    board: str = attr.ib(validator=attr.validators.instance_of(str))

    def on_activate(self) -> None:
        self._panel = self._new()

    def on_deactivate(self) -> None:
        self._panel.pull()

    def _new(self) -> Panel:
        return Panel(self.box.machine.panel_socket, read_board(self.board))

    @step()
    def plug(self) -> None:
        """One as new: what has stuck to the last one is gone with it."""
        self._panel.pull()
        self._panel = self._new()
        self._panel.plug()

    @step()
    def pull(self) -> None:
        self._panel.pull()

    def glass(self) -> Glass:
        return self._panel.glass()

    @step(args=["what", "timeout"], result=True)
    def wait_for(self, what: str | Callable[[Glass], bool], timeout: float) -> Glass:
        return self._panel.wait_for(what, timeout)

    @step(args=["key"])
    def press(self, key: Key) -> None:
        self._panel.press(key)

    @step(args=["key", "seconds"])
    def hold(self, key: Key, seconds: float) -> None:
        self._panel.hold(key, seconds)

    def silent(self) -> AbstractContextManager[None]:
        return self._panel.silent()

    @step()
    def blink(self) -> None:
        self._panel.blink()

    @step(args=["key"])
    def stick(self, key: Key) -> None:
        self._panel.stick(key)
