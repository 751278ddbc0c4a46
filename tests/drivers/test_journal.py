"""The journal's native protocol, to a played journal and to a real one."""

import contextlib
import json
import logging
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import events
from appliance.drivers import journal
from appliance.drivers.journal import JournalHandler, encode
from appliance.event_log import Event, EventLog
from appliance.operators.journal_catalog import catalog
from tests.service.media import machine
from tests.service.service_process import BIN, Service

NOON = 1_795_348_800_000_000_000
DELIVERED = Path(__file__).parents[2] / "firmware_config" / "journal" / "ebbtide.catalog"
JOURNALD = Path("/lib/systemd/systemd-journald")


def decode(message: bytes) -> dict[str, str]:
    """The fields of a datagram, as systemd describes them."""
    fields: dict[str, str] = {}
    while message:
        line, _, rest = message.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, end = rest[8 : 8 + length], rest[8 + length : 9 + length]
            assert end == b"\n"
            rest = rest[9 + length :]
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
        message = rest
    return fields


class PlayedJournal:
    """A socket like the journal's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(bytes(path))
        self.socket.settimeout(10)

    def read(self) -> dict[str, str]:
        return decode(self.socket.recv(1 << 20))

    def drain(self) -> list[dict[str, str]]:
        """All that is there."""
        found = []
        self.socket.setblocking(False)
        try:
            while True:
                found.append(self.read())
        except BlockingIOError:
            self.socket.settimeout(10)
            return found


@pytest.fixture
def played(tmp_path: Path) -> Iterator[PlayedJournal]:
    played = PlayedJournal(tmp_path / "journal")
    yield played
    played.socket.close()


@pytest.fixture
def logger(played: PlayedJournal) -> Iterator[logging.Logger]:
    """What is logged by it goes to the played journal."""
    handler = JournalHandler("cdpd", played.path)
    logger = logging.getLogger("ebbtide.events")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)
    handler.close()


def test_an_event_has_its_fields(
    played: PlayedJournal, logger: logging.Logger, tmp_path: Path
) -> None:
    log = EventLog(tmp_path, lambda: NOON)
    log.emit(events.SNAPSHOT_TAKEN, volume="finance", name="Zoë", write=7, actor="root")
    assert played.read() == {
        "MESSAGE": "EV401 finance: snapshot Zoë was taken at write 7",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "cdpd",
        "LOGGER": "ebbtide.events",
        "MESSAGE_ID": "f30680ea5b7a5eb89e0726574b572023",
        "EBBTIDE_CODE": "EV401",
        "EBBTIDE_NUMBER": "1",
        "EBBTIDE_VOLUME": "finance",
        "EBBTIDE_ACTOR": "root",
        "EBBTIDE_NAME": "Zoë",
        "EBBTIDE_WRITE": "7",
    }
    log.emit(events.REQUESTED, volume=None, actor="root", request="job cancel 1")
    assert "EBBTIDE_VOLUME" not in played.read()


@pytest.mark.parametrize(
    ("code", "priority"),
    [(events.DISK_FAILED, "3"), (events.DISK_LEFT, "4"), (events.DISK_ARRIVED, "6")],
)
def test_severity_is_priority(
    played: PlayedJournal, logger: logging.Logger, tmp_path: Path, code: str, priority: str
) -> None:
    EventLog(tmp_path, lambda: NOON).emit(code, disk="a")
    assert played.read()["PRIORITY"] == priority


def test_strings_from_disks_make_no_fields(
    played: PlayedJournal, logger: logging.Logger, tmp_path: Path
) -> None:
    EventLog(tmp_path, lambda: NOON).emit(events.DISK_LEFT, disk="x\nPRIORITY=0\nMESSAGE=\x1b[2J")
    fields = played.read()
    assert fields["PRIORITY"] == "4"
    assert fields["EBBTIDE_DISK"] == "x?PRIORITY=0?MESSAGE=?[2J"


def test_names_that_the_journal_would_refuse_are_left_out() -> None:
    event = Event(
        number=1,
        time="",
        code="EV999",
        severity="info",
        text="",
        fields={"ok_2": 1, "code": "EV000", "größe": 1, "a-b": 1, "x" * 90: 1, "none": None},
    )
    assert set(journal.event_fields(event)) == {
        "MESSAGE_ID",
        "EBBTIDE_CODE",
        "EBBTIDE_NUMBER",
        "EBBTIDE_OK_2",
    }
    assert journal.event_fields(event)["EBBTIDE_CODE"] == "EV999"


def test_a_trace_keeps_its_lines(played: PlayedJournal) -> None:
    """Handled without a logger: pytest would keep it, and could not send it to another process."""
    with contextlib.closing(JournalHandler("cdpd", played.path)) as handler:
        try:
            raise ValueError("lone surrogate \ud800")
        except ValueError:
            cause = sys.exc_info()
        handler.handle(
            logging.LogRecord("x", logging.ERROR, "", 0, "a callback failed", None, cause)
        )
    fields = played.read()
    assert fields["MESSAGE"].startswith("a callback failed\nTraceback (most recent call last):\n")
    assert fields["MESSAGE"].endswith("ValueError: lone surrogate ?")
    assert fields["PRIORITY"] == "3"


def test_the_form_with_a_length() -> None:
    assert encode({"A": "x\ny", "B": "z"}) == b"A\n\x03\0\0\0\0\0\0\0x\ny\nB=z\n"
    assert encode({"A": ""}) == b"A=\n"
    assert len(encode({"A": "\N{SNOWMAN}" * 1_000_000})) < 1 << 15


def test_a_full_journal_is_not_waited_for(played: PlayedJournal, logger: logging.Logger) -> None:
    for number in range(3000):
        logger.info("message %d", number)
    kept = played.drain()
    assert 0 < len(kept) < 3000
    logger.info("there is room again")
    told, last = played.read(), played.read()
    assert told["MESSAGE"] == f"{3000 - len(kept)} messages did not reach the journal"
    assert told["PRIORITY"] == "4"
    assert last["MESSAGE"] == "there is room again"
    logger.info("and nothing more is lost")
    assert played.read()["MESSAGE"] == "and nothing more is lost"


def test_a_journal_that_starts_anew_is_found(played: PlayedJournal, logger: logging.Logger) -> None:
    played.socket.close()
    logger.info("nobody hears this")
    played.path.unlink()
    logger.info("nor this")
    again = PlayedJournal(played.path)
    logger.info("but this")
    assert again.read()["MESSAGE"] == "2 messages did not reach the journal"
    assert again.read()["MESSAGE"] == "but this"
    again.socket.close()


def test_the_journal_is_what_systemd_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert journal._is_journal(stream.fileno())
        assert not journal._is_journal(other.fileno())
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not journal._is_journal(stream.fileno())


def test_ids_never_change() -> None:
    assert events.message_id(events.DISK_ARRIVED).hex == "1f630b096c625cf1a33740b60c22a494"
    assert len({events.message_id(code) for code in events.KINDS}) == len(events.KINDS)


# The catalog


def test_the_delivered_catalog_is_the_table() -> None:
    assert DELIVERED.read_text() == catalog(), "`make catalog` writes it anew"


def test_the_catalog_names_every_event_and_its_fields() -> None:
    entries = re.split(r"^-- ", catalog(), flags=re.MULTILINE)[1:]
    assert len(entries) == len(events.KINDS)
    for entry in entries:
        head, body = entry.split("\n\n", 1)
        identifier, subject, defined = head.split("\n")
        code = subject.split(": ")[1]
        assert identifier == events.message_id(code).hex
        assert defined == "Defined-By: Ebbtide"
        assert "{" not in subject
        assert body.strip()
        assert max(map(len, body.splitlines())) < 80


@pytest.fixture
def catalog_root(tmp_path: Path) -> Path:
    """A root with our catalog, made into journalctl's database."""
    if shutil.which("journalctl") is None:
        pytest.skip("needs journalctl")
    root = tmp_path / "root"
    (root / "usr/lib/systemd/catalog").mkdir(parents=True)
    (root / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(DELIVERED, root / "usr/lib/systemd/catalog")
    subprocess.run(
        ["journalctl", "--update-catalog", f"--root={root}"],
        check=True,
        timeout=20,
        capture_output=True,
    )
    return root


def test_journalctl_takes_the_catalog(catalog_root: Path) -> None:
    listed = subprocess.run(
        ["journalctl", "--list-catalog", f"--root={catalog_root}"],
        check=True,
        timeout=20,
        capture_output=True,
        text=True,
    ).stdout
    for code in events.KINDS:
        assert re.search(rf"^{events.message_id(code).hex} Ebbtide: {code}: ", listed, re.MULTILINE)


REAL = r"""
set -eu
place=$1 cdpd=$2
mount -t tmpfs none /run
mkdir -p /run/log/journal /run/systemd/journald@ebbtide.conf.d
printf '[Journal]\nStorage=volatile\n' >/run/systemd/journald@ebbtide.conf.d/test.conf
mount --bind "$place/root/var/lib/systemd/catalog" /var/lib/systemd/catalog
/lib/systemd/systemd-journald ebbtide &
journald=$!
until [ -S /run/systemd/journal.ebbtide/socket ]; do sleep 0.02; done
ln -s journal.ebbtide /run/systemd/journal
# As systemd starts a unit: it says which stream is the journal's.
systemd-cat sh -c 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"' sh \
    "$cdpd" --config "$place/ebbtide.toml" &
served=$!
# Until it catches SIGTERM.
until grep -q '^SigCgt:.*[4-7c-f]...$' "/proc/$served/status"; do sleep 0.02; done
kill "$served"
wait "$served"
kill "$journald"
wait "$journald" || true
cd /run/log/journal/*.ebbtide
journalctl --directory=. -o json >"$place/json"
journalctl --directory=. -x >"$place/explained"
"""


def test_a_real_journal_knows_the_service_s_events(
    make_service: Callable[..., Service], catalog_root: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not (JOURNALD.exists() and Path("/etc/machine-id").exists() and shutil.which("unshare")):
        pytest.skip("needs systemd-journald and a machine id")
    service = make_service()
    # In namespaces of its own: nothing of the machine is touched, and nothing outlives it.  Until
    # then they have what is mounted now, and what a test unmounts meanwhile would stay in use.
    with machine(alone=True) if Path("/dev/loop-control").exists() else contextlib.nullcontext():
        done = subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("sh", "-c", REAL, "sh", tmp_path, BIN / "cdpd"),
            ],
            check=False,
            timeout=50,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert service.config.exists()
    found = [json.loads(line) for line in (tmp_path / "json").read_text().splitlines()]
    ours = {entry["EBBTIDE_CODE"]: entry for entry in found if "EBBTIDE_CODE" in entry}
    assert {events.SERVICE_STARTED, events.SERVICE_STOPPED} <= set(ours)
    started = ours[events.SERVICE_STARTED]
    assert started["MESSAGE_ID"] == events.message_id(events.SERVICE_STARTED).hex
    assert started["SYSLOG_IDENTIFIER"] == "cdpd"
    assert started["_TRANSPORT"] == "journal"
    assert started["PRIORITY"] == "6"
    explained = (tmp_path / "explained").read_text()
    assert f"Subject: EV901: the service started, release {started['EBBTIDE_RELEASE']}" in explained
    assert events.KINDS[events.SERVICE_STOPPED].explanation in explained
