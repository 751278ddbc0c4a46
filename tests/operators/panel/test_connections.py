"""The panel's threads at a real control socket."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from time import monotonic

import pytest

from appliance.errors import NoPanel, ServiceUnreachable
from appliance.glass import Backlight, Glass, Key
from appliance.operators.answers import ErrorAnswer, KeyDescription
from appliance.operators.control.client import ControlClient, Refused
from appliance.operators.panel import connections
from appliance.operators.panel.connections import Link, Requester, Watch
from appliance.operators.panel.fingers import Fingers
from appliance.operators.panel.machine import Ask, CheckPin, PanelMachine
from tests.operators.running_service import RunningService, running_service

HELLO = Glass(("Hello           ", "▶ ↵             "), Backlight.GREEN)
BYE = Glass(("Bye             ", "                "), Backlight.RED)


class Room:
    """Runs what is posted, on the test's thread."""

    def __init__(self, made: ExitStack) -> None:
        self.queue: Queue[Callable[[], None]] = Queue()
        self.stop = Event()
        self._made = made
        made.callback(self.stop.set)

    def start(self, run: Callable[[], None]) -> Thread:
        thread = Thread(target=run, daemon=True)
        thread.start()
        return thread

    def do_until(self, condition: Callable[[], bool], each: Callable[[], None]) -> None:
        """Do what is posted, and `each` after it."""
        end = monotonic() + 10
        while not condition():
            assert monotonic() < end
            each()
            if not self.queue.empty():
                self.queue.get()()

    def do_one(self) -> None:
        self.queue.get(timeout=10)()


@pytest.fixture
def room() -> Iterator[Room]:
    with ExitStack() as made:
        yield Room(made)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path) as service:
        yield service


# Watch


def test_watching_tells_how_things_are(room: Room, service: RunningService) -> None:
    machine = PanelMachine()
    room.start(Watch(service.socket, machine, room.queue.put, room.stop).run)
    room.do_one()
    assert [volume.name for volume in machine.volumes] == ["finance"]
    assert {disk.id for disk in machine.disks} == set("abps")


def test_watching_goes_on_when_the_service_is_back(room: Room, tmp_path: Path) -> None:
    machine = PanelMachine()
    room.start(Watch(tmp_path / "control.sock", machine, room.queue.put, room.stop).run)
    room.do_one()
    assert machine.glass().lines[0] == "Service away    "
    with running_service(tmp_path):
        room.do_until(lambda: machine.glass().lines[0] != "Service away    ", room.do_one)
    room.do_until(lambda: machine.glass().lines[0] == "Service away    ", room.do_one)


# Requester


class HeardMachine(PanelMachine):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[int, str]] = []

    def answered(self, number: int, answer: dict[str, object]) -> None:
        self.heard.append((number, "ok"))

    def refused(self, number: int, error: ErrorAnswer) -> None:
        self.heard.append((number, error.code))

    def checked(self, number: int, right: bool) -> None:
        self.heard.append((number, str(right)))


def test_wishes_are_done_in_their_order_on_one_connection(
    room: Room, service: RunningService
) -> None:
    machine = HeardMachine()
    requester = Requester(service.socket, machine, room.queue.put, lambda pin: pin == "1234")
    thread = room.start(requester.run)
    requester.put(Ask(1, "lock", {}))
    requester.put(Ask(2, "restore", {"volume": "finance", "to": "-10m", "plan": True}))
    requester.put(Ask(3, "restore", {"volume": "nowhere", "to": "-10m", "yes": True}))
    requester.put(CheckPin(4, "1234"))
    requester.put(CheckPin(5, "1235"))
    for _ in range(5):
        room.do_one()
    assert machine.heard == [(1, "ok"), (2, "ok"), (3, "EB301"), (4, "True"), (5, "False")]
    with ControlClient(service.socket) as other, pytest.raises(Refused) as refused:
        other.request("lock", {})
    assert "at panel" in refused.value.answer.sentence
    requester.put(None)
    thread.join(timeout=10)
    with ControlClient(service.socket) as other:
        operator = other.request("status", {})["operator"]
        while operator is not None:  # the service has not seen the end of the connection yet
            operator = other.request("status", {})["operator"]


def test_nothing_is_asked_twice(room: Room, tmp_path: Path) -> None:
    machine = HeardMachine()
    with running_service(tmp_path) as service:
        requester = Requester(service.socket, machine, room.queue.put, lambda pin: False)
        room.start(requester.run)
        requester.put(Ask(1, "lock", {}))
        room.do_one()
    with running_service(tmp_path) as again:
        requester.put(Ask(2, "restore", {"volume": "finance", "to": "write:1000", "yes": True}))
        room.do_one()
        assert machine.heard == [(1, "ok"), (2, "EB901")]
        assert again.on_loop(lambda: again.finance.job) is None
        requester.put(Ask(3, "lock", {}))
        room.do_one()
        assert machine.heard[-1] == (3, "ok")
        requester.put(None)


def test_a_pin_is_in_no_words() -> None:
    assert "1234" not in repr(CheckPin(1, "1234"))


