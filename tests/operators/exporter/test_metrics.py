"""From what the service says to what Prometheus reads."""

import re
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families
from prometheus_client.samples import Sample

from appliance.cdp import volume as engine
from appliance.cdp.volume import Protection
from appliance.events import DIFFERENCES, KINDS, MORE_OF_THESE
from appliance.operators.answers import (
    AlertAnswer,
    DiskAnswer,
    HistoryAnswer,
    JobDescription,
    LabelAnswer,
    VolumeAnswer,
    WindowAnswer,
)
from appliance.operators.control.client import ControlClient
from appliance.operators.exporter.metrics import PROTECTIONS, STATES, Metrics
from appliance.operators.exporter.reading import EVENTS_A_LOOK, EventCounts, Reading

JOB = JobDescription(
    number=7,
    volume="finance",
    kind="resync",
    phase="copying",
    bytes_total=4096,
    bytes_done=1280,
    bytes_scanned=1024,
    bytes_different=512,
    bytes_copied=256,
    eta_seconds=1.5,
    started="2026-11-22T12:00:00.000000000Z",
    ended=None,
    result=None,
    error=None,
)
VOLUME = VolumeAnswer(
    name="finance",
    state="syncing",
    service="online",
    protection="syncing",
    size=1 << 26,
    write_number=1200,
    primary=LabelAnswer("p", "/dev/sdp", "SN-p"),
    secondary=None,
    dirty_regions=3,
    dirty_bytes=3 << 20,
    window=WindowAnswer(
        "2026-11-22T11:40:00.000000001Z", "2026-11-22T12:00:00.500000001Z", 1, 1200
    ),
    history=HistoryAnswer(1 << 27, 1 << 25),
    gaps=1,
    suspect_maps=2,
    job=JOB,
    last_job=msgspec.structs.replace(
        JOB, kind="verify", result="failed", ended="2026-11-22T11:59:00.250000000Z"
    ),
    alerts=[AlertAnswer("EV411", "points are suspect"), AlertAnswer("EV411", "more of them")],
)
DISK = DiskAnswer(
    id='ata-"x"\\1',
    node="/dev/sdp",
    serial="S\N{SNOWMAN}N",
    model="M" * 500,
    wwn="",
    size=1 << 30,
    logical_block=512,
    physical_block=4096,
    direct=True,
    role="primary",
    volume="finance",
    state="in service",
    health="good",
    health_reason="",
    temperature=31,
)
READING = Reading(
    release="1.2.3", volumes=[VOLUME], disks=[DISK], events={"EV101": 3}, events_missed=2
)


