"""The box, played by QEMU under TCG: board `qemu-q35`, with its disks in `media`.

Where each part sits on the PCI bus is agreed with the board's rules in firmware_config, and is
part of a saved state: a state is restored only into the very machine that saved it.

    00:03.0 system disk    00:05.0 SCSI bays    00:0a.0 USB (front panel)
    00:04.0 network        00:06.0–09.0 NVMe bays    00:0b.0 watchdog
                                                     00:0d.0 cable to another machine
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from qemu.qmp import QMPError

from hil_tests.rig import power_cut
from hil_tests.rig.media import Bus, Disk
from hil_tests.rig.monitor import Monitor
from hil_tests.rig.power_cut import Cut, Manner

LINES: Final = ("system", "product", "journal")
"""The serial lines, ttyS0 on.  Only a rig's box has the third, which gets all that it logs."""
SCSI_BAYS: Final = 8
NVME_BAYS: Final = 4
NBD_PORT: Final = 10809
BOARD_VERSION: Final = 3
"""A saved state fits the very board that saved it: count this on with any change of the board."""
CABLE_PORT: Final = "cable-port"
"""Where a card with a cable to another machine is plugged in."""
FIRMWARE: Final = Path("/usr/share/OVMF")
_STICK: Final = {"node-name": "stick-media"}


class NotRunning(Exception):
    """The machine is off, or QEMU ended by itself; with what it said."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """A machine that stands still: its memory, its firmware's variables and its system disk."""

    directory: Path

    @property
    def memory(self) -> Path:
        return self.directory / "memory"

    @property
    def variables(self) -> Path:
        return self.directory / "variables"

    @property
    def system(self) -> Path:
        return self.directory / "system.raw"


