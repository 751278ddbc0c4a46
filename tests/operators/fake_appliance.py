"""An appliance with no disks behind it, for the operators' rooms and their faces."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.cdp import volume
from appliance.cdp.interfaces import DiskIdentity
from appliance.cdp.jobs import Job, JobKind
from appliance.cdp.points import Gap, MapSummary, Point, Snapshot, Window
from appliance.cdp.tasks import Cancelled, Completion, Task
from appliance.cdp.volume import Protection, Service
from appliance.drivers.smart import NOT_ASKED, Health
from appliance.errors import (
    BadPoint,
    DiskNotFound,
    EbbtideError,
    JobRunning,
    NeedsConsent,
    SnapshotExists,
    VolumeExists,
    VolumeNotReady,
)
from appliance.event_log import Event, EventLog
from appliance.operators import interfaces
from appliance.operators.interfaces import AbsentVolume, AttachedDisk, Image, Timers, View

MIB = 1 << 20
HEALTH = {"p": Health("good", "", 34), "s": Health("failing", "its spare blocks run out")}
NOON = 1_795_348_800_000_000_000
"""2026-11-22T12:00:00Z."""
MINUTE = 60_000_000_000
PLAN_SECONDS = 0.01
"""A restore's plan takes as long."""


class MachineClock:
    def wall_ns(self) -> int:
        return NOON

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


@dataclass(frozen=True)
class FakePlan:
    point: Point
    blocks: int
    bytes: int
    disconnects_hosts: bool


@dataclass
class FakeDisk:
    identity: DiskIdentity


@dataclass
class FakeVolume:
    name: str
    loop: Timers
    primary: FakeDisk | None = None
    secondary: FakeDisk | None = None
    size: int = 64 * MIB
    service: Service = Service.ONLINE
    protection: Protection = Protection.PROTECTED
    state: str = "protected"
    write_number: int = 1200
    dirty_regions: int = 3
    dirty_bytes: int = 3 * MIB
    job: Job | None = None
    last_job: Job | None = None
    ack: str = "both"
    steps: int = 4
    """Of a job; each is a MiB and a turn of the loop."""
    failure: Exception | None = None
    """What the next job fails of."""
    stalled: bool = False
    """Jobs make no step."""
    held: Completion[None] | None = None
    """What a snapshot waits for."""
    chain: list[MapSummary] = field(default_factory=list)
    names: dict[str, Snapshot] = field(default_factory=dict)
    holes: list[Gap] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    _jobs: int = 0

    def window(self) -> Window | None:
        if not self.chain:
            return None
        return Window(
            self.chain[0].opened_ns,
            self.chain[-1].closed_ns or NOON,
            self.chain[0].first_write,
            self.chain[-1].last_write,
        )

    def history_bytes(self) -> tuple[int, int]:
        return 128 * MIB, 32 * MIB

    def alerts(self) -> Sequence[tuple[str, str]]:
        return self.told

    def maps(self) -> Sequence[MapSummary]:
        return list(self.chain)

    def snapshots(self) -> Sequence[Snapshot]:
        return list(self.names.values())

    def gaps(self) -> Sequence[Gap]:
        return list(self.holes)

    async def resolve(self, text: str) -> Point:
        if text.startswith("write:"):
            return Point(int(text[6:]), None, text)
        if text.startswith("snapshot:") and text[9:] in self.names:
            found = self.names[text[9:]]
            return Point(found.write, found.time_ns, text)
        if text == "-10m":
            return Point(1000, NOON - 10 * MINUTE, text)
        raise BadPoint(point=text, reason="it is neither a time, a snapshot nor a write")

    async def take_snapshot(self, name: str, pinned: bool) -> Snapshot:
        if name in self.names:
            raise SnapshotExists(name=name)
        if self.held is not None:
            await self.held
        self.names[name] = Snapshot(name, self.write_number, NOON, pinned)
        return self.names[name]

    async def delete_snapshot(self, name: str) -> None:
        del self.names[name]

    async def pin_snapshot(self, name: str, pinned: bool) -> None:
        known = self.names[name]
        self.names[name] = Snapshot(name, known.write, known.time_ns, pinned)

    def start(self, kind: JobKind) -> Job:
        if self.job is not None:
            raise JobRunning(volume=self.name, kind=self.job.kind)
        self._jobs += 1
        job = Job(self._jobs, kind, self.name, MachineClock(), bytes_total=self.steps * MIB)
        self.job = job
        job.task = Task(self._run(job))
        return job

    async def _run(self, job: Job) -> None:
        job.phase = "copying"
        try:
            while self.stalled or job.bytes_copied < job.bytes_total:
                pause: Completion[None] = Completion()
                seconds = 0.1 if self.stalled else 0.01
                self.loop.after(seconds, lambda pause=pause: pause.succeed(None))  # type: ignore[misc]
                await pause
                await job.step()
                if not self.stalled:
                    job.advance(scanned=MIB, copied=MIB)
        except Cancelled:
            self._end(job, "cancelled")
            return
        self._end(job, "done" if self.failure is None else "failed")

    def _end(self, job: Job, result: str) -> None:
        self.job, self.last_job = None, job
        job.end(result, self.failure if result == "failed" else None)  # type: ignore[arg-type]


