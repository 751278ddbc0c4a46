"""The answers of verbs: the shapes that `cdpctl --json` prints and rigs rely on.

`SCHEMA` grows when a shape changes so that an old reader would misread it;
new keys do not count.  Times are RFC 3339 UTC, sizes bytes.
"""

from typing import Any, Final, Self

import msgspec

from appliance.errors import EbbtideError
from appliance.event_log import Event
from appliance.wording import printable

SCHEMA: Final = 1


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Every answer says its schema."""

    schema: int = SCHEMA


class ErrorAnswer(msgspec.Struct, frozen=True):
    """An error for people and programs.  `answer` is what the verb has to say all the same: the
    plan of what was not done."""

    code: str
    sentence: str
    remedy: str
    exit_code: int
    answer: Any = None

    @classmethod
    def of(cls, error: Exception) -> Self:
        """An exception in words.  What is no error of ours is named by its type only."""
        if not isinstance(error, EbbtideError):
            error = EbbtideError(reason=type(error).__name__)
        return cls(
            code=error.code,
            sentence=printable(str(error)),
            remedy=error.remedy,
            exit_code=error.exit_code,
            answer=error.fields.get("answer"),
        )


class DiskAnswer(msgspec.Struct, frozen=True):
    """`health` is good, failing or unknown; `health_reason` may be empty; `temperature` in °C."""

    id: str
    node: str
    serial: str
    model: str
    wwn: str
    size: int
    logical_block: int
    physical_block: int
    direct: bool
    role: str
    volume: str | None
    state: str
    health: str
    health_reason: str
    temperature: int | None


class DisksAnswer(Answer, frozen=True):
    disks: list[DiskAnswer]


class LabelAnswer(msgspec.Struct, frozen=True):
    id: str
    node: str
    serial: str


class WindowAnswer(msgspec.Struct, frozen=True):
    oldest: str
    newest: str
    oldest_write: int
    newest_write: int


class HistoryAnswer(msgspec.Struct, frozen=True):
    capacity_bytes: int
    used_bytes: int


class JobDescription(msgspec.Struct, frozen=True):
    number: int
    volume: str
    kind: str
    phase: str
    bytes_total: int
    bytes_done: int
    bytes_scanned: int
    bytes_different: int
    bytes_copied: int
    eta_seconds: float | None
    started: str
    ended: str | None
    result: str | None
    error: ErrorAnswer | None


class AlertAnswer(msgspec.Struct, frozen=True):
    code: str
    text: str


class VolumeAnswer(msgspec.Struct, frozen=True):
    name: str
    state: str
    service: str
    protection: str
    size: int
    write_number: int
    primary: LabelAnswer | None
    secondary: LabelAnswer | None
    dirty_regions: int
    dirty_bytes: int
    window: WindowAnswer | None
    history: HistoryAnswer
    gaps: int
    suspect_maps: int
    job: JobDescription | None
    last_job: JobDescription | None
    alerts: list[AlertAnswer]


class OperatorAnswer(msgspec.Struct, frozen=True):
    """Who holds the operator lock."""

    actor: str
    since: str


class ImageAnswer(msgspec.Struct, frozen=True):
    """The firmware image that runs, from which slot, and whether it has shown that it works."""

    version: str
    build: str
    slot: str
    proven: bool
    alerts: list[AlertAnswer]


class StatusAnswer(Answer, frozen=True):
    """`image` is None where the service runs on something else than an image of ours."""

    volumes: list[VolumeAnswer]
    operator: OperatorAnswer | None
    image: ImageAnswer | None = None


class LockAnswer(Answer, frozen=True):
    """How the operator lock is now."""

    operator: OperatorAnswer | None


class GlassAnswer(Answer, frozen=True):
    """What the front panel shows: two lines of 16 characters."""

    lines: list[str]
    backlight: str


class KeyDescription(msgspec.Struct, frozen=True):
    """A key to press on the front panel; numbers grow."""

    number: int
    key: str
    hold: float


class KeysAnswer(Answer, frozen=True):
    keys: list[KeyDescription]


class MapAnswer(msgspec.Struct, frozen=True):
    id: int
    kind: str
    order: str
    first_write: int
    last_write: int
    opened: str
    closed: str | None
    bytes: int
    suspect: bool


class SnapshotDescription(msgspec.Struct, frozen=True):
    name: str
    write: int
    time: str
    pinned: bool


class GapAnswer(msgspec.Struct, frozen=True):
    from_write: int
    to_write: int
    reason: str


class TimelineAnswer(Answer, frozen=True):
    volume: str
    window: WindowAnswer | None
    maps: list[MapAnswer]
    snapshots: list[SnapshotDescription]
    gaps: list[GapAnswer]


class VolumeJobAnswer(Answer, frozen=True):
    """Of verbs that give a volume something to do."""

    volume: str
    job: JobDescription | None


class ReleaseAnswer(Answer, frozen=True):
    volume: str


class SnapshotAnswer(Answer, frozen=True):
    """`done` is taken, pinned, unpinned or deleted; a deleted snapshot is shown as it was."""

    volume: str
    done: str
    snapshot: SnapshotDescription


class PlanAnswer(msgspec.Struct, frozen=True):
    point: str
    write: int
    time: str | None
    blocks: int
    bytes: int
    disconnects_hosts: bool


class RestoreAnswer(Answer, frozen=True):
    """`job` is null while the restore is only planned."""

    volume: str
    plan: PlanAnswer
    job: JobDescription | None


class GiveUpAnswer(Answer, frozen=True):
    volume: str


class ViewDescription(msgspec.Struct, frozen=True):
    name: str
    volume: str
    point: str
    write: int
    time: str | None


class ViewAnswer(Answer, frozen=True):
    view: ViewDescription


class ViewsAnswer(Answer, frozen=True):
    views: list[ViewDescription]


class DroppedAnswer(Answer, frozen=True):
    dropped: str


class SettingsAnswer(Answer, frozen=True):
    volume: str
    settings: dict[str, str]


class NotedAnswer(Answer, frozen=True):
    """It stands in the event log."""


class JobAnswer(Answer, frozen=True):
    job: JobDescription


class JobsAnswer(Answer, frozen=True):
    jobs: list[JobDescription]


class EventsAnswer(Answer, frozen=True):
    events: list[Event]


class FindingDescription(msgspec.Struct, frozen=True):
    """`offset` and `length` are bytes of the disk, or null where it is not about a place."""

    code: str
    severity: str
    disk: str
    what: str
    reason: str
    offset: int | None
    length: int | None
    explanation: str


class CheckAnswer(Answer, frozen=True):
    """Nothing is wrong if there are no errors."""

    disks: list[str]
    findings: list[FindingDescription]
    errors: int
    warnings: int
    notes: int


class StructureDescription(msgspec.Struct, frozen=True):
    """A structure on a disk; `damage` says what is wrong with it."""

    what: str
    offset: int
    fields: dict[str, Any]
    damage: str | None


class ExplanationAnswer(Answer, frozen=True):
    """`is_event` tells what happened; otherwise it is an error, and `remedy` what to do."""

    code: str
    is_event: bool
    severity: str
    sentence: str
    explanation: str
    remedy: str | None