def samples(reading: Reading | None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus reads, by name and labels; no series may stand twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families(generate_latest(Metrics(reading)).decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(reading: Reading, name: str, **labels: str) -> float:
    return samples(reading)[name, frozenset(labels.items())]


def every_sample(reading: Reading) -> list[Sample]:
    parsed = families(generate_latest(Metrics(reading)).decode())
    return [sample for family in parsed for sample in family.samples]


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("up", {}, 1),
        ("build_info", {"release": "1.2.3"}, 1),
        ("volume_state", {"volume": "finance", "state": "syncing"}, 1),
        ("volume_state", {"volume": "finance", "state": "protected"}, 0),
        ("volume_protection", {"volume": "finance", "protection": "syncing"}, 1),
        ("volume_protection", {"volume": "finance", "protection": "none"}, 0),
        ("volume_disk_present", {"volume": "finance", "role": "primary"}, 1),
        ("volume_disk_present", {"volume": "finance", "role": "secondary"}, 0),
        ("volume_alert", {"volume": "finance", "code": "EV411"}, 1),
        ("volume_size_bytes", {"volume": "finance"}, 1 << 26),
        ("volume_write_number", {"volume": "finance"}, 1200),
        ("volume_dirty_bytes", {"volume": "finance"}, 3 << 20),
        ("volume_history_capacity_bytes", {"volume": "finance"}, 1 << 27),
        ("volume_history_used_bytes", {"volume": "finance"}, 1 << 25),
        ("volume_window_seconds", {"volume": "finance"}, 1200.5),
        ("volume_window_oldest_timestamp_seconds", {"volume": "finance"}, 1_795_347_600),
        ("volume_window_newest_timestamp_seconds", {"volume": "finance"}, 1_795_348_800.5),
        ("volume_gaps", {"volume": "finance"}, 1),
        ("volume_suspect_maps", {"volume": "finance"}, 2),
        ("job_size_bytes", {"volume": "finance", "kind": "resync"}, 4096),
        ("job_done_bytes", {"volume": "finance", "kind": "resync"}, 1280),
        ("job_scanned_bytes", {"volume": "finance", "kind": "resync"}, 1024),
        ("job_different_bytes", {"volume": "finance", "kind": "resync"}, 512),
        ("job_copied_bytes", {"volume": "finance", "kind": "resync"}, 256),
        ("job_remaining_seconds", {"volume": "finance", "kind": "resync"}, 1.5),
        ("job_paused", {"volume": "finance", "kind": "resync"}, 0),
        ("last_job_success", {"volume": "finance", "kind": "verify"}, 0),
        ("last_job_end_timestamp_seconds", {"volume": "finance", "kind": "verify"}, 1795348740.25),
        ("last_job_different_bytes", {"volume": "finance", "kind": "verify"}, 512),
        ("disk_size_bytes", {"disk": DISK.id}, 1 << 30),
        ("disk_health", {"disk": DISK.id, "health": "good"}, 1),
        ("disk_health", {"disk": DISK.id, "health": "failing"}, 0),
        ("disk_temperature_celsius", {"disk": DISK.id}, 31),
        ("events_total", {"code": "EV101", "severity": "info"}, 3),
        ("events_total", {"code": "EV412", "severity": "error"}, 0),
        ("events_missed_total", {}, 2),
    ],
)
def test_what_the_service_says_is_shown(name: str, labels: dict[str, str], expected: float) -> None:
    assert value(READING, f"ebbtide_{name}", **labels) == expected


def test_a_disk_s_labels_are_escaped_and_bounded() -> None:
    (info,) = [sample for sample in every_sample(READING) if sample.name == "ebbtide_disk_info"]
    assert info.labels == {
        "disk": DISK.id,
        "model": "M" * 128,
        "serial": "S\N{SNOWMAN}N",
        "role": "primary",
        "volume": "finance",
    }


def test_nothing_is_shown_of_a_service_that_is_away() -> None:
    assert samples(None) == {("ebbtide_up", frozenset()): 0}


def test_no_window_is_nothing_to_restore() -> None:
    reading = replace(READING, volumes=[msgspec.structs.replace(VOLUME, window=None)])
    assert value(reading, "ebbtide_volume_window_seconds", volume="finance") == 0
    assert "ebbtide_volume_window_newest_timestamp_seconds" not in {n for n, _ in samples(reading)}


def test_a_clock_that_was_set_back_makes_no_negative_window() -> None:
    window = WindowAnswer("2026-11-22T12:00:00.000000000Z", "2026-11-22T11:00:00.000000000Z", 1, 2)
    reading = replace(READING, volumes=[msgspec.structs.replace(VOLUME, window=window)])
    assert value(reading, "ebbtide_volume_window_seconds", volume="finance") == 0


def test_what_is_over_has_no_series() -> None:
    idle = msgspec.structs.replace(VOLUME, job=None, last_job=None, alerts=[])
    shown = {name for name, _ in samples(replace(READING, volumes=[idle]))}
    assert not [name for name in shown if "job" in name or name.endswith("_alert")]


def test_a_disk_that_tells_no_temperature_has_none() -> None:
    silent = msgspec.structs.replace(DISK, temperature=None, health="unknown")
    shown = samples(replace(READING, disks=[silent]))
    assert not [name for name, _ in shown if "temperature" in name]
    assert shown["ebbtide_disk_health", frozenset({"disk": DISK.id, "health": "unknown"}.items())]


def test_a_word_of_a_newer_service_is_shown() -> None:
    reading = replace(READING, volumes=[msgspec.structs.replace(VOLUME, state="dreaming")])
    assert value(reading, "ebbtide_volume_state", volume="finance", state="dreaming") == 1
    assert value(reading, "ebbtide_volume_state", volume="finance", state="protected") == 0


def test_twins_of_a_disk_make_one_series() -> None:
    assert samples(replace(READING, disks=[DISK, DISK])) == samples(READING)


