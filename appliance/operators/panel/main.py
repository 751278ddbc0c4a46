"""`cdp-panel --config FILE`: the front panel's process.

One thread owns the plate and the machine: it reads the keys every few
milliseconds, and does in between what the threads of the connections post.
Without a panel, or without the service, it goes on and waits for them.
"""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from time import monotonic, time
from typing import Final

import click
import msgspec

from appliance import __version__
from appliance.boards import Board, read_board
from appliance.config import PanelSettings, Settings, read_settings
from appliance.drivers.front_panel import FrontPanel
from appliance.drivers.i2c_bus import NamedBus
from appliance.errors import BadSettings
from appliance.operators.access.lockout import Lockout
from appliance.operators.access.passwords import PasswordHash
from appliance.operators.panel.connections import Link, Requester, Watch
from appliance.operators.panel.fingers import Fingers
from appliance.operators.panel.machine import PanelMachine
from appliance.operators.panel.pin import DIGITS_MAXIMUM
from appliance.operators.panel.plate import Plate
from appliance.operators.panel.step import PanelStep
from appliance.operators.program import config_option, program
from appliance.simulated.front_panel import SimulatedPanel

NAME: Final = "cdp-panel"
POLL_SECONDS: Final = 0.015
"""Between two readings of the keys."""
DIGITS_MINIMUM: Final = 4
SIMULATED: Final = "simulated"


@click.command()
@config_option(required=False)
@click.option("--hash-pin", is_flag=True, help="Read a PIN, print what [panel] pin_hash is to be.")
@click.version_option(__version__)
def main(config: Path | None, hash_pin: bool) -> None:
    """The front panel of the appliance."""
    with program(NAME):
        if hash_pin:
            click.echo(_hash_pin(sys.stdin.readline().rstrip("\r\n")))
        elif config is None:
            raise click.UsageError("--config is missing")
        else:
            _serve(read_settings(config))


def _serve(settings: Settings) -> None:
    """Run until a signal says stop."""
    queue: Queue[Callable[[], None]] = Queue()
    stop = Event()
    fingers = Fingers()
    is_pin, tries = _pin(settings)
    machine = PanelMachine(tries)
    step = PanelStep(machine, Plate(_open(settings.panel)), fingers)

    path = settings.service.control_socket
    watch = Watch(path, machine, queue.put, stop)
    requester = Requester(path, machine, queue.put, is_pin)
    link = Link(path, queue.put, stop, fingers)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    for room in (watch, requester, link):
        Thread(target=room.run, name=type(room).__name__.lower(), daemon=True).start()
    while not stop.is_set():
        now = monotonic()
        glass = step.turn(now, time())
        for wish in machine.wishes():
            requester.put(wish)
        link.show(glass, now)
        _do_posted(queue, now + POLL_SECONDS)


def _do_posted(queue: Queue[Callable[[], None]], until: float) -> None:
    """Do what is posted, and wait for more."""
    while (left := until - monotonic()) > 0:
        try:
            queue.get(timeout=left)()
        except Empty:
            return


def _open(settings: PanelSettings) -> FrontPanel:
    """The panel that the settings name, which need not be there yet; raises BadBoard."""
    board = read_board(settings.board)
    if settings.address is not None:
        board = msgspec.structs.replace(board, address=settings.address)
    if settings.bus == SIMULATED:
        return _simulated(board)
    return FrontPanel(NamedBus(settings.bus or board.bus), board)


def _simulated(board: Board) -> FrontPanel:
    part = SimulatedPanel(board)
    return FrontPanel(part, board, part.sleep)


def _pin(settings: Settings) -> tuple[Callable[[str], bool], Lockout | None]:
    """What compares a PIN, and who counts the wrong ones; raises BadSettings."""
    if not settings.panel.pin_hash:
        return lambda pin: False, None
    try:
        kept = PasswordHash.parse(settings.panel.pin_hash)
    except ValueError as error:
        raise BadSettings(reason=f"panel.pin_hash: {error}") from error
    return kept.fits, Lockout(settings.service.state_dir / "panel" / "failures")


def _hash_pin(pin: str) -> str:
    if not (pin.isascii() and pin.isdigit() and DIGITS_MINIMUM <= len(pin) <= DIGITS_MAXIMUM):
        raise click.UsageError(f"a PIN is {DIGITS_MINIMUM} to {DIGITS_MAXIMUM} digits")
    return str(PasswordHash.of_any(pin))
