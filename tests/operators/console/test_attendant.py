"""The line, the clock and the service beside the machine: what happens when one of them goes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
from pytest_mock import MockerFixture

from appliance.errors import LineUnusable
from appliance.loop import Loop
from appliance.operators.console.attendant import Attendant
from appliance.operators.console.clerk import Clerk
from appliance.operators.console.conversation import Json, Note
from appliance.operators.console.machine import Console, Errand
from appliance.operators.console.pacing import Pacer
from appliance.operators.control.client import ControlClient, Refused
from tests.operators.console.played import PlayedConsole, PlayedLockout
from tests.operators.running_service import RunningService, running_service

TurnUntil = Callable[..., None]


class PlayedLine:
    """A line in the test's hands; the kernel takes `takes` bytes at a time."""

    def __init__(self) -> None:
        self._signal = os.eventfd(0, os.EFD_NONBLOCK)
        self._typed = b""
        self.broken = False
        self.takes = 1000
        self.sent = bytearray()

    def type(self, data: bytes) -> None:
        self._typed += data
        os.eventfd_write(self._signal, 1)

    def break_off(self) -> None:
        self.broken = True
        os.eventfd_write(self._signal, 1)

    def fileno(self) -> int:
        return self._signal

    def read(self) -> bytes:
        self._check()
        os.eventfd_read(self._signal)
        typed, self._typed = self._typed, b""
        return typed

    def write(self, data: bytes) -> int:
        self._check()
        self.sent += data[: self.takes]
        return min(len(data), self.takes)

    def unsent(self) -> int:
        self._check()
        return 0

    def close(self) -> None:
        os.close(self._signal)

    def _check(self) -> None:
        if self.broken:
            raise LineUnusable(device="ttyT0", reason="input/output error")


class Office:
    """An attendant with lines that come one after the other; none comes while `lines` is empty."""

    def __init__(self, loop: Loop, clerk: Clerk) -> None:
        self.lines: list[PlayedLine] = []
        self.opened: list[PlayedLine] = []
        self.tries = 0
        self.machine: Console = PlayedConsole(PlayedLockout()).machine
        self.attendant = Attendant(loop, self.machine, clerk, self._open, Pacer(115200))

    @property
    def line(self) -> PlayedLine:
        return self.opened[-1]

    def _open(self) -> PlayedLine:
        self.tries += 1
        if not self.lines:
            raise LineUnusable(device="ttyT0", reason="no such file or directory")
        self.opened.append(self.lines.pop(0))
        return self.opened[-1]


@pytest.fixture
def clerk(tmp_path: Path) -> Iterator[Clerk]:
    clerk = Clerk(tmp_path / "nowhere", "test", lambda *_: None, lambda *_: None)
    yield clerk
    clerk.close()


@pytest.fixture
def office(loop: Loop, clerk: Clerk, mocker: MockerFixture) -> Iterator[Office]:
    mocker.patch("appliance.operators.console.attendant.PAUSE_FIRST", 0.01)
    office = Office(loop, clerk)
    yield office
    office.attendant.close()


def test_a_line_that_is_not_there_is_waited_for(office: Office, turn_until: TurnUntil) -> None:
    office.attendant.start()
    turn_until(lambda: office.tries == 4)
    office.lines.append(PlayedLine())
    turn_until(lambda: bool(office.opened) and b"Password: " in office.line.sent)


def test_a_line_that_breaks_is_opened_again(office: Office, turn_until: TurnUntil) -> None:
    office.lines += [PlayedLine(), PlayedLine()]
    office.attendant.start()
    turn_until(lambda: b"Password: " in office.line.sent)
    office.line.type(b"half a pass")
    office.line.break_off()
    turn_until(lambda: len(office.opened) == 2 and b"Password: " in office.line.sent)


def test_a_line_that_breaks_while_it_is_written_to(office: Office, turn_until: TurnUntil) -> None:
    office.lines += [PlayedLine(), PlayedLine()]
    office.attendant.start()
    turn_until(lambda: b"Password: " in office.line.sent)
    office.line.type(b"\r\r\r")
    office.opened[0].broken = True
    turn_until(lambda: len(office.opened) == 2 and b"Password: " in office.line.sent)


def test_a_line_that_takes_little(office: Office, turn_until: TurnUntil) -> None:
    office.lines.append(PlayedLine())
    office.lines[0].takes = 1
    office.attendant.start()
    turn_until(lambda: office.line.sent.endswith(b"Ebbtide on box\r\nPassword: "))


# The clerk


class Heard:
    """What a clerk tells; the test waits for it."""

    def __init__(self) -> None:
        self.answers: dict[int, Json | Exception] = {}
        self._came = Event()
        self.progress = Event()

    def answered(self, number: int, reply: Json | Exception) -> None:
        self.answers[number] = reply
        self._came.set()

    def progressed(self, number: int, job: Json) -> None:
        self.progress.set()

    def answer(self, number: int) -> Json | Exception:
        while number not in self.answers:
            assert self._came.wait(10)
            self._came.clear()
        return self.answers[number]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path) as running:
        yield running


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def busy(service: RunningService, heard: Heard) -> Iterator[Clerk]:
    clerk = Clerk(service.socket, "console ttyT0", heard.answered, heard.progressed)
    yield clerk
    clerk.close()


def snapshot(number: int) -> Errand:
    return Errand(number, "snapshot", {"volume": "finance", "name": f"s{number}"})


def test_the_lock_lasts_from_lock_to_unlock(
    busy: Clerk, heard: Heard, service: RunningService
) -> None:
    with ControlClient(service.socket) as other:
        busy.ask(Errand(1, "lock", {}))
        heard.answer(1)
        busy.ask(snapshot(2))
        assert isinstance(heard.answer(2), dict)
        busy.ask(Errand(3, "snapshot", {"volume": "nothing", "name": "x"}))
        assert isinstance(heard.answer(3), Refused)
        with pytest.raises(Refused, match="root at console ttyT0"):
            other.request("snapshot", {"volume": "finance", "name": "theirs"})
        busy.ask(Errand(4, "unlock", {}))
        heard.answer(4)
        other.request("snapshot", {"volume": "finance", "name": "theirs"})


def test_what_is_abandoned_is_not_answered(
    busy: Clerk, heard: Heard, service: RunningService
) -> None:
    service.finance.stalled = True
    busy.ask(Errand(1, "lock", {}))
    heard.answer(1)
    busy.ask(Errand(2, "sync", {"volume": "finance", "wait": True}))
    assert heard.progress.wait(10)
    busy.ask(snapshot(3))
    busy.abandon()
    busy.ask(snapshot(4))
    assert isinstance(heard.answer(4), dict)
    assert set(heard.answers) == {1, 4}
    assert "s3" not in service.finance.names
    service.finance.stalled = False


def test_a_note_is_written_whatever_is_abandoned(
    busy: Clerk, heard: Heard, service: RunningService
) -> None:
    busy.note(Note("wrong password", 3))
    busy.abandon()
    busy.ask(snapshot(1))
    heard.answer(1)
    told = [event.text for event in service.appliance.log.events() if event.code == "EV912"]
    assert told == ["wrong password at root at console ttyT0, 3 in a row"]


def test_a_service_that_is_away_is_an_answer(clerk: Clerk, tmp_path: Path, heard: Heard) -> None:
    lonely = Clerk(tmp_path / "nowhere", "test", heard.answered, heard.progressed)
    lonely.note(Note("login"))
    lonely.ask(snapshot(1))
    assert "does not answer" in str(heard.answer(1))
    lonely.close()
    lonely.close()
