"""The driver of the front panel before a played one, and what must hold between them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from smbus2 import i2c_msg

from appliance.boards import Board, read_board
from appliance.drivers.front_panel import FrontPanel
from appliance.glass import COLUMNS, Backlight, Glass, Key
from appliance.simulated.front_panel import SimulatedPanel

BOARDS = {name: read_board(name) for name in ("lcd-plate", "lcd-plate-mono", "hand-wired")}


def glass(first: str, second: str = "", backlight: Backlight = Backlight.GREEN) -> Glass:
    """The lines filled up with blanks."""
    return Glass((first.ljust(COLUMNS), second.ljust(COLUMNS)), backlight)


GLASSES = (
    glass("finance    14:02", "restore ███▌░░░░", Backlight.TEAL),
    glass("▲ up      down ▼", "◀ back    more ▶", Backlight.RED),
    glass("0123456789:;<=>?", "@ABCDEFGHIJKLMNO", Backlight.YELLOW),
    glass("PQRSTUVWXYZ[\\]^_", "`abcdefghijklmno", Backlight.BLUE),
    glass("pqrstuvwxyz{|}~!", "\"#$%&'()*+,-./ …", Backlight.VIOLET),
    glass("→ ← ↵ · ↑ ↓", "", Backlight.WHITE),
    glass("", "", Backlight.OFF),
)
"""They carry every character of the keyboard, every colour, and glyphs enough to redraw some."""

POWERED = ((True, None), (False, None), (False, 0x0), (False, 0x2), (False, 0xF))
"""How the display may find itself: whether in 8-bit mode, and what half of a pair it has."""


@dataclass
class PanelRig:
    """A panel wired as `part` says, and a driver that believes it is wired as `board` says."""

    board: Board
    part: SimulatedPanel
    driver: FrontPanel

    def cost(self, shown: Glass) -> tuple[int, int]:
        """The transactions and bytes that showing it takes."""
        before = self.part.transactions, self.part.bytes
        self.driver.show(shown)
        assert self.part.glass() == seen(self.board, shown)
        return self.part.transactions - before[0], self.part.bytes - before[1]


class WatchedBus:
    """Tells after each transaction how many bytes went over the bus for it."""

    def __init__(self, part: SimulatedPanel, passed: Callable[[int], None]) -> None:
        self._part = part
        self._passed = passed

    def i2c_rdwr(self, *i2c_msgs: i2c_msg) -> None:
        before = self._part.bytes
        self._part.i2c_rdwr(*i2c_msgs)
        self._passed(self._part.bytes - before)


def rig(board: Board, wired: Board | None = None) -> PanelRig:
    part = SimulatedPanel(wired or board)
    return PanelRig(board, part, FrontPanel(part, board, part.sleep))


def seen(board: Board, shown: Glass) -> Glass:
    """What a person sees of it: a board with one lamp has one colour."""
    one_lamp = len(set(board.backlight.pins)) == 1
    if one_lamp and shown.backlight is not Backlight.OFF:
        return Glass(shown.lines, Backlight.WHITE)
    return shown


def left_behind(address: int) -> Iterator[list[i2c_msg]]:
    """What somebody else may have done to the expander since its reset."""
    yield []
    every_register = i2c_msg.write(address, [0x00, *[0xFF] * 10, 0x00, 0x00, *[0xFF] * 10])
    for settings in (0x00, 0x20, 0x80, 0xA0):
        yield [every_register, i2c_msg.write(address, [0x0B, settings])]


def misfit(board: Board, wired: Board) -> str:
    """Where a driver of `board` and a part that is `wired` so differ; nothing if they fit."""
    powered = zip(left_behind(wired.address), POWERED, strict=True)
    for number, (messages, (eight_bits, half)) in enumerate(powered):
        bench = rig(board, wired)
        bench.part.plug(eight_bits=eight_bits, half=half)
        for message in messages:
            bench.part.i2c_rdwr(message)
        try:
            for shown in GLASSES:
                bench.driver.show(shown)
                if bench.part.glass() != seen(wired, shown):
                    return f"{number}: {bench.part.glass()} for {shown}"
            for key in Key:
                bench.part.press(key)
                if (down := bench.driver.keys()) != {key}:
                    return f"{number}: {down} for {key}"
                bench.part.release(key)
        except OSError as error:
            return f"{number}: {error}"
    return ""
