"""A volume: a primary and a secondary in service, as hosts and operators see it.

The way of a host's request starts in `submit`: reads go to the primary, writes
to the write path.  The two axes of the state are named here and nowhere else;
the way from one to the next is in `lifecycle`.
"""

from collections.abc import Callable
from enum import Enum
from errno import EINVAL, EIO, ENOSPC

from appliance import events
from appliance.cdp import timeline, views
from appliance.cdp.commit_group import GROUP_MEMORY
from appliance.cdp.dirty_region_log import DirtyRegionLog
from appliance.cdp.extents import Extents
from appliance.cdp.history import History
from appliance.cdp.host_reads import HostReads
from appliance.cdp.interfaces import (
    DISCARD,
    FLUSH,
    READ,
    SECTOR,
    WRITE,
    ZERO,
    Clock,
    Disk,
    HostRequest,
    Post,
)
from appliance.cdp.jobs import Job
from appliance.cdp.journal import HEADROOM
from appliance.cdp.memory import BufferPool
from appliance.cdp.points import Gap, MapSummary, Point, Snapshot, Window
from appliance.cdp.route import Mode, Watcher
from appliance.cdp.superblock import Superblock
from appliance.cdp.write_path import WritePath
from appliance.errors import SnapshotExists, SnapshotNotFound, VolumeNotReady

LARGEST_ZERO = 32 << 20
"""A longer ZERO is split into numbered pieces."""


class Service(Enum):
    """Does it serve hosts?"""

    OFFLINE = "offline"
    RECOVERING = "recovering"
    ONLINE = "online"
    FAILOVER = "failover"


class Protection(Enum):
    """Are writes kept?"""

    NONE = "none"
    TRACKING = "tracking"
    SYNCING = "syncing"
    PROTECTED = "protected"


_ONLINE = Service.ONLINE  # looking up a member of an enumeration takes a fifth of a microsecond


