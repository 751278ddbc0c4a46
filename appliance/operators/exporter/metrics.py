"""What a reading says in Prometheus' terms.

Names follow its conventions: base units, counters and no other metric end in
`_total`.  Labels hold names of volumes, ids of disks, codes and words of fixed
lists; nothing that grows with time, such as a job's or a write's number.  A
series is there only while what it tells of is.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)

from appliance.events import KINDS
from appliance.operators.answers import DiskAnswer, JobDescription, VolumeAnswer
from appliance.operators.exporter.reading import Reading

STATES: Final = (
    "offline",
    "recovering",
    "tracking",
    "syncing",
    "protected",
    "restoring",
    "failover",
)
PROTECTIONS: Final = ("none", "tracking", "syncing", "protected")
HEALTHS: Final = ("good", "failing", "unknown")
LABEL_MAXIMUM: Final = 128
"""Characters of a label's value that came from a disk."""


class Metrics:
    """What is exposed for a reading, or for its absence: then nothing but `ebbtide_up 0`."""

    def __init__(self, reading: Reading | None) -> None:
        self._reading = reading

    def collect(self) -> Iterator[Metric]:
        reading = self._reading
        yield GaugeMetricFamily(
            "ebbtide_up", "Whether the service answered.", value=float(reading is not None)
        )
        if reading is None:
            return
        yield InfoMetricFamily(
            "ebbtide_build", "The release of the service.", {"release": reading.release}
        )
        yield from _volumes(reading.volumes)
        yield from _jobs([volume.job for volume in reading.volumes if volume.job is not None])
        yield from _last_jobs(
            [volume.last_job for volume in reading.volumes if volume.last_job is not None]
        )
        yield from _disks(list({disk.id: disk for disk in reading.disks}.values()))
        yield from _events(reading)


def _volumes(volumes: Sequence[VolumeAnswer]) -> Iterator[Metric]:
    state = _family("volume_state", "The state in one word: 1 for it, 0 for the others.", "state")
    protection = _family(
        "volume_protection", "Whether writes are kept: 1 for the word that holds.", "protection"
    )
    present = _family("volume_disk_present", "Whether the volume has this disk.", "role")
    alert = _family("volume_alert", "An alert that is there now, by its code.", "code")
    size = _family("volume_size_bytes", "What hosts see.")
    write = _family(
        "volume_write_number", "The newest write; it grows by one with each, so it has a rate."
    )
    dirty = _family("volume_dirty_bytes", "Bytes in regions that may differ between the disks.")
    capacity = _family("volume_history_capacity_bytes", "What the history can hold.")
    used = _family("volume_history_used_bytes", "What the history holds.")
    window = _family("volume_window_seconds", "From the oldest to the newest restorable moment.")
    oldest = _family("volume_window_oldest_timestamp_seconds", "The oldest restorable moment.")
    newest = _family("volume_window_newest_timestamp_seconds", "The newest restorable moment.")
    gaps = _family("volume_gaps", "Stretches of the timeline without a restorable moment.")
    suspects = _family("volume_suspect_maps", "Delta maps whose moments are in doubt.")
    for volume in volumes:
        name = volume.name
        _one_of(state, [name], volume.state, STATES)
        _one_of(protection, [name], volume.protection, PROTECTIONS)
        present.add_metric([name, "primary"], float(volume.primary is not None))
        present.add_metric([name, "secondary"], float(volume.secondary is not None))
        for code in sorted({found.code for found in volume.alerts}):
            alert.add_metric([name, code], 1)
        size.add_metric([name], volume.size)
        write.add_metric([name], volume.write_number)
        dirty.add_metric([name], volume.dirty_bytes)
        capacity.add_metric([name], volume.history.capacity_bytes)
        used.add_metric([name], volume.history.used_bytes)
        gaps.add_metric([name], volume.gaps)
        suspects.add_metric([name], volume.suspect_maps)
        if volume.window is None:
            window.add_metric([name], 0)
            continue
        first, last = _timestamp(volume.window.oldest), _timestamp(volume.window.newest)
        oldest.add_metric([name], first)
        newest.add_metric([name], last)
        window.add_metric([name], max(0.0, last - first))  # the clock may have been set back
    yield from (state, protection, present, alert, size, write, dirty)
    yield from (capacity, used, window, oldest, newest, gaps, suspects)


