"""A flood of events is counted, told in one line, and hides nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import events
from appliance.event_floods import BURST, KINDS_MAXIMUM, WINDOW_SECONDS
from appliance.event_log import Event, EventLog
from appliance.wording import TEXT_MAXIMUM

NOON = 1_795_348_800_000_000_000


class Timers:
    """`after`, played: time passes by `window_ends`."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        assert seconds == WINDOW_SECONDS
        self.waiting.append(action)

    def window_ends(self) -> None:
        due, self.waiting = self.waiting, []
        for action in due:
            action()


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def log(tmp_path: Path, timers: Timers) -> EventLog:
    return EventLog(tmp_path, lambda: NOON, after=timers.after)


def codes(log: EventLog) -> list[str]:
    return [event.code for event in log.events(limit=4096)]


def only(log: EventLog, code: str) -> list[Event]:
    return [event for event in log.events(limit=4096) if event.code == code]


def flood(log: EventLog, count: int, disk: str = "a") -> None:
    for number in range(count):
        log.emit(events.DISK_FAILED, disk=disk, reason=f"sector {number}")


def test_what_is_no_flood_is_kept(log: EventLog, timers: Timers) -> None:
    flood(log, BURST)
    timers.window_ends()
    assert codes(log) == BURST * [events.DISK_FAILED]


def test_a_flood_is_counted_and_told_in_one_line(log: EventLog, timers: Timers) -> None:
    flood(log, 5000)
    assert len(codes(log)) == BURST
    timers.window_ends()
    told = log.events()[-1]
    assert told.text == (
        f"EV103 happened {5000 - BURST} more times within 60 s,"
        " the last: disk a failed: sector 4999"
    )
    assert told.fields["of"] == events.DISK_FAILED
    assert told.fields["count"] == 5000 - BURST
    assert told.fields["disk"] == "a"
    assert [event.number for event in log.events()] == list(range(1, BURST + 2))


def test_a_flood_that_goes_on_costs_two_lines_a_window(log: EventLog, timers: Timers) -> None:
    flood(log, 100)
    for _ in range(10):
        timers.window_ends()
        flood(log, 100)
    assert len(only(log, events.DISK_FAILED)) == BURST + 10
    assert len(only(log, events.MORE_OF_THESE)) == 10
    assert [event.fields["count"] for event in only(log, events.MORE_OF_THESE)] == [
        100 - BURST,
        *(9 * [99]),
    ]


def test_after_a_calm_window_everything_is_kept_again(log: EventLog, timers: Timers) -> None:
    flood(log, 100)
    timers.window_ends()
    timers.window_ends()
    assert not timers.waiting
    flood(log, BURST)
    timers.window_ends()
    assert len(only(log, events.DISK_FAILED)) == 2 * BURST
    assert len(only(log, events.MORE_OF_THESE)) == 1


def test_a_flood_hides_no_other_disk_volume_or_code(log: EventLog) -> None:
    flood(log, 100)
    flood(log, 1, disk="b")
    log.emit(events.DISK_LEFT, disk="a")
    for volume in "xy":
        for _ in range(100):
            log.emit(events.READ_LOST, volume=volume, length=1, offset=2)
    assert [event.fields["disk"] for event in only(log, events.DISK_FAILED)][-1] == "b"
    assert len(only(log, events.DISK_LEFT)) == 1
    assert {event.volume for event in only(log, events.READ_LOST)} == {"x", "y"}


def test_what_somebody_asked_for_is_never_left_out(log: EventLog) -> None:
    for number in range(200):
        log.emit(events.REQUESTED, actor="root", request=f"snapshot finance s{number}")
    assert len(only(log, events.REQUESTED)) == 200


def test_a_stop_tells_what_was_counted(log: EventLog, timers: Timers, tmp_path: Path) -> None:
    flood(log, 100)
    log.close()
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["fields"]["count"] == 100 - BURST
    timers.window_ends()
    assert len(only(log, events.MORE_OF_THESE)) == 1


def test_disks_without_end_do_not_take_memory_without_end(log: EventLog, timers: Timers) -> None:
    for number in range(4 * KINDS_MAXIMUM):
        flood(log, 1, disk=f"disk-{number}")
    assert len(timers.waiting) == KINDS_MAXIMUM + 1
    assert len(only(log, events.DISK_FAILED)) == KINDS_MAXIMUM + BURST
    timers.window_ends()
    (told,) = only(log, events.MORE_OF_THESE)
    assert "disk" not in told.fields
    assert told.fields["count"] == 3 * KINDS_MAXIMUM - BURST


def test_a_long_text_is_cut(log: EventLog) -> None:
    log.emit(events.DISK_FAILED, disk="a", reason="x" * 1_000_000)
    (event,) = log.events()
    assert len(event.text) < TEXT_MAXIMUM + 50
    assert event.text.endswith("x…")


def test_files_stay_within_their_bounds_whatever_comes_at_once(tmp_path: Path) -> None:
    work: list[Callable[[], None]] = []

    class Later:
        def when_finished(self, action: Callable[[], None]) -> None:
            work.append(action)

    def offload(action: Callable[[], None]) -> Later:
        work.append(action)
        return Later()

    log = EventLog(tmp_path, lambda: NOON, offload, rotate_bytes=10_000)
    flood(log, 3000)  # all but the first wait for the disk, and go to it as one
    while work:
        work.pop(0)()
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert set(sizes) <= {"events.jsonl", "events.jsonl.1"}
    assert all(size < 10_300 for size in sizes.values())
    newest = EventLog(tmp_path, lambda: NOON).events(limit=4096)
    assert newest[-1].number == 3000
    assert [event.number for event in newest] == list(range(newest[0].number, 3001))
