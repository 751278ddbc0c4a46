"""The appliance's things put into the shapes of answers.

Strings that came from disks or hosts lose whatever is not printable on the way.
"""

from collections.abc import Sequence

from appliance.cdp.jobs import Job
from appliance.cdp.points import Gap, MapSummary, Snapshot, Window
from appliance.event_log import rfc3339
from appliance.operators.answers import (
    AlertAnswer,
    DiskAnswer,
    ErrorAnswer,
    GapAnswer,
    HistoryAnswer,
    ImageAnswer,
    JobDescription,
    LabelAnswer,
    MapAnswer,
    OperatorAnswer,
    PlanAnswer,
    SnapshotDescription,
    ViewDescription,
    VolumeAnswer,
    WindowAnswer,
)
from appliance.operators.interfaces import (
    AbsentVolume,
    AttachedDisk,
    Image,
    LabelledDisk,
    RestorePlan,
    View,
    Volume,
)
from appliance.operators.operator_lock import OperatorLock
from appliance.wording import printable


def describe_disk(disk: AttachedDisk) -> DiskAnswer:
    return DiskAnswer(
        id=disk.identity.id,
        node=disk.identity.node,
        serial=printable(disk.identity.serial),
        model=printable(disk.identity.model),
        wwn=printable(disk.identity.wwn),
        size=disk.size,
        logical_block=disk.logical_block,
        physical_block=disk.physical_block,
        direct=disk.direct,
        role=disk.role,
        volume=disk.volume,
        state=printable(disk.state),
        health=disk.health.verdict,
        health_reason=printable(disk.health.reason),
        temperature=disk.health.temperature,
    )


def describe_volume(volume: Volume, alerts: Sequence[tuple[str, str]]) -> VolumeAnswer:
    """`alerts` are of its disks; its own come first."""
    capacity, used = volume.history_bytes()
    return VolumeAnswer(
        name=volume.name,
        state=volume.state,
        service=volume.service.value,
        protection=volume.protection.value,
        size=volume.size,
        write_number=volume.write_number,
        primary=_label(volume.primary),
        secondary=_label(volume.secondary),
        dirty_regions=volume.dirty_regions,
        dirty_bytes=volume.dirty_bytes,
        window=describe_window(volume.window()),
        history=HistoryAnswer(capacity, used),
        gaps=len(volume.gaps()),
        suspect_maps=sum(delta_map.suspect for delta_map in volume.maps()),
        job=None if volume.job is None else describe_job(volume.job),
        last_job=None if volume.last_job is None else describe_job(volume.last_job),
        alerts=[AlertAnswer(code, printable(text)) for code, text in (*volume.alerts(), *alerts)],
    )


def describe_absent(volume: AbsentVolume) -> VolumeAnswer:
    return VolumeAnswer(
        name=printable(volume.name),
        state="offline",
        service="offline",
        protection="none",
        size=volume.size,
        write_number=0,
        primary=_label(volume.primary),
        secondary=_label(volume.secondary),
        dirty_regions=0,
        dirty_bytes=0,
        window=None,
        history=HistoryAnswer(0, 0),
        gaps=0,
        suspect_maps=0,
        job=None,
        last_job=None,
        alerts=[AlertAnswer(code, printable(text)) for code, text in volume.alerts],
    )


def describe_image(image: Image | None) -> ImageAnswer | None:
    if image is None:
        return None
    return ImageAnswer(
        version=printable(image.version),
        build=printable(image.build),
        slot=image.slot,
        proven=image.proven,
        alerts=[AlertAnswer(code, printable(text)) for code, text in image.alerts.items()],
    )


def describe_lock(lock: OperatorLock) -> OperatorAnswer | None:
    if lock.holder is None:
        return None
    return OperatorAnswer(lock.holder.actor, rfc3339(lock.since_ns))


def describe_window(window: Window | None) -> WindowAnswer | None:
    if window is None:
        return None
    return WindowAnswer(
        oldest=rfc3339(window.oldest_ns),
        newest=rfc3339(window.newest_ns),
        oldest_write=window.oldest_write,
        newest_write=window.newest_write,
    )


def describe_job(job: Job) -> JobDescription:
    return JobDescription(
        number=job.number,
        volume=job.volume,
        kind=job.kind,
        phase="paused" if job.paused and job.result is None else job.phase,
        bytes_total=job.bytes_total,
        bytes_done=job.bytes_done,
        bytes_scanned=job.bytes_scanned,
        bytes_different=job.bytes_different,
        bytes_copied=job.bytes_copied,
        eta_seconds=job.eta_seconds(),
        started=rfc3339(job.started_ns),
        ended=None if job.ended_ns is None else rfc3339(job.ended_ns),
        result=job.result,
        error=None if job.error is None else ErrorAnswer.of(job.error),
    )


def describe_map(delta_map: MapSummary) -> MapAnswer:
    return MapAnswer(
        id=delta_map.id,
        kind=delta_map.kind,
        order=delta_map.order,
        first_write=delta_map.first_write,
        last_write=delta_map.last_write,
        opened=rfc3339(delta_map.opened_ns),
        closed=None if delta_map.closed_ns is None else rfc3339(delta_map.closed_ns),
        bytes=delta_map.bytes,
        suspect=delta_map.suspect,
    )


def describe_snapshot(snapshot: Snapshot) -> SnapshotDescription:
    return SnapshotDescription(
        name=printable(snapshot.name),
        write=snapshot.write,
        time=rfc3339(snapshot.time_ns),
        pinned=snapshot.pinned,
    )


def describe_gap(gap: Gap) -> GapAnswer:
    return GapAnswer(gap.from_write, gap.to_write, printable(gap.reason))


def describe_plan(plan: RestorePlan) -> PlanAnswer:
    point = plan.point
    return PlanAnswer(
        point=point.text,
        write=point.write,
        time=None if point.time_ns is None else rfc3339(point.time_ns),
        blocks=plan.blocks,
        bytes=plan.bytes,
        disconnects_hosts=plan.disconnects_hosts,
    )


def describe_view(view: View) -> ViewDescription:
    return ViewDescription(
        name=view.name,
        volume=view.volume,
        point=view.point.text,
        write=view.point.write,
        time=None if view.point.time_ns is None else rfc3339(view.point.time_ns),
    )


def _label(disk: LabelledDisk | None) -> LabelAnswer | None:
    if disk is None:
        return None
    label = disk.identity
    return LabelAnswer(label.id, label.node, printable(label.serial))
