"""The virtual rig: labgrid's view of a machine in QEMU.

`VirtualBox` is the box with its power; `VirtualLine` and `VirtualBay` hang on it.
"""

import select
import shutil
import socket
import time
from pathlib import Path
from random import Random
from typing import ClassVar

import attr
from labgrid import target_factory
from labgrid.driver import Driver
from labgrid.driver.consoleexpectmixin import ConsoleExpectMixin
from labgrid.protocol import ConsoleProtocol, PowerProtocol
from labgrid.resource import Resource
from labgrid.step import step
from pexpect import TIMEOUT

from hil_tests.drivers.protocols import (
    BatteryProtocol,
    BayProtocol,
    DiskCopyProtocol,
    DiskFaultProtocol,
    EarlierCutProtocol,
    FreshBoxProtocol,
    HostPathProtocol,
    LinkProtocol,
    ResetProtocol,
)
from hil_tests.rig import first_boot, system_disk
from hil_tests.rig.authority import Authority
from hil_tests.rig.disk_faults import DiskFaults
from hil_tests.rig.machine import LINES, SCSI_BAYS, Machine, NotRunning, SavedState
from hil_tests.rig.media import MIB, Bus, Disk, copy_sparsely
from hil_tests.rig.settings import settings


@target_factory.reg_resource
@attr.s(eq=False)
class VirtualBoard(Resource):
    """What is played.  Paths count from the rig's settings file."""

    image: str = attr.ib()
    """The firmware; of several that match, the newest."""
    directory: str = attr.ib()
    """For all that the rig keeps: certificates, a saved state, disks."""
    run: str = attr.ib(default="run")
    """Below it, where this machine's own things lie while it is used: one place for each."""
    memory: int = attr.ib(default=1024)
    """MiB."""
    cpus: int = attr.ib(default=2)
    """One is the better choice on a machine that has much other work: a guest that waits for its
    second processor for too long takes that for a fault."""