# Link


class HandledAtOnce(Fingers):
    """Keeps the keys, and is done with them when it gets them."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[KeyDescription] = []

    def add(self, keys: list[KeyDescription]) -> None:
        self.keys += keys
        for key in keys:
            self.handled = key.number


class RemoteHands:
    """A panel's end, which shows `glass`, and something else once a key was pressed."""

    def __init__(self, room: Room, service: RunningService) -> None:
        self.room = room
        self.glass = HELLO
        self.fingers = HandledAtOnce()
        self.link = Link(service.socket, room.queue.put, room.stop, self.fingers)
        self.thread = room.start(self.link.run)

    def show(self) -> None:
        self.link.show(BYE if self.fingers.handled else self.glass, monotonic())


def shown(client: ControlClient) -> dict[str, object] | None:
    try:
        return client.request("panel", {})
    except Refused as refused:
        if refused.answer.code != NoPanel.code:
            raise
        return None


def test_the_glass_is_seen_from_afar_and_keys_come_back(
    room: Room, service: RunningService
) -> None:
    hands = RemoteHands(room, service)
    with ControlClient(service.socket) as client, ThreadPoolExecutor(1) as pool:
        room.do_until(lambda: shown(client) is not None, hands.show)
        assert shown(client) == {"schema": 1, "lines": list(HELLO.lines), "backlight": "green"}
        pressing = pool.submit(client.request, "panel", {"press": "select", "hold": 3.5})
        room.do_until(pressing.done, hands.show)
        assert pressing.result()["lines"] == list(BYE.lines)
    assert [(key.key, key.hold) for key in hands.fingers.keys] == [(Key.SELECT.value, 3.5)]


def test_a_new_glass_is_seen_at_once(room: Room, service: RunningService) -> None:
    hands = RemoteHands(room, service)
    with ControlClient(service.socket) as client:
        for glass in (HELLO, BYE, HELLO):
            hands.glass = glass
            began = monotonic()
            room.do_until(
                lambda glass=glass: (shown(client) or {}).get("lines") == list(glass.lines),  # type: ignore[misc]
                hands.show,
            )
            assert monotonic() - began < 5, "and not with the next poll"


def test_a_flickering_glass_floods_nobody(room: Room, service: RunningService) -> None:
    hands = RemoteHands(room, service)
    with ControlClient(service.socket) as client:
        room.do_until(lambda: shown(client) is not None, hands.show)
    linked = hands.link._client
    assert linked is not None
    sent: list[str] = []
    send = linked.send

    def counted(verb: str, arguments: Mapping[str, object]) -> None:
        sent.append(verb)
        send(verb, arguments)

    linked.send = counted  # type: ignore[method-assign]
    now = monotonic()
    for step in range(1000):
        hands.link.show((HELLO, BYE)[step % 2], now + step / 1000)
        while hands.link._unanswered > 1:
            room.do_one()
    assert 5 <= len(sent) <= 15


def test_a_second_panel_waits_for_its_turn_and_says_so_once(
    room: Room,
    service: RunningService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connections, "RETRY_SECONDS", 0.01)
    glass = {"lines": list(BYE.lines), "backlight": "red"}
    with ControlClient(service.socket) as client:
        with ControlClient(service.socket, "panel") as first:
            first.send("panel exchange", glass | {"handled": 0})
            hands = RemoteHands(room, service)
            tried: set[ControlClient | None] = set()

            def show() -> None:
                hands.show()
                tried.add(hands.link._client)

            room.do_until(lambda: len(tried - {None}) > 3, show)
            assert shown(client) == glass | {"schema": 1}
        room.do_until(lambda: (shown(client) or {}).get("lines") == list(HELLO.lines), hands.show)
    told = [record.message for record in caplog.records if "remote hands" in record.message]
    assert told == ["no remote hands: another front panel is connected; trying again"]


def test_remote_hands_come_back_with_the_service(room: Room, tmp_path: Path) -> None:
    """And a key of the new one is not taken for done because the old one's had its number."""
    with running_service(tmp_path) as service:
        hands = RemoteHands(room, service)
        press_once(room, hands, service)
    hands.glass = Glass(BYE.lines, Backlight.TEAL)
    with running_service(tmp_path) as service:
        press_once(room, hands, service)
    assert len(hands.fingers.keys) == 2


def press_once(room: Room, hands: RemoteHands, service: RunningService) -> None:
    with ControlClient(service.socket) as client, ThreadPoolExecutor(1) as pool:
        room.do_until(lambda: shown(client) is not None, hands.show)
        before = shown(client) or {}
        assert before["backlight"] == hands.glass.backlight.value
        pressing = pool.submit(client.request, "panel", {"press": "up"})
        room.do_until(pressing.done, hands.show)
        assert pressing.result()["backlight"] == BYE.backlight.value


def test_a_closed_connection_refuses_like_a_broken_one(service: RunningService) -> None:
    """Its thread closes it while the panel's own is about to send."""
    client = ControlClient(service.socket)
    client.close()
    with pytest.raises(ServiceUnreachable):
        client.send("panel", {})