class Volume:
    """See the module.  `sector`, `size` and offsets are bytes."""

    read_only = False

    def __init__(
        self,
        primary: Disk,
        superblock: Superblock,
        post: Post,
        clock: Clock,
        pool: BufferPool,
        emit: Callable[..., None],
    ) -> None:
        self.name = superblock.name
        self.size = superblock.volume_size
        self.sector = superblock.sector
        self.superblock = superblock
        self.primary = primary
        self.secondary: Disk | None = None
        self.history: History | None = None
        self.log = DirtyRegionLog(primary, superblock, pool)
        self.path: WritePath | None = None
        self.service = Service.OFFLINE
        self.closed_to_hosts = False
        """A restore is under way, or was interrupted: what is there is neither old nor new."""
        self.protection = Protection.NONE
        self.job: Job | None = None
        self.last_job: Job | None = None
        self.post = post
        self.clock = clock
        self.pool = pool
        self.emit = emit
        self._alerts: dict[str, str] = {}
        self.reads = HostReads(primary, post, pool)

    def new_write_path(
        self, next_write: int, next_order: Callable[[], int], watcher: Watcher
    ) -> WritePath:
        """The path of this volume's writes, numbered from `next_write`."""
        superblock = self.superblock
        return WritePath(
            self.primary,
            self.log,
            superblock.region_size,
            next_write,
            max(HEADROOM * 2, min(GROUP_MEMORY, superblock.segment_size // 2)),
            superblock.payload_align,
            self.post,
            self.pool,
            next_order,
            watcher,
        )

    # Hosts

    def submit(self, request: HostRequest) -> None:
        """Take a host's request.  See `HostTarget`."""
        kind, offset, length, sector = request.kind, request.offset, request.length, self.sector
        if kind == FLUSH:
            if self._serves and self.path is not None:
                self.path.flush_request(request)
            else:
                self._answer(request, EIO)
        elif offset % sector or length % sector or not length:
            self._answer(request, EINVAL)
        elif offset + length > self.size:
            self._answer(request, EINVAL if kind == READ else ENOSPC)
        elif self.closed_to_hosts:
            self._answer(request, EIO)
        elif kind == READ and self.primary.fenced and self.history is not None:
            self.reads.read_without_primary(request)
        elif not self._serves or self.path is None:
            self._answer(request, EIO)
        elif kind == WRITE:
            self.path.write(request)
        elif kind == READ:
            self.reads.read(request)
        elif kind == DISCARD and not self.primary.cheap_zero:
            self._answer(request, 0)
        else:
            self._zero(request)

    @property
    def _serves(self) -> bool:
        return self.service is _ONLINE and not self.closed_to_hosts

    def _answer(self, request: HostRequest, error: int) -> None:
        request.error = error
        self.post.post(lambda: request.done(request))

    def _zero(self, request: HostRequest) -> None:
        assert self.path is not None
        request.kind = ZERO
        request.data = None
        if request.length <= LARGEST_ZERO:
            self.path.write(request)
            return
        left = -(-request.length // LARGEST_ZERO)

        def done(piece: HostRequest) -> None:
            nonlocal left
            left -= 1
            request.error = request.error or piece.error
            if not left:
                request.done(request)

        for at in range(0, request.length, LARGEST_ZERO):
            size = min(LARGEST_ZERO, request.length - at)
            self.path.write(HostRequest(ZERO, request.offset + at, size, done, request.fua))

    # What its history tells of: see `HistoryOwner`

    def history_damaged(self, disk: str, reason: str) -> None:
        self.emit(events.HISTORY_DAMAGED, volume=self.name, disk=disk, reason=reason)

    def snapshot_dropped(self, snapshot: Snapshot) -> None:
        self.emit(
            events.SNAPSHOT_DROPPED,
            volume=self.name,
            kind="pinned snapshot" if snapshot.pinned else "snapshot",
            name=snapshot.name,
            write=snapshot.write,
        )

    async def doubt(self, doubted: Extents) -> None:
        if self.protection is Protection.PROTECTED:
            self.protection = Protection.SYNCING
        size = self.superblock.region_size // SECTOR
        regions: set[int] = set()
        for start, end in zip(doubted.starts.tolist(), doubted.ends.tolist(), strict=True):
            regions.update(range(start // size, (end - 1) // size + 1))
        await self.log.set_out_of_sync(regions)

    # What operators see

    @property
    def state(self) -> str:
        """One word for people."""
        if self.service is not Service.ONLINE:
            return str(self.service.value)
        if self.closed_to_hosts or (self.job is not None and self.job.kind == "restore"):
            return "restoring"
        return str(self.protection.value)

    @property
    def write_number(self) -> int:
        """The last write number that was handed out."""
        return self.path.next_write - 1 if self.path is not None else 0

    @property
    def dirty_regions(self) -> int:
        """Regions that may differ between the disks."""
        return len(set(self.log.active) | set(self.log.out_of_sync()))

    @property
    def dirty_bytes(self) -> int:
        return min(self.size, self.dirty_regions * self.superblock.region_size)

    @property
    def busy(self) -> bool:
        """Does a host wait for an answer right now?"""
        return self.reads.busy or (self.path is not None and self.path.waiting > 0)

    def alert(self, code: str, text: str | None) -> None:
        """Raise an alert, or take it back with None."""
        if text is None:
            self._alerts.pop(code, None)
        else:
            self._alerts[code] = text

    def alerts(self) -> list[tuple[str, str]]:
        return sorted(self._alerts.items())

    def window(self) -> Window | None:
        return timeline.window(self.history.chain) if self.history else None

    def history_bytes(self) -> tuple[int, int]:
        """Capacity and use of the history, in bytes."""
        if self.history is None:
            return 0, 0
        return self.history.capacity_bytes, self.history.used_bytes

    def maps(self) -> list[MapSummary]:
        return timeline.summaries(self.history.chain) if self.history else []

    def snapshots(self) -> list[Snapshot]:
        if self.history is None:
            return []
        return sorted(self.history.chain.snapshots.values(), key=lambda s: (s.write, s.name))

    def gaps(self) -> list[Gap]:
        return self.history.chain.every_gap() if self.history else []

    def require_history(self) -> History:
        """VolumeNotReady while the secondary is not in service."""
        if self.history is None or self.service is not Service.ONLINE:
            raise VolumeNotReady(
                volume=self.name, state=self.state, reason="its history is not in reach"
            )
        return self.history

    # Points

    async def resolve(self, text: str) -> Point:
        """The point that people mean; raises what is wrong with it."""
        history = self.require_history()
        assert self.path is not None
        return await timeline.resolve(
            history, text, self.clock.wall_ns(), self.path.completed_write
        )

    async def take_snapshot(self, name: str, pinned: bool = False) -> Snapshot:
        """Name the present moment, durably."""
        history = self.require_history()
        chain = history.chain
        assert self.path is not None
        if name in chain.snapshots:
            raise SnapshotExists(name=name)
        if self.protection is not Protection.PROTECTED:
            raise VolumeNotReady(
                volume=self.name, state=self.state, reason="no point can be kept now"
            )
        write = max(chain.floor, self.path.completed_write)
        if self.path.completed_write > chain.newest_write:
            write = max(chain.floor, chain.newest_write)
        snapshot = Snapshot(name, write, self.clock.wall_ns(), pinned)
        chain.snapshots[name] = snapshot
        await self._keep_snapshots(history, name, None)
        return snapshot

    async def delete_snapshot(self, name: str) -> None:
        history = self.require_history()
        before = history.chain.snapshots.pop(name, None)
        if before is None:
            raise SnapshotNotFound(name=name)
        await self._keep_snapshots(history, name, before)

    async def pin_snapshot(self, name: str, pinned: bool) -> None:
        history = self.require_history()
        before = history.chain.snapshots.get(name)
        if before is None:
            raise SnapshotNotFound(name=name)
        history.chain.snapshots[name] = Snapshot(name, before.write, before.time_ns, pinned)
        await self._keep_snapshots(history, name, before)

    async def _keep_snapshots(self, history: History, name: str, before: Snapshot | None) -> None:
        """Checkpoint; if that fails, as it was."""
        try:
            await history.checkpoint()
        except BaseException:
            if before is None:
                history.chain.snapshots.pop(name, None)
            else:
                history.chain.snapshots[name] = before
            raise

    async def open_view(self, point: Point) -> views.View:
        """The point as a read-only disk; close it in the end."""
        return await views.View.open(self.require_history(), point, self.sector, self.post)

    @property
    def is_journaling(self) -> bool:
        return self.path is not None and self.path.mode is Mode.JOURNALING
