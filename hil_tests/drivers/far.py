"""The far machine of the virtual rig: a second machine of the same image, with a cable to the box.

It is a target of its own in the rig's settings file, made of the same drivers as the box; what
hangs on the box is the cable.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import attr
from labgrid import target_factory
from labgrid.driver import Driver
from labgrid.protocol import CommandProtocol, ConsoleProtocol
from labgrid.step import step

from hil_tests.drivers.protocols import FarMachineProtocol
from hil_tests.drivers.recorded import RecordedLine
from hil_tests.drivers.virtual import VirtualBay, VirtualBox
from hil_tests.rig.cable import Cable
from hil_tests.rig.settings import BOX_CARD, FAR_CARD

_IDLE = "cdpd cdp-panel cdp-exporter cdp-console@ttyS1"
"""What it has as a box, and is only in the way."""


@target_factory.reg_driver
@attr.s(eq=False)
class VirtualFarMachine(Driver, FarMachineProtocol):
    """The machine of the target `far`, whose disk is in its only bay."""

    bindings: ClassVar = {"box": VirtualBox}
    far: str = attr.ib(default="far", validator=attr.validators.instance_of(str))
    address = FAR_CARD.address
    box_address = BOX_CARD.address

    def on_activate(self) -> None:
        self._target = self.target.env.get_target(self.far)
        self._machine = self._target.get_driver(VirtualBox)
        self._shell = self._target.get_driver(CommandProtocol, activate=False)
        bay = self._target.get_driver(VirtualBay)
        self.disk = f"/dev/disk/by-id/wwn-0x{bay.disk.wwn:016x}"

    @property
    def lines(self) -> Sequence[Any]:
        return [each for each in self._target.drivers if isinstance(each, RecordedLine)]

    @step()
    def start(self) -> None:
        for line in self.lines:
            self._target.activate(line)
        bay = self._target.get_driver(VirtualBay)
        bay.blank()
        bay.plug()
        self._machine.replace()
        self._plug_cable()
        system = self._target.get_driver(ConsoleProtocol, name="system")
        system.forget()
        system.write(b"\n")
        self._target.activate(self._shell)
        # It came out of the box's own saved state, where the clock stood still.
        self.shell("hwclock --hctosys; systemd-id128 new >/etc/machine-id; hostname far")
        self.shell(f"systemctl stop {_IDLE}", timeout=180)

    def _plug_cable(self) -> None:
        self._cable = Cable(self.box.machine.cable_socket)
        self._cable.plug(self.box.machine.monitor, BOX_CARD.mac, first=True)
        self._cable.plug(self._machine.machine.monitor, FAR_CARD.mac, first=False)

    @step()
    def stop(self) -> None:
        self._target.deactivate(self._shell)
        if self._machine.running:
            self._machine.off()

    def shell(self, command: str, timeout: float = 60) -> str:
        return "\n".join(self._shell.run_check(command, timeout=timeout))

    # At its own end: the box is not told, and has to find out.

    @step()
    def cut(self) -> None:
        self._cable.cut(self._machine.machine.monitor)

    @step()
    def heal(self) -> None:
        self._cable.heal(self._machine.machine.monitor)