def test_the_words_are_the_engine_s() -> None:
    assert set(PROTECTIONS) == {word.value for word in Protection}
    assert set(STATES) >= {word.value for word in Protection} - {"none"}
    assert set(STATES) >= {word.value for word in engine.Service} - {"online"}


def test_names_and_labels_follow_the_conventions() -> None:
    for family in families(generate_latest(Metrics(READING)).decode()):
        assert re.fullmatch(r"ebbtide(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert set(sample.labels) <= {
                *("volume", "disk", "state", "protection", "role", "code", "kind", "severity"),
                *("model", "serial", "release", "health"),
            }
            unit = re.search(r"_(kib|mib|milliseconds|ms|kilobytes|minutes|percent)\b", sample.name)
            assert unit is None


def test_open_metrics_are_given_to_who_asks() -> None:
    encode, content_type = choose_encoder("application/openmetrics-text; version=1.0.0")
    text = encode(Metrics(READING)).decode()
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    parsed = open_families(text)  # type: ignore[no-untyped-call]
    assert len(list(parsed)) == len(list(Metrics(READING).collect()))


class PlayedEvents:
    """The `events` of a service, with as many as it remembers."""

    def __init__(self, keep: int = 4096) -> None:
        self.kept: list[dict[str, Any]] = []
        self.number = 0
        self.keep = keep

    def happens(self, code: str, **fields: object) -> None:
        self.number += 1
        self.kept.append(
            {
                "number": self.number,
                "time": "2026-11-22T12:00:00.000000000Z",
                "code": code,
                "severity": "info",
                "text": "",
                "fields": fields,
            }
        )
        del self.kept[: -self.keep]

    def request(self, verb: str, arguments: dict[str, int]) -> dict[str, Any]:
        assert verb == "events"
        newer = [event for event in self.kept if event["number"] > arguments["after"]]
        return {"schema": 1, "events": newer[-arguments["limit"] :]}


def followed(counts: EventCounts, service: PlayedEvents) -> dict[str, int]:
    counts.follow(cast("ControlClient", service))
    return dict(counts.by_code)


def test_events_are_counted_from_the_first_look_on() -> None:
    service, counts = PlayedEvents(), EventCounts()
    service.happens("EV901")
    assert followed(counts, service) == {}
    assert followed(counts, service) == {}
    service.happens("EV101")
    service.happens("EV101")
    service.happens("EV903")
    assert followed(counts, service) == {"EV101": 2, "EV903": 1}
    assert followed(counts, service) == {"EV101": 2, "EV903": 1}
    assert counts.missed == 0


def test_the_first_event_of_all_counts() -> None:
    service, counts = PlayedEvents(), EventCounts()
    assert followed(counts, service) == {}
    service.happens("EV101")
    assert followed(counts, service) == {"EV101": 1}


def test_what_a_flood_left_out_counts() -> None:
    service, counts = PlayedEvents(), EventCounts()
    followed(counts, service)
    service.happens(MORE_OF_THESE, of="EV103", count=4000, seconds=60, last="")
    service.happens(MORE_OF_THESE, of=7, count="many")
    assert followed(counts, service) == {MORE_OF_THESE: 2, "EV103": 4000}


def test_what_was_forgotten_before_it_was_counted_is_told() -> None:
    service, counts = PlayedEvents(), EventCounts()
    followed(counts, service)
    for _ in range(EVENTS_A_LOOK + 5):
        service.happens("EV101")
    assert followed(counts, service) == {"EV101": EVENTS_A_LOOK}
    assert counts.missed == 5


def test_numbers_that_begin_again_are_followed_anew() -> None:
    service, counts = PlayedEvents(), EventCounts()
    for _ in range(9):
        service.happens("EV101")
    followed(counts, service)
    service = PlayedEvents()
    service.happens("EV901")
    assert followed(counts, service) == {}
    service.happens("EV101")
    assert followed(counts, service) == {"EV101": 1}


def test_every_code_has_a_series_from_the_start() -> None:
    shown = {
        sample.labels["code"]
        for sample in every_sample(replace(READING, events={}))
        if sample.name == "ebbtide_events_total"
    }
    assert shown == set(KINDS)
    assert DIFFERENCES in shown