@target_factory.reg_driver
@attr.s(eq=False)
class VirtualBox(
    Driver,
    PowerProtocol,
    FreshBoxProtocol,
    EarlierCutProtocol,
    ResetProtocol,
    BatteryProtocol,
    LinkProtocol,
    HostPathProtocol,
):
    """The box.

    Its power goes truly: what its disks had not flushed is theirs to lose, as `random` has it.
    It starts from a state that was saved when it came up for the first time, which takes seconds;
    after a power cut it boots, which takes minutes under TCG.
    """

    bindings: ClassVar = {"board": VirtualBoard}

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        config = self.target.env.config
        self._directory = Path(config.resolve_path(self.board.directory)).resolve()
        pattern = Path(config.resolve_path(self.board.image))
        images = sorted(pattern.parent.glob(pattern.name), key=lambda each: each.stat().st_mtime)
        if not images:
            raise FileNotFoundError(f"no firmware image {pattern}; `make image` makes it")
        self.image = images[-1]
        self.random = Random()
        self.machine: Machine

    def on_activate(self) -> None:
        self._settings = settings(Authority(self._directory / "certificates"))
        run = self._directory / self.board.run
        shutil.rmtree(run, ignore_errors=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        run.mkdir(parents=True)
        self._use(self._state().system)
        self.machine = Machine(
            run / "machine", self._system, port, self.board.memory, self.board.cpus
        )

    def on_deactivate(self) -> None:
        self.machine.close()
        shutil.rmtree(self._directory / self.board.run, ignore_errors=True)

    def _state(self) -> SavedState:
        return first_boot.saved_state(
            self.image,
            dict(self._settings),
            self._directory / "state",
            self.board.memory,
            self.board.cpus,
        )

    def _use(self, base: Path) -> None:
        """A system disk as it was in the state, whatever happened to the one before."""
        medium = self._directory / self.board.run / "system.raw"
        medium.unlink(missing_ok=True)
        self._system = Disk("SYSTEM", medium, base.stat().st_size, bus=Bus.SYSTEM, base=base)

    @property
    def running(self) -> bool:
        return self.machine.running

    @step()
    def on(self) -> None:
        self.machine.power_on()

    @step(result=True)
    def off(self) -> object:
        """Per disk, what was owed, kept, torn and lost."""
        return self.machine.cut_power(self.random)

    @step(args=["partition", "share"], result=True)
    def off_within(self, partition: int, share: float) -> object:
        place = system_disk.partition(self.image, partition)
        return self.machine.cut_power_within(place.start, place.size, share, self.random)

    @step()
    def await_reset(self, timeout: float) -> None:
        self.machine.await_reset(timeout)

    @step()
    def cycle(self) -> None:
        self.off()
        self.on()

    @step(result=True)
    def replace(self) -> object:
        cuts = self.machine.cut_power(self.random) if self.machine.running else None
        state = self._state()
        self._use(state.system)
        self.machine.system = self._system
        self.machine.power_on(state)
        return cuts

    @step(args=["base"])
    def set_clock(self, base: str) -> None:
        self.machine.clock = f"base={base},clock=host"

    @step()
    def cut(self) -> None:
        self.machine.monitor("set_link", name="host", up=False)

    @step()
    def heal(self) -> None:
        self.machine.monitor("set_link", name="host", up=True)

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.machine.host_port

    def certificates(self) -> str:
        return str(self._directory / "certificates")


@target_factory.reg_driver
@attr.s(eq=False)
class VirtualLine(ConsoleExpectMixin, Driver, ConsoleProtocol):
    """One of the box's serial lines, there while its power is."""

    bindings: ClassVar = {"box": VirtualBox}
    line: str = attr.ib(validator=attr.validators.in_(LINES))
    txdelay: float = attr.ib(default=0.0)
    txchunk: int = attr.ib(default=1)

    def _read(
        self,
        size: int = 1,  # noqa: ARG002 -- part of what labgrid calls
        timeout: float = 0,
        max_size: int | None = None,
    ) -> bytes:
        end = self.box.machine.lines.get(self.line)
        if end is None or end.fileno() < 0:
            time.sleep(min(timeout, 0.02))
            raise TIMEOUT("the box is off")
        if not select.select([end], [], [], timeout)[0]:
            raise TIMEOUT(f"nothing for {timeout:.2f} s")
        data: bytes = end.recv(max_size or 4096)
        if not data:
            end.close()
            raise TIMEOUT("the box went off")
        return data

    def _write(self, data: bytes) -> int:
        end = self.box.machine.lines.get(self.line)
        if end is None or end.fileno() < 0:
            raise NotRunning("the box is off")
        end.sendall(data)
        return len(data)


@target_factory.reg_driver
@attr.s(eq=False)
class VirtualBay(Driver, BayProtocol, DiskFaultProtocol, DiskCopyProtocol):
    """A bay of the box: SCSI by their numbers, NVMe by theirs."""

    bindings: ClassVar = {"box": VirtualBox}
    number: int = attr.ib()
    serial: str = attr.ib()
    bus: str = attr.ib(default="scsi", validator=attr.validators.in_(["scsi", "nvme"]))
    sector: int = attr.ib(default=512, validator=attr.validators.in_([512, 4096]))
    mebibytes: int = attr.ib(default=256)

    def on_activate(self) -> None:
        run = self.box.machine.directory.parent
        self._place = self.number + (SCSI_BAYS if self.bus == "nvme" else 0)
        medium, size = run / f"{self.serial}.raw", self.mebibytes * MIB
        self.disk = Disk(self.serial, medium, size, self.sector, Bus(self.bus))
        self._faults: DiskFaults | None = None

    @step()
    def plug(self) -> None:
        self.box.machine.insert(self._place, self.disk)

    @step(result=True)
    def pull(self) -> object:
        faults, self._faults = self._faults, None
        if faults is not None and self.box.running and faults.monitor is self.box.machine.monitor:
            faults.heal()
        return self.box.machine.pull(self._place, self.box.random)[1]

    def blank(self) -> None:
        if self._place in self.box.machine.bays:
            self.pull()
        self.disk.medium.unlink(missing_ok=True)

    @step(args=["other"])
    def copy_from(self, other: "VirtualBay") -> None:
        if other.mebibytes != self.mebibytes:
            raise ValueError(f"{other.serial} is not as large as {self.serial}")
        copy_sparsely(other.disk.medium, self.disk.medium)

    @property
    def faults(self) -> DiskFaults:
        monitor = self.box.machine.monitor
        if self._faults is None or self._faults.monitor is not monitor:
            self._faults = DiskFaults(monitor, self.disk)
        return self._faults

    @step(args=["what", "how", "first", "count"])
    def fail(self, what: str, how: str = "error", first: int | None = None, count: int = 1) -> None:
        self.faults.fail(what, how, first, count)

    @step()
    def stall(self) -> None:
        self.faults.stall()

    @step(args=["bytes_per_second"])
    def slow(self, bytes_per_second: int) -> None:
        self.faults.slow(bytes_per_second)

    @step()
    def heal(self) -> None:
        self.faults.heal()