class FakeAppliance:
    """Two free disks `a` and `b`, and the volume `finance` on `p` and `s`."""

    def __init__(self, loop: Timers, state_dir: Path) -> None:
        self.loop = loop
        self.log = EventLog(state_dir, MachineClock().wall_ns)
        self.emit = self.log.emit
        self.labels = {
            name: DiskIdentity(name, f"/dev/sd{name}", f"SN-{name}", "Model \x1b[31m9")
            for name in "abps"
        }
        self.absent: list[AbsentVolume] = []
        self.image: Image | None = None
        self.alerts_of_disks: list[tuple[str, str]] = []
        self.views: dict[str, View] = {}
        finance = FakeVolume(
            "finance", loop, FakeDisk(self.labels["p"]), FakeDisk(self.labels["s"])
        )
        self.volumes = {"finance": finance}
        self.finance = finance
        for number in range(4):
            finance.chain.append(
                MapSummary(
                    number + 1,
                    "host",
                    "time",
                    number * 300 + 1,
                    number * 300 + 300,
                    NOON - (20 - number * 5) * MINUTE,
                    NOON - (15 - number * 5) * MINUTE if number < 3 else None,
                    (number + 1) * MIB,
                    number == 1,
                )
            )
        finance.names["before-upgrade"] = Snapshot("before-upgrade", 450, NOON - 12 * MINUTE, True)
        finance.holes.append(Gap(700, 720, "the secondary was away"))

    def absent_volumes(self) -> Sequence[AbsentVolume]:
        return self.absent

    def disk_alerts(self, volume: str) -> Sequence[tuple[str, str]]:
        return self.alerts_of_disks

    def disks(self) -> Sequence[AttachedDisk]:
        roles = {"p": "primary", "s": "secondary"}
        return [
            AttachedDisk(
                label,
                64 * MIB,
                512,
                4096,
                True,
                roles.get(name, ""),
                "finance" if name in roles else None,
                "in use" if name in roles else "free",
                HEALTH.get(name, NOT_ASKED),
            )
            for name, label in self.labels.items()
        ]

    async def protect(
        self, name: str, primary_id: str, secondary_id: str, *, consent: bool, wipe: str | None
    ) -> None:
        for disk in (primary_id, secondary_id):
            if disk not in self.labels:
                raise DiskNotFound(disk=disk)
        if name in self.volumes:
            raise VolumeExists(volume=name)
        if primary_id == "b" and not consent:
            raise NeedsConsent(consequence="the ext4 file system on b would be adopted")
        if wipe is not None and not consent:
            raise NeedsConsent(consequence=f"what {wipe} carries would be destroyed")
        created = FakeVolume(
            name,
            self.loop,
            FakeDisk(self.labels[primary_id]),
            FakeDisk(self.labels[secondary_id]),
        )
        self.volumes[name] = created
        created.start("baseline")

    async def release(self, name: str) -> None:
        del self.volumes[name]

    def synchronise(self, name: str, kind: JobKind) -> Job:
        return self.volumes[name].start(kind)

    def plan_restore(self, name: str, point: Point, force: bool) -> Completion[FakePlan]:
        plan: Completion[FakePlan] = Completion()
        self.loop.after(PLAN_SECONDS, lambda: plan.succeed(FakePlan(point, 512, 2 * MIB, True)))
        return plan

    def restore(self, name: str, plan: FakePlan) -> Job:
        return self.volumes[name].start("restore")

    async def give_up_restore(self, name: str) -> None:
        job = self.volumes[name].job
        if job is None or job.kind != "restore":
            raise VolumeNotReady(volume=name, state="protected", reason="it owes no restore")
        job.cancel()

    def pause_job(self, name: str, paused: bool) -> None:
        job = self.volumes[name].job
        assert job is not None
        if paused:
            job.pause()
        else:
            job.go_on()

    async def set_policies(self, name: str, wanted: Mapping[str, str]) -> None:
        self.volumes[name].ack = wanted["ack"]

    async def create_view(self, volume: str, point: str) -> View:
        name = f"{volume}@{point}"
        self.views[name] = View(name, volume, await self.volumes[volume].resolve(point))
        return self.views[name]

    def list_views(self) -> Sequence[View]:
        return list(self.views.values())

    async def drop_view(self, name: str) -> None:
        if name not in self.views:
            raise EbbtideError(reason=f"there is no view {name}")
        del self.views[name]

    def events(self, volume: str | None, after: int, limit: int) -> Sequence[Event]:
        return self.log.events(volume, after, limit)


def check_statically(
    engine: volume.Volume, service: FakeAppliance
) -> tuple[interfaces.Volume, interfaces.Appliance]:
    """The engine's volume and the fake are what the operators' rooms ask for: mypy says so."""
    return engine, service
