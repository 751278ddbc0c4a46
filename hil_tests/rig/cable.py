"""A network cable between two machines, with a card of its own at each end.

QEMU's `stream` network over a Unix socket.  Cards are plugged into running machines, into the port
that the board keeps for them, and do not outlast the power; so no saved state has one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hil_tests.rig.machine import CABLE_PORT
from hil_tests.rig.monitor import Monitor

_NAME: Final = "cable"


@dataclass(frozen=True, slots=True)
class Cable:
    """`socket` is where one end waits for the other."""

    socket: Path

    def plug(self, monitor: Monitor, mac: str, first: bool) -> None:
        """An end of it into a machine, by whose monitor; the `first` one waits for the other."""
        address = {"type": "unix", "path": str(self.socket)}
        monitor("netdev_add", type="stream", id=_NAME, server=first, addr=address)
        card = {"driver": "virtio-net-pci", "netdev": _NAME, "mac": mac, "romfile": ""}
        monitor("device_add", bus=CABLE_PORT, **card)

    def cut(self, monitor: Monitor) -> None:
        """At this machine's end: nothing gets through.  Its card sees that, the other one's does
        not, as where a switch is in between."""
        monitor("set_link", name=_NAME, up=False)

    def heal(self, monitor: Monitor) -> None:
        monitor("set_link", name=_NAME, up=True)
