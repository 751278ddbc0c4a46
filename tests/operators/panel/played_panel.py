"""The panel's machine with time and fingers in the test's hands, and a real control socket or
canned answers behind it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from appliance.boards import read_board
from appliance.drivers.front_panel import FrontPanel
from appliance.drivers.smart import NOT_ASKED
from appliance.errors import EbbtideError
from appliance.glass import Glass, Key
from appliance.operators.answers import DisksAnswer, ErrorAnswer, StatusAnswer
from appliance.operators.control.client import ControlClient, Refused
from appliance.operators.panel.fingers import Fingers
from appliance.operators.panel.gate import Tries
from appliance.operators.panel.machine import Ask, PanelMachine
from appliance.operators.panel.plate import Plate
from appliance.operators.panel.step import PanelStep
from appliance.simulated.front_panel import SimulatedPanel
from tests.operators.fake_appliance import NOON
from tests.operators.running_service import RunningService, running_service

Json = dict[str, Any]
TICK = 0.05
HEAR_SECONDS = 1.0


class PlayedPanel:
    """`ask` answers requests, or raises; it is called at the tick after one is wished for."""

    def __init__(
        self, ask: Callable[[str, Json], Json], tries: Tries | None = None, pin: str = ""
    ) -> None:
        self.machine = PanelMachine(tries)
        self.asked: list[tuple[str, Json]] = []
        self.now = 100.0
        self.wall = NOON / 1e9
        self._ask = ask
        self._pin = pin
        self._heard_at = 0.0
        self.turn(TICK)

    # What a person does.

    def press(self, key: Key) -> None:
        self.machine.press(key)

    def release(self, key: Key) -> None:
        self.machine.release(key)

    def tap(self, *keys: Key) -> None:
        for key in keys:
            self.press(key)
            self.turn(0.1)
            self.release(key)
            self.turn(0.15)

    def hold(self, key: Key, seconds: float) -> None:
        self.press(key)
        self.turn(seconds)
        self.release(key)
        self.turn(0.15)

    @property
    def glass(self) -> Glass:
        return self.machine.glass()

    @property
    def lines(self) -> tuple[str, str]:
        return self.glass.lines

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def read(self) -> str:
        """What stands on the second line until it is all read, and begins anew."""
        told = [self.lines]
        while len(told) < 3 or told[-1] != told[0]:
            self.turn(0.1)
            if self.lines != told[-1]:
                told.append(self.lines)
            assert len(told) < 100
        return " ".join(second.strip() for _, second in told[:-1])

    # What passes.

    def turn(self, seconds: float) -> None:
        """Time passes; what is wished for is done."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += TICK
            self.wall += TICK
            self._step()
            self._do_wishes()
            if self.now - self._heard_at >= HEAR_SECONDS:
                self.hear()

    def _step(self) -> None:
        self.machine.tick(self.now, self.wall)
        self.machine.glass()  # which checks itself

    def hear(self) -> None:
        """The appliance says how it is."""
        self._heard_at = self.now
        try:
            status = msgspec.convert(self._ask("status", {}), StatusAnswer)
            disks = msgspec.convert(self._ask("disks", {}), DisksAnswer)
        except EbbtideError:
            self.machine.lose_service()
        else:
            self.machine.hear(status, disks)

    def _do_wishes(self) -> None:
        for wish in self.machine.wishes():
            if not isinstance(wish, Ask):
                self.machine.checked(wish.number, wish.pin == self._pin)
                continue
            self.asked.append((wish.verb, dict(wish.arguments)))
            try:
                self.machine.answered(wish.number, self._ask(wish.verb, dict(wish.arguments)))
            except Refused as refused:
                self.machine.refused(wish.number, refused.answer)
            except EbbtideError as error:
                self.machine.refused(wish.number, ErrorAnswer.of(error))

    def requests(self, verb: str) -> list[Json]:
        """What was asked for by this verb."""
        return [arguments for asked, arguments in self.asked if asked == verb]

    @property
    def destroyed(self) -> list[Json]:
        """What was asked for that cannot be taken back."""
        return [arguments for _, arguments in self.asked if arguments.get("yes")]


class PlatedPanel(PlayedPanel):
    """With the driver and the played parts: what is seen was decoded from the pins, and fingers
    are on contacts."""

    def __init__(self, ask: Callable[[str, Json], Json]) -> None:
        board = read_board("lcd-plate")
        self.part = SimulatedPanel(board)
        self._plate = Plate(FrontPanel(self.part, board, self.part.sleep))
        self._panel_step: PanelStep | None = None
        super().__init__(ask)

    def press(self, key: Key) -> None:
        self.part.press(key)

    def release(self, key: Key) -> None:
        self.part.release(key)

    @property
    def glass(self) -> Glass:
        return self.part.glass()

    def _step(self) -> None:
        if self._panel_step is None:
            self._panel_step = PanelStep(self.machine, self._plate, Fingers())
        self._panel_step.turn(self.now, self.wall)


def heal(service: RunningService) -> None:
    """The fake appliance has a failing disk, which would be on every glass."""
    disks = service.appliance.disks
    service.appliance.disks = lambda: [  # type: ignore[method-assign]
        replace(disk, health=NOT_ASKED) for disk in disks()
    ]


def open_menu(panel: PlayedPanel, *labels: str) -> None:
    """Go down the menus to where these labels are chosen."""
    panel.tap(Key.SELECT)
    for label in labels:
        for _ in range(20):
            if panel.lines[1][1:15].strip() == label:
                break
            assert "▼" in panel.lines[0], f"no {label}: {panel.lines}"
            panel.tap(Key.DOWN)
        panel.tap(Key.SELECT)


@contextmanager
def plated_panel(
    directory: Path, prepare: Callable[[RunningService], None] = lambda service: None
) -> Iterator[tuple[PlatedPanel, RunningService]]:
    """A panel with played parts, as `served_panel`."""
    with running_service(directory) as service:
        heal(service)
        prepare(service)
        with ControlClient(service.socket, "panel") as client:
            yield PlatedPanel(client.request), service


@contextmanager
def served_panel(
    directory: Path, tries: Tries | None = None, pin: str = ""
) -> Iterator[tuple[PlayedPanel, RunningService]]:
    """A panel at a control server with the fake appliance."""
    with (
        running_service(directory) as service,
        ControlClient(service.socket, "panel") as client,
    ):
        heal(service)
        yield PlayedPanel(client.request, tries, pin), service
