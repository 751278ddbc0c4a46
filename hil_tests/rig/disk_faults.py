"""A disk that fails while it runs: QEMU's `blkdebug` put in between, and its throttle."""

from dataclasses import dataclass, field
from errno import EIO, ENODATA
from typing import Final

from hil_tests.rig.media import Disk
from hil_tests.rig.monitor import Monitor

ERRORS: Final = {"error": EIO, "medium": ENODATA}
"""How a request fails, and the number that QEMU turns into sense data."""
UNIT: Final = 512
"""What blkdebug counts in, whatever the disk's sectors."""


@dataclass
class DiskFaults:
    """Of one disk that is plugged in; they end with `heal`, or with the disk's power."""

    monitor: Monitor
    disk: Disk
    rules: list[dict[str, object]] = field(default_factory=list)

    def fail(self, what: str, how: str, first: int | None, count: int) -> None:
        """From now on; `what` is read, write or flush, sectors are the disk's own."""
        rule = {"event": "none", "iotype": what, "errno": ERRORS[how], "immediately": False}
        if first is None:
            added = [rule]
        else:
            scale = self.disk.sector // UNIT
            units = range(first * scale, (first + count) * scale)
            added = [rule | {"sector": unit} for unit in units]
        self._take_out()
        self.rules += added
        self._put_in()

    def stall(self) -> None:
        """Nothing that reads or writes is answered any more."""
        self._throttle(1)

    def slow(self, bytes_per_second: int) -> None:
        """In both directions together."""
        self._throttle(bytes_per_second)

    def heal(self) -> None:
        """What was stalled goes on; what failed has failed."""
        self._throttle(0)
        self._take_out()
        self.rules.clear()

    def _throttle(self, bytes_per_second: int) -> None:
        none = dict.fromkeys(["bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"], 0)
        self.monitor("block_set_io_throttle", id=self.disk.name, bps=bytes_per_second, **none)

    def _put_in(self) -> None:
        name = f"{self.disk.name}-faults"
        self.monitor(
            "blockdev-add",
            **{"node-name": name, "driver": "blkdebug", "image": f"{self.disk.name}-logged"},
            **{"inject-error": self.rules},
        )
        self.monitor("blockdev-reopen", options=[self.disk.top(name)])

    def _take_out(self) -> None:
        if self.rules:
            top = self.disk.top(f"{self.disk.name}-logged")
            self.monitor("blockdev-reopen", options=[top])
            self.monitor("blockdev-del", **{"node-name": f"{self.disk.name}-faults"})
