"""What the operators' rooms need from the appliance, told so that a fake is easy.

`Volume` is met by the engine's volume and `Appliance` by the service.  Every
call is made on the loop's thread and returns at once; what takes several turns
is awaited in a task of `appliance.cdp.tasks`.  Errors are `appliance.errors`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from appliance.cdp.interfaces import DiskIdentity, Timer
from appliance.cdp.jobs import Job
from appliance.cdp.points import Gap, MapSummary, Point, Snapshot, Window
from appliance.drivers.smart import NOT_ASKED, Health
from appliance.event_log import Event
from appliance.events import Emit


@dataclass(frozen=True, slots=True)
class AttachedDisk:
    """A disk that is connected now.  `role` is "primary", "secondary" or "" (free), `state` a
    phrase for people."""

    identity: DiskIdentity
    size: int
    logical_block: int
    physical_block: int
    direct: bool
    role: str
    volume: str | None
    state: str
    health: Health = NOT_ASKED


class LabelledDisk(Protocol):
    """A disk, as far as its label goes."""

    @property
    def identity(self) -> DiskIdentity: ...


@dataclass(frozen=True, slots=True)
class AbsentVolume:
    """A volume of which a disk is here, and which is not in service; `alerts` says why."""

    name: str
    size: int
    primary: LabelledDisk | None
    secondary: LabelledDisk | None
    alerts: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class View:
    """A point that is exported to hosts under `name`."""

    name: str
    volume: str
    point: Point


class RestorePlan(Protocol):
    """What a restore would do: that many blocks of 4 KiB, that many bytes."""

    @property
    def point(self) -> Point: ...
    @property
    def blocks(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def disconnects_hosts(self) -> bool: ...


class Word(Protocol):
    """One of a few words: a member of an enum."""

    @property
    def value(self) -> str: ...


class Volume(Protocol):
    """A protected volume, as it is looked at.  Met by the engine's volume."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def service(self) -> Word:
        """offline, recovering, online or failover."""
        ...

    @property
    def protection(self) -> Word:
        """none, tracking, syncing or protected."""
        ...

    @property
    def state(self) -> str:
        """Both in one word for people."""
        ...

    @property
    def write_number(self) -> int: ...
    @property
    def primary(self) -> LabelledDisk | None: ...
    @property
    def secondary(self) -> LabelledDisk | None: ...
    @property
    def dirty_regions(self) -> int: ...
    @property
    def dirty_bytes(self) -> int: ...
    @property
    def job(self) -> Job | None: ...
    @property
    def last_job(self) -> Job | None: ...
    def window(self) -> Window | None: ...
    def history_bytes(self) -> tuple[int, int]:
        """Capacity and use, in bytes."""
        ...

    def alerts(self) -> Sequence[tuple[str, str]]:
        """What a person should know now: an event's code, and a sentence."""
        ...

    def maps(self) -> Sequence[MapSummary]:
        """The chain, oldest first."""
        ...

    def snapshots(self) -> Sequence[Snapshot]: ...
    def gaps(self) -> Sequence[Gap]: ...
    def resolve(self, text: str) -> Awaitable[Point]: ...
    def take_snapshot(self, name: str, pinned: bool) -> Awaitable[Snapshot]: ...
    def delete_snapshot(self, name: str) -> Awaitable[None]: ...
    def pin_snapshot(self, name: str, pinned: bool) -> Awaitable[None]: ...


class Image(Protocol):
    """The firmware image that the service runs in.  `proven`: it has shown that it works.
    `alerts` are what a person should know of it now: sentences by their events' codes."""

    version: str
    build: str
    slot: str
    proven: bool
    alerts: dict[str, str]

    def hear(self, code: str, **fields: str) -> None:
        """An event about it happened; the fields are its sentence's."""
        ...


class Appliance(Protocol):
    """The whole box.  Volumes go by their names."""

    @property
    def emit(self) -> Emit: ...
    @property
    def image(self) -> Image | None:
        """None on a machine that runs no image of ours."""
        ...

    @property
    def volumes(self) -> Mapping[str, Volume]: ...
    def absent_volumes(self) -> Sequence[AbsentVolume]:
        """Those of the attached disks that are not in `volumes`."""
        ...

    def disk_alerts(self, volume: str) -> Sequence[tuple[str, str]]:
        """What a person should know of the volume's disks: an event's code, and a sentence."""
        ...

    def disks(self) -> Sequence[AttachedDisk]: ...
    def protect(
        self, name: str, primary_id: str, secondary_id: str, *, consent: bool, wipe: str | None
    ) -> Awaitable[None]:
        """Over when the volume is in `volumes` and serves hosts; its baseline is a job.
        Raises NeedsConsent where data on a disk would go.  `wipe` names the secondary again:
        whatever it carries is destroyed."""
        ...

    def release(self, name: str) -> Awaitable[None]: ...
    def synchronise(self, name: str, kind: Literal["full", "resync", "verify"]) -> Job: ...
    def plan_restore(self, name: str, point: Point, force: bool) -> Awaitable[RestorePlan]:
        """Raises PointSuspect for a suspect point, unless forced."""
        ...

    def restore(self, name: str, plan: Any) -> Job:
        """Takes a plan of `plan_restore`, and disconnects hosts first."""
        ...

    def give_up_restore(self, name: str) -> Awaitable[None]:
        """Stop a restore half-way and let hosts in to what is there; durable when it is over.
        VolumeNotReady if none has begun."""
        ...

    def pause_job(self, name: str, paused: bool) -> None:
        """Hold the volume's running job, or let it go on; idempotent."""
        ...

    def set_policies(self, name: str, wanted: Mapping[str, str]) -> Awaitable[None]:
        """`ack` and `throttle`, as `parameters.SETTINGS` tells; over when they are durable.

        Raises BadRequest for a ceiling below its floor.
        """
        ...

    def create_view(self, volume: str, point: str) -> Awaitable[View]: ...
    def list_views(self) -> Sequence[View]: ...
    def drop_view(self, name: str) -> Awaitable[None]: ...
    def events(self, volume: str | None, after: int, limit: int) -> Sequence[Event]:
        """The newest `limit` with a number above `after`, oldest first."""
        ...


class Timers(Protocol):
    """The part of the loop that actions use."""

    def after(self, seconds: float, action: Callable[[], None]) -> Timer: ...