def _jobs(jobs: Iterable[JobDescription]) -> Iterator[Metric]:
    """Of those that run: how far they are."""
    size = _family("job_size_bytes", "What the running job has to do.", "kind")
    done = _family("job_done_bytes", "What of that it has done.", "kind")
    scanned = _family("job_scanned_bytes", "What it has looked at.", "kind")
    different = _family("job_different_bytes", "What it found different.", "kind")
    copied = _family("job_copied_bytes", "What it has copied.", "kind")
    eta = _family("job_remaining_seconds", "When it will be done, where that is known.", "kind")
    paused = _family("job_paused", "Whether a person holds it.", "kind")
    for job in jobs:
        labels = [job.volume, job.kind]
        size.add_metric(labels, job.bytes_total)
        done.add_metric(labels, job.bytes_done)
        scanned.add_metric(labels, job.bytes_scanned)
        different.add_metric(labels, job.bytes_different)
        copied.add_metric(labels, job.bytes_copied)
        paused.add_metric(labels, float(job.phase == "paused"))
        if job.eta_seconds is not None:
            eta.add_metric(labels, job.eta_seconds)
    yield from (size, done, scanned, different, copied, eta, paused)


def _last_jobs(jobs: Iterable[JobDescription]) -> Iterator[Metric]:
    done = _family("last_job_success", "Whether the last job that ended was done.", "kind")
    ended = _family("last_job_end_timestamp_seconds", "When it ended.", "kind")
    different = _family("last_job_different_bytes", "What it found different.", "kind")
    for job in jobs:
        labels = [job.volume, job.kind]
        done.add_metric(labels, float(job.result == "done"))
        different.add_metric(labels, job.bytes_different)
        if job.ended is not None:
            ended.add_metric(labels, _timestamp(job.ended))
    yield from (done, ended, different)


def _disks(disks: Sequence[DiskAnswer]) -> Iterator[Metric]:
    info = InfoMetricFamily("ebbtide_disk", "The attached disks.", labels=["disk"])
    size = GaugeMetricFamily("ebbtide_disk_size_bytes", "Size of the disk.", labels=["disk"])
    health = GaugeMetricFamily(
        "ebbtide_disk_health",
        "What the disk says of itself: 1 for the word that holds.",
        labels=["disk", "health"],
    )
    temperature = GaugeMetricFamily(
        "ebbtide_disk_temperature_celsius", "Temperature, where the disk tells.", labels=["disk"]
    )
    for disk in disks:
        name = disk.id[:LABEL_MAXIMUM]
        told = {
            "model": disk.model[:LABEL_MAXIMUM],
            "serial": disk.serial[:LABEL_MAXIMUM],
            "role": disk.role,
            "volume": disk.volume or "",
        }
        info.add_metric([name], told)
        size.add_metric([name], disk.size)
        _one_of(health, [name], disk.health, HEALTHS)
        if disk.temperature is not None:
            temperature.add_metric([name], disk.temperature)
    yield from (info, size, health, temperature)


def _events(reading: Reading) -> Iterator[Metric]:
    counted = CounterMetricFamily(
        "ebbtide_events",
        "Events since the exporter started, by their codes.",
        labels=["code", "severity"],
    )
    # Each code from the beginning, so that its first event is an increase.
    for code in sorted({*KINDS, *reading.events}):
        severity = KINDS[code].severity if code in KINDS else "error"
        counted.add_metric([code, severity], reading.events.get(code, 0))
    yield counted
    yield CounterMetricFamily(
        "ebbtide_events_missed",
        "Events that were gone from the service's memory before they could be counted.",
        value=reading.events_missed,
    )


def _family(name: str, help: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ebbtide_{name}", help, labels=["volume", *labels])


def _one_of(
    family: GaugeMetricFamily, labels: list[str], word: str, words: tuple[str, ...]
) -> None:
    """1 for `word` and 0 for the other words; a word that is none of them is shown too."""
    for each in (*words, *{word}.difference(words)):
        family.add_metric([*labels, each], float(each == word))


def _timestamp(time: str) -> float:
    """Seconds since 1970, of RFC 3339 UTC; nanoseconds are lost."""
    return datetime.fromisoformat(time).timestamp()
