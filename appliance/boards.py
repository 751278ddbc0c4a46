"""Front panel boards: which pin of the I2C expander is what.

A board is an MCP23017 that drives an HD44780 display of two lines of sixteen characters, its
backlight, and five keys.  What differs from board to board stands in a TOML file, and whatever
is unknown, missing, of the wrong type or contradictory in it is refused with the key named.

Which bus the board is on: the one that `[panel] bus` of the settings names; while that is empty,
the one that the board's file names.  (So with `address`.)  Neither opens it to anybody: that does
`63-ebbtide-panel.rules`, which gives cdp-panel the adapters of the boards that we deliver.  Whoever
names another bus gives it away by a rule of their own.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from appliance.errors import BadBoard
from appliance.glass import Key

BOARD_DIRECTORIES: Final = (
    Path("/etc/ebbtide/boards"),
    Path("/usr/share/ebbtide/boards"),
    Path(__file__).parents[1] / "firmware_config" / "boards",
)
"""Where a board is looked for by its name; the last one is the source tree's."""

OUTPUT_ONLY_BIT: Final = 7
"""GPA7 and GPB7 of the MCP23017 are outputs only, since revision D of its data sheet."""

PinName = Annotated[str, msgspec.Meta(pattern=r"\A[AB][0-7]\Z")]
"""Port and bit: `A0` is the pin that its data sheet calls GPA0."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin of the expander: port A is 0 and port B is 1."""

    port: int
    bit: int

    @property
    def mask(self) -> int:
        return 1 << self.bit


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of the file."""


class LcdPins(_Table, frozen=True):
    """The display: its ROM, and its pins, which share a port (one byte on the bus moves them)."""

    rom: Literal["A00", "A02"]
    """Characters from 0x80 on differ: A00 is the Japanese, A02 the European font."""
    columns: Literal[16]
    rows: Literal[2]
    rs: PinName
    rw: PinName
    e: PinName
    d4: PinName
    d5: PinName
    d6: PinName
    d7: PinName

    @property
    def data(self) -> tuple[Pin, Pin, Pin, Pin]:
        """D4 first."""
        return pin(self.d4), pin(self.d5), pin(self.d6), pin(self.d7)

    @property
    def port(self) -> int:
        return pin(self.e).port


class BacklightPins(_Table, frozen=True):
    """The lamps; a board with one lamp names its pin three times."""

    lit: Literal["low", "high"]
    red: PinName
    green: PinName
    blue: PinName

    @property
    def pins(self) -> tuple[Pin, Pin, Pin]:
        """Red first."""
        return pin(self.red), pin(self.green), pin(self.blue)


class KeyPins(_Table, frozen=True):
    """The buttons, on one port (one read tells of all); each shorts its pin to ground, against
    the expander's pull-up."""

    select: PinName
    right: PinName
    down: PinName
    up: PinName
    left: PinName

    @property
    def pins(self) -> dict[Key, Pin]:
        return {key: pin(getattr(self, key.value)) for key in Key}

    @property
    def port(self) -> int:
        return pin(self.select).port


class Board(_Table, frozen=True):
    """One board."""

    bus: str
    """How the name of its I2C adapter begins (/sys/class/i2c-dev/*/name); numbers change.  See
    the module for who has the last word."""
    bus_hertz: Annotated[int, msgspec.Meta(ge=10_000, le=400_000)]
    """The fastest clock that its bus is run at: the time that a byte takes makes the display's
    waits."""
    address: Annotated[int, msgspec.Meta(ge=0x20, le=0x27)]
    lcd: LcdPins
    backlight: BacklightPins
    keys: KeyPins


def pin(name: str) -> Pin:
    return Pin("AB".index(name[0]), int(name[1]))


def read_board(name: str) -> Board:
    """The board of that name, or at that path if there is a `/` in it.

    Raises `BadBoard`, with the key and what is wrong, also when there is none.
    """
    path = _find(name)
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise BadBoard(reason=f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadBoard(reason=f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        return parse_board(text)
    except BadBoard as error:
        raise BadBoard(reason=f"{path}: {error.fields['reason']}") from error


def parse_board(text: str) -> Board:
    """The board that TOML `text` describes; raises `BadBoard`."""
    try:
        board = msgspec.toml.decode(text, type=Board)
    except msgspec.ValidationError as error:
        raise BadBoard(reason=str(error)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadBoard(reason=f"not TOML: {error}") from error
    _check(board)
    return board


def _find(name: str) -> Path:
    if "/" in name:
        return Path(name)
    if re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) is None:
        raise BadBoard(reason=f"'{name}' is neither a board's name nor a path")
    for directory in BOARD_DIRECTORIES:
        path = directory / f"{name}.toml"
        if path.exists():
            return path
    raise BadBoard(reason=f"there is no board '{name}' in {', '.join(map(str, BOARD_DIRECTORIES))}")


def _check(board: Board) -> None:
    """What no single key can tell."""
    lcd = {name: getattr(board.lcd, name) for name in ("rs", "rw", "e", "d4", "d5", "d6", "d7")}
    keys = {key.value: getattr(board.keys, key.value) for key in Key}
    for table, pins in (("lcd", lcd), ("keys", keys)):
        if len({name[0] for name in pins.values()}) > 1:
            raise BadBoard(reason=f"{table}: its pins are not all on one port")
    for name, place in keys.items():
        if pin(place).bit == OUTPUT_ONLY_BIT:
            raise BadBoard(reason=f"keys.{name}: {place} of an MCP23017 cannot be read")
    lamps = {board.backlight.red, board.backlight.green, board.backlight.blue}
    taken: set[str] = set()
    for name in (*lcd.values(), *keys.values(), *lamps):
        if name in taken:
            raise BadBoard(reason=f"{name} is given to two things")
        taken.add(name)
