"""What can be asked for on the panel, from the top."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec

from appliance.errors import EbbtideError
from appliance.operators.answers import AlertAnswer, DiskAnswer, SnapshotAnswer, VolumeAnswer
from appliance.operators.explanations import explain
from appliance.operators.panel.deed import Deed, begin
from appliance.operators.panel.idle import every_alert, window
from appliance.operators.panel.progress import JobProgress
from appliance.operators.panel.restore import restore
from appliance.operators.panel.screen import (
    Arguments,
    Choice,
    Choices,
    Face,
    Json,
    Pages,
    Screen,
    sentence,
)
from appliance.operators.text import words

SNAPSHOT_NAME: Final = "%Y%m%dT%H%M%SZ"
"""Snapshots are named by their time: sixteen characters, which is what the glass has."""

OnVolume = Callable[[Face, VolumeAnswer], None]


def open_menu(face: Face) -> None:
    """The first menu.  Restore comes first, because who comes to a box in haste wants it; it is
    asked for twice and held for three seconds, so no slip begins it."""
    entries = (
        Choice("Restore", lambda: _choose_volume(face, restore)),
        Choice("Snapshot", lambda: _choose_volume(face, _snapshot)),
        Choice("Status", lambda: _choose_volume(face, _status)),
        Choice("Sync", lambda: _choose_volume(face, _sync)),
        Choice("Disks", lambda: _disks(face)),
        Choice("Alerts", lambda: _alerts(face)),
    )
    face.open(Choices(face, "Menu", lambda: entries, ""))


def _choose_volume(face: Face, then: OnVolume) -> None:
    """With several, from the one that the idle page showed; these are not renewed under the eye of
    a person who is about to press."""
    volumes = list(face.volumes)
    if len(volumes) == 1:
        then(face, volumes[0])
        return
    entries = [Choice(volume.name, partial(then, face, volume)) for volume in volumes]
    face.open(Choices(face, "Which volume?", lambda: entries, "no volumes", face.seen))


def _snapshot(face: Face, volume: VolumeAnswer) -> None:
    def request(_: Json, wall: float) -> tuple[str, Arguments]:
        name = datetime.fromtimestamp(wall, UTC).strftime(SNAPSHOT_NAME)
        return "snapshot", {"volume": volume.name, "name": name}

    def done(answer: Json) -> Screen:
        taken = msgspec.convert(answer, SnapshotAnswer).snapshot
        return Pages(face, "Taken:", lambda: [taken.name, f"write {taken.write}"])

    begin(face, Deed("Snapshot", lambda _: [f"Snapshot of {volume.name}"], request, done))


def _sync(face: Face, volume: VolumeAnswer) -> None:
    kinds: dict[str, Arguments] = {
        "Resync": {},
        "Full scan": {"full": True},
        "Verify only": {"verify": True},
    }

    def chosen(label: str) -> None:
        begin(
            face,
            Deed(
                label,
                lambda _: [f"{label} of {volume.name}"],
                lambda _, wall: ("sync", {"volume": volume.name, **kinds[label]}),
                lambda answer: JobProgress(face, volume.name, answer),
            ),
        )

    entries = [Choice(label, partial(chosen, label)) for label in kinds]
    face.open(Choices(face, f"Sync {volume.name}", lambda: entries, ""))


def _status(face: Face, volume: VolumeAnswer) -> None:
    def pages() -> Sequence[str]:
        for known in face.volumes:
            if known.name == volume.name:
                return _facts(known)
        return ["no such volume"]

    face.open(Pages(face, volume.name, pages))


def _facts(volume: VolumeAnswer) -> list[str]:
    facts = [
        volume.state,
        f"window {window(volume)}",
        f"size {words.size(volume.size)}",
        (
            f"history {words.size(volume.history.used_bytes)}"
            f" of {words.size(volume.history.capacity_bytes)}"
        ),
        f"write {volume.write_number}",
    ]
    for role, disk in (("primary", volume.primary), ("secondary", volume.secondary)):
        facts.append(f"{role} {'is missing' if disk is None else disk.serial or disk.id}")
    if volume.dirty_regions:
        facts.append(f"{words.size(volume.dirty_bytes)} unsettled")
    if volume.last_job is not None:
        facts.append(f"last {volume.last_job.kind} {volume.last_job.result}")
    return facts


def _disks(face: Face) -> None:
    def entries() -> Sequence[Choice]:
        return [
            Choice(disk.id, partial(_disk, face, disk.id, disk.node), (disk.id, disk.node))
            for disk in face.disks
        ]

    face.open(Choices(face, "Disks", entries, "no disks"))


def _disk(face: Face, identity: str, node: str) -> None:
    """By its node, too: two disks that are attached may have one id."""

    def pages() -> Sequence[str]:
        for disk in face.disks:
            if (disk.id, disk.node) == (identity, node):
                return _disk_facts(disk)
        return ["is gone"]

    face.open(Pages(face, identity, pages))


def _disk_facts(disk: DiskAnswer) -> list[str]:
    warmth = "" if disk.temperature is None else f", {disk.temperature} °C"
    return [
        f"{disk.role} of {disk.volume}" if disk.volume else "no volume",
        disk.state,
        f"health {disk.health}{warmth}",
        words.size(disk.size),
        disk.model or "model unknown",
        f"serial {disk.serial or 'unknown'}",
        f"as {disk.node}",
    ]


def _alerts(face: Face) -> None:
    def entries() -> Sequence[Choice]:
        return [
            Choice(f"{alert.code} {name}", partial(_alert, face, alert), (name, alert))
            for name, alert in every_alert(face)
        ]

    face.open(Choices(face, "Alerts", entries, "none now"))


def _alert(face: Face, alert: AlertAnswer) -> None:
    try:
        meaning = explain(alert.code).explanation
    except EbbtideError:
        meaning = ""
    face.open(sentence(face, alert.code, f"{alert.text}. {meaning}"))
