"""The panel's three connections to the service, each with a thread that waits on it.

`Watch` asks how things are, again and again.  `Requester` does the machine's
wishes, one after the other; the operator lock belongs to its connection, so
that is given up with the first trouble, and nothing is ever asked a second
time.  `Link` shows the glass to remote hands and brings their keys.

Threads share nothing: what they learn is posted as an action to the one queue
that the panel's own thread empties.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Queue
from threading import Event
from typing import Final

import msgspec

from appliance.errors import ServiceUnreachable
from appliance.glass import Glass
from appliance.operators.answers import (
    DisksAnswer,
    ErrorAnswer,
    KeyDescription,
    KeysAnswer,
    StatusAnswer,
)
from appliance.operators.control.client import ControlClient, Refused
from appliance.operators.panel.fingers import Fingers
from appliance.operators.panel.machine import Ask, PanelMachine, Wish

FACE: Final = "panel"
WATCH_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
GLASSES_A_SECOND: Final = 10
UNANSWERED_MAXIMUM: Final = 4
"""Glasses on their way to a service that is slow to take them."""

Post = Callable[[Callable[[], None]], None]
_log = logging.getLogger("ebbtide.panel")


class Watch:
    """Tells the machine how the appliance is, each second."""

    def __init__(self, path: Path, machine: PanelMachine, post: Post, stop: Event) -> None:
        self._path, self._machine, self._post, self._stop = path, machine, post, stop
        self._away = False

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                with ControlClient(self._path, FACE) as client:
                    self._watch(client)
            except (ServiceUnreachable, Refused, msgspec.ValidationError) as error:
                if not self._away:
                    _log.warning("the service is away: %s", error)
                self._away = True
                self._post(self._machine.lose_service)
            self._stop.wait(RETRY_SECONDS)

    def _watch(self, client: ControlClient) -> None:
        while not self._stop.is_set():
            status = msgspec.convert(client.request("status", {}), StatusAnswer)
            disks = msgspec.convert(client.request("disks", {}), DisksAnswer)
            if self._away:
                _log.info("the service is there again")
            self._away = False
            self._post(partial(self._machine.hear, status, disks))
            self._stop.wait(WATCH_SECONDS)


class Requester:
    """Does wishes in their order.  `is_pin` compares a PIN with the one in the settings."""

    def __init__(
        self, path: Path, machine: PanelMachine, post: Post, is_pin: Callable[[str], bool]
    ) -> None:
        self._path, self._machine, self._post, self._is_pin = path, machine, post, is_pin
        self._wishes: Queue[Wish | None] = Queue()
        self._client: ControlClient | None = None

    def put(self, wish: Wish | None) -> None:
        """None ends it."""
        self._wishes.put(wish)

    def run(self) -> None:
        while (wish := self._wishes.get()) is not None:
            if isinstance(wish, Ask):
                self._ask(wish)
            else:
                right = self._is_pin(wish.pin)
                self._post(partial(self._machine.checked, wish.number, right))
        self._hang_up()

    def _ask(self, ask: Ask) -> None:
        try:
            if self._client is None:
                self._client = ControlClient(self._path, FACE)
            answer = self._client.request(ask.verb, ask.arguments)
        except Refused as refused:
            error = refused.answer
        except ServiceUnreachable as unreachable:
            self._hang_up()
            error = ErrorAnswer.of(unreachable)
        else:
            self._post(partial(self._machine.answered, ask.number, answer))
            return
        self._post(partial(self._machine.refused, ask.number, error))

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


class Link:
    """Keys from afar go to `fingers`."""

    def __init__(self, path: Path, post: Post, stop: Event, fingers: Fingers) -> None:
        self._path, self._post, self._stop, self._fingers = path, post, stop, fingers
        self._client: ControlClient | None = None
        self._unanswered = 0
        self._sent: tuple[Glass, int] | None = None
        self._sent_at = 0.0

    # On the panel's own thread.

    def show(self, glass: Glass, now: float) -> None:
        """The glass now."""
        handled = self._fingers.handled
        if self._client is None or self._unanswered >= UNANSWERED_MAXIMUM:
            return
        if self._unanswered and self._sent is not None:
            if (glass, handled) == self._sent:
                return
            if handled == self._sent[1] and now - self._sent_at < 1 / GLASSES_A_SECOND:
                return
        arguments = {
            "lines": list(glass.lines),
            "backlight": glass.backlight.value,
            "handled": handled,
        }
        try:
            self._client.send("panel exchange", arguments)
        except ServiceUnreachable:
            self._client = None  # its thread is told by the same trouble
            return
        self._unanswered += 1
        self._sent, self._sent_at = (glass, handled), now

    def _connected(self, client: ControlClient) -> None:
        self._client, self._unanswered, self._sent = client, 0, None
        self._fingers.forget()

    def _answered(self, keys: list[KeyDescription]) -> None:
        self._unanswered -= 1
        self._fingers.add(keys)

    # On a thread of its own.

    def run(self) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                with ControlClient(self._path, FACE) as client:
                    self._post(partial(self._connected, client))
                    while True:
                        keys = msgspec.convert(client.receive(), KeysAnswer).keys
                        told = ""
                        self._post(partial(self._answered, keys))
            except Refused as refused:
                if told != str(refused):
                    told = str(refused)
                    _log.warning("no remote hands: %s; trying again", told)
            except (ServiceUnreachable, msgspec.ValidationError) as error:
                _log.debug("no remote hands: %s", error)
            self._stop.wait(RETRY_SECONDS)
