"""Events: from `emit` to memory, to the file, and back after a restart."""

import ast
import json
import logging
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import events
from appliance.event_log import EventLog, rfc3339
from appliance.events import KINDS
from appliance.wording import printable

NOON = 1_795_348_800_000_000_000
"""2026-11-22T12:00:00Z."""


def open_log(directory: Path, keep: int = 4096, rotate_bytes: int = 4 << 20) -> EventLog:
    return EventLog(directory, lambda: NOON, keep=keep, rotate_bytes=rotate_bytes)


def test_an_event_is_kept_written_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(tmp_path)
    with caplog.at_level(logging.INFO, "ebbtide.events"):
        log.emit(events.SNAPSHOT_TAKEN, volume="finance", name="noon", write=7, actor="root")
    (event,) = log.events()
    assert event.text == "finance: snapshot noon was taken at write 7"
    assert (event.number, event.volume, event.actor) == (1, "finance", "root")
    assert json.loads((tmp_path / "events.jsonl").read_text()) == {
        "number": 1,
        "time": "2026-11-22T12:00:00.000000000Z",
        "code": "EV401",
        "severity": "info",
        "text": "finance: snapshot noon was taken at write 7",
        "volume": "finance",
        "actor": "root",
        "fields": {"name": "noon", "write": 7},
    }
    assert caplog.messages == ["EV401 finance: snapshot noon was taken at write 7"]


def test_a_restart_goes_on_counting(tmp_path: Path) -> None:
    open_log(tmp_path).emit(events.SERVICE_STARTED, release="1")
    log = open_log(tmp_path)
    log.emit(events.SERVICE_STOPPED, reason="SIGTERM")
    assert [(event.number, event.code) for event in open_log(tmp_path).events()] == [
        (1, "EV901"),
        (2, "EV902"),
    ]


@pytest.mark.parametrize(
    "damage", [b'{"number": 9, "ti', b"\xff\xfe\x00", b"[]\n", b"[" * 5000, b'{"number": "x"}']
)
def test_a_torn_line_costs_that_line_alone(tmp_path: Path, damage: bytes) -> None:
    open_log(tmp_path).emit(events.DISK_LEFT, disk="a")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(damage)
    log = open_log(tmp_path)
    log.emit(events.DISK_LEFT, disk="b")
    assert [event.fields["disk"] for event in open_log(tmp_path).events()] == ["a", "b"]


def test_files_are_rotated_and_memory_is_bounded(tmp_path: Path) -> None:
    log = open_log(tmp_path, keep=10, rotate_bytes=2000)
    for _ in range(200):
        log.emit(events.DISK_LEFT, disk="a")
    assert [event.number for event in log.events()] == list(range(191, 201))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 4400
    assert open_log(tmp_path, keep=10).events() == log.events()


def test_a_directory_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(tmp_path / "gone")
    log.emit(events.DISK_LEFT, disk="a")
    assert len(log.events()) == 1
    assert "could not be written" in caplog.text


def test_files_are_written_beside_the_loop_in_order(tmp_path: Path) -> None:
    class Later:
        def when_finished(self, action: Callable[[], None]) -> None:
            finished.append(action)

    work: list[Callable[[], None]] = []
    finished: list[Callable[[], None]] = []

    def offload(action: Callable[[], None]) -> Later:
        work.append(action)
        return Later()

    log = EventLog(tmp_path, lambda: NOON, offload)
    for disk in "abc":
        log.emit(events.DISK_LEFT, disk=disk)
    assert len(work) == 1
    assert not list(tmp_path.iterdir())
    while work:
        work.pop()()
        finished.pop()()
    assert [event.fields["disk"] for event in open_log(tmp_path).events()] == ["a", "b", "c"]


def test_closing_writes_what_no_loop_came_to_write(tmp_path: Path) -> None:
    class Never:
        def when_finished(self, action: Callable[[], None]) -> None:
            pass

    log = EventLog(tmp_path, lambda: NOON, offload=lambda action: Never())
    for disk in "abc":
        log.emit(events.DISK_LEFT, disk=disk)
    log.close()
    log.emit(events.DISK_LEFT, disk="d")
    assert [event.fields["disk"] for event in open_log(tmp_path).events()] == list("abcd")


def test_selection(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in range(6):
        log.emit(events.VOLUME_ONLINE, volume="ab"[number % 2])
    assert [event.number for event in log.events(volume="b")] == [2, 4, 6]
    assert [event.number for event in log.events(after=4)] == [5, 6]
    assert [event.number for event in log.events(limit=2)] == [5, 6]


def test_a_missing_field_does_not_lose_the_event(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.emit(events.DISK_FAILED, disk="a")
    assert log.events()[0].text == "disk a failed: ?"


def test_an_unknown_code_is_kept_for_those_who_know_it(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.emit("EV999", volume="finance", depth=3)
    (event,) = open_log(tmp_path).events()
    assert (event.code, event.severity, event.fields) == ("EV999", "error", {"depth": 3})


def test_strings_from_disks_move_no_cursor(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.emit(events.DISK_LEFT, disk="\x1b[2Jevil\n\u202e")
    assert log.events()[0].text == "disk ?[2Jevil?? is gone"
    assert printable("Zoë 磁盘") == "Zoë 磁盘"


def test_every_kind_explains_itself() -> None:
    for code, kind in KINDS.items():
        assert re.fullmatch(r"EV[12349]\d\d", code)
        assert kind.code == code
        assert kind.sentence
        assert not kind.sentence.endswith(".")
        assert kind.explanation.endswith(".")
        for _, name, form, _ in string.Formatter().parse(kind.sentence):
            assert name is None or (name.isidentifier() and not form)
    constants = {
        name: value for name, value in vars(events).items() if re.match(r"EV\d", str(value))
    }
    assert set(constants.values()) == set(KINDS)
    assert len(constants) == len(KINDS)


def raised() -> Iterator[tuple[Path, str, set[str]]]:
    """Every event that the sources raise by its name, with the fields that it is given."""
    for source in Path(events.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id="emit") | ast.Attribute(attr="emit" | "_emit"),
                    args=[ast.Attribute(value=ast.Name(id="events"), attr=name)],
                ):
                    yield source, name, {str(keyword.arg) for keyword in node.keywords}


def test_the_sources_give_each_event_its_fields() -> None:
    found = list(raised())
    assert found
    for source, name, given in found:
        sentence = KINDS[getattr(events, name)].sentence
        needed = {field for _, field, _, _ in string.Formatter().parse(sentence) if field}
        assert needed <= given, f"{source}: {name}"


def test_the_sources_mention_no_other_codes() -> None:
    for source in Path(events.__file__).parent.rglob("*.py"):
        assert set(re.findall(r"\bEV\d{3}\b", source.read_text())) <= set(KINDS), source


def test_times_are_exact() -> None:
    assert rfc3339(NOON + 1) == "2026-11-22T12:00:00.000000001Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000000000Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999999Z"
    assert rfc3339((1 << 64) - 1) == "2554-07-21T23:34:33.709551615Z"
