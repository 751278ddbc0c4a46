"""What a rig can do to a box beyond labgrid's own protocols (power, console, command).

A rig says in its settings which of these it has, under the feature's name; a test names the
features that it needs and is skipped where one is missing.
"""

import abc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from appliance.glass import Glass, Key


class BayProtocol(abc.ABC):
    """A disk bay with its disk, which is in or out.  Drivers are named `bay0`, `bay1` …"""

    serial: str
    """Of the disk in it."""
    sector: int
    """512 or 4096."""
    bus: str
    """`scsi`, `sata`, `nvme` …"""

    @abc.abstractmethod
    def plug(self) -> None:
        """In it goes, whether the box runs or not."""

    @abc.abstractmethod
    def pull(self) -> object:
        """Out it goes, unannounced; what is known about what it lost, for the report."""

    @abc.abstractmethod
    def blank(self) -> None:
        """Out it goes, and nothing of an earlier test is on it when it is plugged again."""


class DiskFaultProtocol(abc.ABC):
    """Feature `disk-faults`: a bay whose disk can be made to fail while it is in."""

    @abc.abstractmethod
    def fail(self, what: str, how: str = "error", first: int | None = None, count: int = 1) -> None:
        """Every `read`, `write` or `flush` fails, with `error` (an I/O error) or `medium` (the
        medium's); of `count` sectors from `first` on, or of all."""

    @abc.abstractmethod
    def stall(self) -> None:
        """Reads and writes are answered no more, till `heal`."""

    @abc.abstractmethod
    def slow(self, bytes_per_second: int) -> None:
        """So fast and no faster."""

    @abc.abstractmethod
    def heal(self) -> None:
        """All of the above is over; what was stalled goes on."""


class DiskCopyProtocol(abc.ABC):
    """Feature `disk-copy`: a bay into whose disk another one can be copied."""

    @abc.abstractmethod
    def copy_from(self, other: object) -> None:
        """Byte for byte, from a bay of the same size; both are out."""


class LinkProtocol(abc.ABC):
    """Feature `network-link`: the cable between the box and its hosts."""

    @abc.abstractmethod
    def cut(self) -> None:
        """Nothing gets through."""

    @abc.abstractmethod
    def heal(self) -> None:
        """It does again."""


class FarMachineProtocol(abc.ABC):
    """Feature `far-machine`: a second Linux on a network that it shares with the box alone, with
    nvme-cli, Python, the programs of firmware_config/programs on its path, and a disk to spare."""

    address: str
    """Its own, as the box reaches it."""
    box_address: str
    """The box's, as it reaches the box."""
    disk: str
    """The node of its disk, whose data is destroyed."""

    @property
    @abc.abstractmethod
    def lines(self) -> Sequence[Any]:
        """Those of its serial lines that are recorded."""

    @abc.abstractmethod
    def start(self) -> None:
        """As new, its disk blank, and joined to the box as it runs now."""

    @abc.abstractmethod
    def stop(self) -> None:
        """The rest of a run does without it."""

    @abc.abstractmethod
    def shell(self, command: str, timeout: float = 60) -> str:
        """What it printed, as root; raises labgrid's ExecutionError if that failed."""

    @abc.abstractmethod
    def cut(self) -> None:
        """Nothing gets through between the two; the box's own end of the cable looks well."""

    @abc.abstractmethod
    def heal(self) -> None:
        """It does again."""


class FreshBoxProtocol(abc.ABC):
    """Feature `fresh-box`: another box of the same make, at hand at once."""

    @abc.abstractmethod
    def replace(self) -> object:
        """The power of this box goes, and its disks are put into a box on which nobody has done
        anything yet; that one runs, with a shell on its system's line."""


class BatteryProtocol(abc.ABC):
    """Feature `clock-battery`: what the box's clock shows when its power comes back."""

    @abc.abstractmethod
    def set_clock(self, base: str) -> None:
        """From the next power-on: a time as `2001-02-03T04:05:06`, UTC, or `utc` for the true
        one."""


class HostPathProtocol(abc.ABC):
    """Where hosts find the box, and what they show it."""

    @abc.abstractmethod
    def address(self) -> tuple[str, int]:
        """Of its NBD server."""

    @abc.abstractmethod
    def certificates(self) -> str:
        """The directory of `ca.pem`, `host.pem` and `host.key`."""


class ResetProtocol(abc.ABC):
    """A rig whose box, once it has asked to be started anew, waits for somebody who does."""

    @abc.abstractmethod
    def await_reset(self, timeout: float) -> None:
        """Until it has asked, and it is done."""


class EarlierCutProtocol(abc.ABC):
    """Feature `earlier-cut`: a power cut whose moment is chosen when it is over, by what the box
    wrote to its own disk.  Its bays are empty."""

    @abc.abstractmethod
    def off_within(self, partition: int, share: float) -> object:
        """The power had gone when the box had begun that share, 0 to 1, of its writes to this
        partition of its disk since it was started or replaced; per disk, what that did."""


class StickProtocol(abc.ABC):
    """Feature `update-stick`: a USB stick that brings updates, out when a test begins."""

    @abc.abstractmethod
    def working(self, version: str) -> Path:
        """An update that works, with that version."""

    @abc.abstractmethod
    def failing(self, version: str) -> Path:
        """One whose service ends as soon as it is started."""

    @abc.abstractmethod
    def strangers(self) -> Path:
        """One that was signed by somebody whom the box does not know."""

    @abc.abstractmethod
    def plug(self, bundle: Path) -> None:
        """In it goes, with that update and nothing else on it."""

    @abc.abstractmethod
    def pull(self) -> None:
        """Out it goes, whether it is in or not."""


class PanelProtocol(abc.ABC):
    """Feature `panel`: the front panel, and the cable by which it hangs on the box."""

    @abc.abstractmethod
    def plug(self) -> None:
        """In it goes; it shows nothing before the box has seen it.  A box whose power was cut
        has lost it, on a virtual rig."""

    @abc.abstractmethod
    def pull(self) -> None:
        """Out it goes, whether it is in or not."""

    @abc.abstractmethod
    def glass(self) -> Glass:
        """What stands on it now."""

    @abc.abstractmethod
    def wait_for(self, what: str | Callable[[Glass], bool], timeout: float) -> Glass:
        """Until a text stands in one of its lines, or until that is true of the glass; which it
        then was.  Raises `hil_tests.panel.panel.PanelTrouble` after `timeout` seconds."""

    @abc.abstractmethod
    def press(self, key: Key) -> None:
        """A finger goes down on a key and up again."""

    @abc.abstractmethod
    def hold(self, key: Key, seconds: float) -> None:
        """So long at least."""


class PanelFaultProtocol(abc.ABC):
    """Feature `panel-faults`: a panel whose parts can be made to fail while it is plugged in."""

    @abc.abstractmethod
    def silent(self) -> AbstractContextManager[None]:
        """Within it nobody acknowledges, as behind broken wires; the glass stands as it is."""

    @abc.abstractmethod
    def blink(self) -> None:
        """The display and its expander, not the adapter, are without power for a moment."""

    @abc.abstractmethod
    def stick(self, key: Key) -> None:
        """A key goes down for good."""