@dataclass
class Machine:
    """One box.  `directory` is its own; all that it leaves lies there."""

    directory: Path
    system: Disk
    host_port: int
    """On loopback; leads to the box's NBD port."""
    memory: int = 1024
    """MiB."""
    cpus: int = 2
    clock: str = "base=utc,clock=host"
    """QEMU's `-rtc`: `base=1970-01-01` is a box whose clock battery is empty."""
    bays: dict[int, Disk] = field(default_factory=dict)
    """SCSI by number, NVMe from SCSI_BAYS on."""
    lines: dict[str, socket.socket] = field(default_factory=dict)
    """Our ends of the serial lines, since the power went on last; they end with the machine.
    Whoever reads them closes them."""

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: Monitor | None = None
        self._sockets = Path(tempfile.mkdtemp(prefix="ebbtide-rig-"))

    @property
    def panel_socket(self) -> Path:
        """Where whoever plays the panel connects: usbredir."""
        return self._sockets / "panel"

    @property
    def cable_socket(self) -> Path:
        """Where the other end of a cable to another machine is expected."""
        return self._sockets / "cable"

    @property
    def monitor(self) -> Monitor:
        """Raises NotRunning."""
        if self._monitor is None or self._process is None or self._process.poll() is not None:
            raise NotRunning(self._said())
        return self._monitor

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def power_on(self, state: SavedState | None = None) -> None:
        """From its disks, or as it stood in `state`, whose system disk `system` is then based on.

        Disks in the bays are there before the first instruction.  Raises NotRunning.
        """
        variables = self.directory / "variables"
        if state is not None or not variables.exists():
            shutil.copyfile(state.variables if state else FIRMWARE / "OVMF_VARS_4M.fd", variables)
        ours: list[socket.socket] = []
        theirs: list[socket.socket] = []
        for _ in ("monitor", *LINES):
            here, there = socket.socketpair()
            ours.append(here)
            theirs.append(there)
        command = self._command([each.fileno() for each in theirs])
        if state is not None:
            command += ["-incoming", "defer"]
        self.system.power_on()
        # Without these nodes there is no system disk on the command line.
        for node in self.system.nodes():
            command += ["-blockdev", _as_option(node)]
        self.directory.joinpath("qemu.sh").write_text(" \\\n  ".join(command) + "\n")
        with self.directory.joinpath("qemu.said").open("wb") as said:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=[each.fileno() for each in theirs],
                start_new_session=True,
            )
        for each in theirs:
            each.close()
        self.lines = dict(zip(LINES, ours[1:], strict=True))
        try:
            self._monitor = Monitor(ours[0])
            self._monitor(
                "migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}]
            )
            if state is not None:
                self._monitor("migrate-incoming", uri=f"exec:cat {state.memory}")
                self._monitor.wait_for(
                    "MIGRATION", lambda data: data["status"] in ("completed", "failed"), 60
                )
            for bay in sorted(self.bays):
                self._plug(bay)
            self._monitor("cont")
        except (QMPError, OSError, EOFError, KeyError) as error:
            self._end()
            raise NotRunning(f"{error}; {self._said()}") from error

    def cut_power(self, random: Random, manner: Manner | None = None) -> dict[str, Cut]:
        """The power goes, for the system disk and all in the bays; per disk, what that did."""
        monitor = self.monitor
        # What the box says from here on, nobody hears: an answer that is still given after the
        # moment of the cut would be a promise that it cannot keep.
        monitor("set_link", name="host", up=False)
        disks = [self.system, *self.bays.values()]
        moment = self._moment(disks)
        # QEMU flushes all disks as it stops; that, and whatever else came after the moment, never
        # happened.
        monitor("stop")
        self._end()
        return {
            disk.serial: disk.power_off(told, manner or power_cut.any_manner(random), random)
            for disk, told in zip(disks, moment, strict=True)
        }

    def await_reset(self, timeout: float) -> None:
        """Until it asked to be started anew, or its watchdog bit; then that is done, with all that
        its disks were told.  Raises NotRunning."""
        assert self._process is not None
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise NotRunning(f"no reset within {timeout:.0f} s") from None
        if self._process.returncode:
            raise NotRunning(self._said())
        self._end()
        for disk in (self.system, *self.bays.values()):
            disk.power_off(disk.told(), Manner.KEEPS_ALL, Random(0))
        self.power_on()

    def cut_power_within(
        self, start: int, size: int, share: float, random: Random
    ) -> dict[str, Cut]:
        """As if the power had gone when that share of the writes to these bytes of the system's
        disk had been begun, since it came.  Other disks would remember what came later, so the
        bays are empty.
        """
        if self.bays:
            raise ValueError("disks in the bays have gone on")
        self.monitor("stop")
        self._end()
        told = self.system.told_within(start, size, share)
        return {
            self.system.serial: self.system.power_off(told, power_cut.any_manner(random), random)
        }

    def _moment(self, disks: list[Disk]) -> list[int]:
        """How far the log of each disk is, all at one moment."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            return [disk.told() for disk in disks]
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def save(self, directory: Path) -> SavedState:
        """The machine as it stands, its bays empty; it is off after that."""
        if self.bays:
            raise ValueError("disks in the bays are not saved")
        state = SavedState(directory)
        directory.mkdir(parents=True)
        monitor = self.monitor
        monitor("stop")
        monitor("migrate", uri=f"exec:cat >{state.memory}")
        ended = monitor.wait_for(
            "MIGRATION", lambda data: data["status"] in ("completed", "failed"), 120
        )
        if ended["data"]["status"] != "completed":
            raise NotRunning(f"not saved: {monitor('query-migrate')}")
        self._end()
        self.system.power_off(self.system.told(), Manner.KEEPS_ALL, Random(0))
        shutil.copyfile(self.directory / "variables", state.variables)
        shutil.move(self.system.medium, state.system)
        return state

    # Bays

    def insert(self, bay: int, disk: Disk) -> None:
        """Plug a disk into a bay, the machine on or off."""
        if bay in self.bays:
            raise ValueError(f"bay {bay} is taken by {self.bays[bay].serial}")
        self.bays[bay] = disk
        if self.running:
            self._plug(bay)

    def pull(self, bay: int, random: Random, manner: Manner | None = None) -> tuple[Disk, Cut]:
        """Out it goes, and what it had not been made to keep may be lost; the disk, and that."""
        disk = self.bays.pop(bay)
        if not self.running:
            return disk, Cut(Manner.KEEPS_ALL, 0, 0, 0, 0)
        monitor = self.monitor
        monitor.forget("DEVICE_DELETED")
        monitor("device_del", id=disk.name)
        monitor.wait_for("DEVICE_DELETED", lambda data: data.get("device") == disk.name)
        # QEMU flushes what it closes; that never happened.
        told = disk.told()
        for node in reversed(disk.nodes()):
            monitor("blockdev-del", **{"node-name": node["node-name"]})
        return disk, disk.power_off(told, manner or power_cut.any_manner(random), random)

    # A stick

    def plug_stick(self, image: Path) -> None:
        """A USB stick with this on it, which the machine cannot write to."""
        file = {"driver": "file", "filename": str(image), "read-only": True}
        self.monitor("blockdev-add", driver="raw", file=file, **_STICK, **{"read-only": True})
        self.monitor(
            "device_add", driver="usb-storage", id="stick", bus="xhci.0", drive="stick-media"
        )

    def pull_stick(self) -> None:
        """If one is in; it does not outlast the power."""
        monitor = self.monitor
        if any(
            node["node-name"] == _STICK["node-name"]
            for node in monitor("query-named-block-nodes", flat=True)
        ):
            monitor.forget("DEVICE_DELETED")
            monitor("device_del", id="stick")
            monitor.wait_for("DEVICE_DELETED", lambda data: data.get("device") == "stick")
            monitor("blockdev-del", **_STICK)

    def _plug(self, bay: int) -> None:
        disk, monitor = self.bays[bay], self.monitor
        disk.power_on()
        for node in disk.nodes():
            monitor("blockdev-add", **node)
        about: dict[str, object] = {
            "id": disk.name,
            "drive": disk.name,
            "serial": disk.serial,
            "logical_block_size": disk.sector,
            "physical_block_size": disk.sector,
        }
        if disk.bus is Bus.NVME:
            port = f"nvme-bay{bay - SCSI_BAYS}"
            monitor("device_add", driver="nvme", bus=port, **about)
        else:
            monitor(
                "device_add",
                driver="scsi-hd",
                bus="bays.0",
                **{"scsi-id": bay},
                wwn=disk.wwn,
                **about,
            )

    # The process

    def _end(self) -> None:
        """At once, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def close(self) -> None:
        """End it, if it runs, and hear no more of its lines."""
        self._end()
        for line in self.lines.values():
            line.close()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _said(self) -> str:
        said = self.directory / "qemu.said"
        return said.read_text(errors="replace")[-2000:] if said.exists() else "never started"

    def _command(self, descriptors: list[int]) -> list[str]:
        """The board, its system disk's nodes not included."""
        monitor, *lines = descriptors
        command = ["qemu-system-x86_64", "-name", "ebbtide", "-nodefaults", "-no-user-config"]
        # NumPy's sorting for AVX2 ends in a segmentation fault on what QEMU 7.2 makes of AVX2.
        command += ["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,avx2=off"]
        command += ["-smp", str(self.cpus), "-m", str(self.memory), "-display", "none"]
        # OVMF hangs in a reset, now and then, where the machine has much other work.
        command += ["-S", "-rtc", self.clock, "-action", "watchdog=reset,reboot=shutdown"]
        pflash = "if=pflash,format=raw,"
        command += ["-drive", f"{pflash}readonly=on,file={FIRMWARE / 'OVMF_CODE_4M.fd'}"]
        command += ["-drive", f"{pflash}file={self.directory / 'variables'}"]
        command += ["-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "monitor,mode=control"]
        # Interrupt lines are not shared on ISA, and the third port's is the first's by custom.
        for name, descriptor, irq in zip(LINES, lines, (4, 3, 5), strict=True):
            command += ["-chardev", f"socket,id={name},fd={descriptor}"]
            command += ["-device", f"isa-serial,chardev={name},irq={irq}"]
        devices = [
            f"virtio-blk-pci,addr=3,drive={self.system.name},bootindex=0,serial=SYSTEM",
            "virtio-net-pci,addr=4,netdev=host,romfile=,mac=52:54:00:eb:b7:1d",
            "virtio-scsi-pci,id=bays,addr=5",
            "qemu-xhci,id=xhci,addr=0xa",
            "usb-redir,chardev=panel,bus=xhci.0",
            "i6300esb,addr=0xb",
            "virtio-rng-pci,addr=0xc",
        ]
        devices += [
            f"pcie-root-port,id=nvme-bay{bay},addr={6 + bay},chassis={1 + bay},slot={1 + bay}"
            for bay in range(NVME_BAYS)
        ]
        devices += [f"pcie-root-port,id={CABLE_PORT},addr=0xd,chassis={1 + NVME_BAYS},slot=5"]
        forward = f"hostfwd=tcp:127.0.0.1:{self.host_port}-:{NBD_PORT}"
        command += ["-netdev", f"user,id=host,restrict=on,{forward}"]
        command += ["-chardev", f"socket,id=panel,path={self.panel_socket},server=on,wait=off"]
        for device in devices:
            command += ["-device", device]
        return command


def _as_option(node: dict[str, object], prefix: str = "") -> str:
    """A node as QEMU's command line wants it."""
    parts: list[str] = []
    for name, value in node.items():
        if isinstance(value, dict):
            parts.append(_as_option(value, f"{prefix}{name}."))
        else:
            text = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
            parts.append(f"{prefix}{name}={text.replace(',', ',,')}")
    return ",".join(parts)
