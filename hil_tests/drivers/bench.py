"""A physical rig: what labgrid's own drivers leave open.

Power, serial lines and the shell are labgrid's (a power driver, SerialDriver, ShellDriver).  A bay
is a switch in the power line of its disk: anything that labgrid drives as a digital output.
"""

from typing import ClassVar

import attr
from labgrid import target_factory
from labgrid.driver import Driver
from labgrid.protocol import CommandProtocol, DigitalOutputProtocol
from labgrid.resource import Resource
from labgrid.step import step

from hil_tests.drivers.protocols import BayProtocol, HostPathProtocol

ARRIVES_SECONDS = 60


@target_factory.reg_resource
@attr.s(eq=False)
class NetworkPath(Resource):
    """From this machine, which plays the host, to the box."""

    address: str = attr.ib()
    certificates: str = attr.ib()
    """A directory with `ca.pem`, `host.pem` and `host.key`; counts from the rig's settings file.
    The box's own certificate is for the name `box.ebbtide.test`."""
    port: int = attr.ib(default=10809)


@target_factory.reg_driver
@attr.s(eq=False)
class HostPath(Driver, HostPathProtocol):
    """Over a `NetworkPath`."""

    bindings: ClassVar = {"path": NetworkPath}

    def address(self) -> tuple[str, int]:
        return self.path.address, self.path.port

    def certificates(self) -> str:
        return str(self.target.env.config.resolve_path(self.path.certificates))


@target_factory.reg_driver
@attr.s(eq=False)
class SwitchedBay(Driver, BayProtocol):
    """A disk that stays where it is, with a switch in its power line: on is in, off is out.

    All that is on the disk is destroyed, see `blank`: `serial` must be the right one.
    """

    bindings: ClassVar = {"switch": DigitalOutputProtocol}
    serial: str = attr.ib(validator=attr.validators.instance_of(str))
    bus: str = attr.ib(default="sata", validator=attr.validators.instance_of(str))
    sector: int = attr.ib(default=512, validator=attr.validators.in_([512, 4096]))

    @step()
    def plug(self) -> None:
        self.switch.set(True)

    @step()
    def pull(self) -> None:
        self.switch.set(False)

    def blank(self) -> None:
        """By the box itself, its service stopped: only the box reaches the disk."""
        self.plug()
        shell = self.target.get_driver(CommandProtocol)
        find = f"lsblk --nodeps --noheadings --paths --output NAME,SERIAL | grep -w {self.serial}"
        wait = f"timeout {ARRIVES_SECONDS} sh -c 'until {find}; do sleep 1; done'"
        ((node, *_),) = [line.split() for line in shell.run_check(wait, timeout=90)]
        shell.run_check("systemctl stop cdpd", timeout=120)
        # Whatever says what the disk holds lies at its ends.
        shell.run_check(
            f"blkdiscard --force {node} || for end in 0 $(($(blockdev --getsize64 {node}) / 1048576"
            f" - 64)); do dd if=/dev/zero of={node} bs=1M count=64 seek=$end conv=fsync; done",
            timeout=300,
        )
        self.pull()
        shell.run_check("systemctl start cdpd", timeout=120)
