"""The line that is being typed, byte by byte.

Understood are Backspace and Delete (one character), ^U (the line), ^L (show it
again), ^C, ^D and Enter; escape sequences of arrow keys and flow control are
passed over.  Any other byte comes from no keyboard: the line that it hit is
*noisy* and must not be taken for what somebody wanted.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

LENGTH_MAXIMUM: Final = 400
ESCAPE_MAXIMUM: Final = 8
"""Bytes of an escape sequence; what is longer is none."""


class Control(IntEnum):
    """Bytes with a meaning of their own (ASCII)."""

    INTERRUPT = 0x03
    END = 0x04
    BACKSPACE = 0x08
    TAB = 0x09
    LINE_FEED = 0x0A
    REDRAW = 0x0C
    ENTER = 0x0D
    XON = 0x11
    XOFF = 0x13
    ERASE_LINE = 0x15
    ESCAPE = 0x1B
    DELETE = 0x7F


class Fault(Enum):
    """Why a line is not to be taken."""

    NOISE = "the line is noisy"
    FLOOD = "more came in than could be kept"
    LONG = f"it is longer than {LENGTH_MAXIMUM} characters"


class Key(Enum):
    """What acts at once."""

    INTERRUPT = "interrupt"
    END = "end"
    REDRAW = "redraw"
    ERASED = "the line is empty again"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was ended."""

    text: str
    fault: Fault | None = None


class LineEditor:
    """`press` takes a byte; what the terminal shall show of it gathers in `echo`."""

    def __init__(self) -> None:
        self.echo = bytearray()
        self.secret = False
        self.text = ""
        self.fault: Fault | None = None
        self._escape = 0

    def clear(self) -> None:
        """Forget what was typed."""
        self.text, self.fault, self._escape = "", None, 0

    def press(self, byte: int) -> Line | Key | None:
        """What comes of a byte, if anything does.  Line ends are `ENTER` only."""
        if self._escape and byte >= 0x20:
            self._pass_over(byte)
            return None
        self._escape = 0
        match byte:
            case Control.ENTER:
                line = Line(self.text, self.fault)
                self.clear()
                return line
            case Control.ERASE_LINE:
                return self._erase_line()
            case Control.INTERRUPT:
                # Of a noisy line it may be a part: then it only empties the line.
                return self._erase_line() if self.fault else Key.INTERRUPT
            case Control.END if not self.text and not self.fault:
                return Key.END
            case Control.REDRAW:
                return Key.REDRAW
            case Control.ESCAPE:
                self._escape = 1
            case Control.BACKSPACE | Control.DELETE:
                self._erase()
            case Control.TAB:
                self._add(" ")
            case Control.XON | Control.XOFF:
                # Flow control, which some terminals send unasked.
                pass
            case _ if 0x20 <= byte < 0x7F:
                self._add(chr(byte))
            case _:
                self.fault = self.fault or Fault.NOISE
        return None

    def _add(self, character: str) -> None:
        if len(self.text) == LENGTH_MAXIMUM:
            self.fault = self.fault or Fault.LONG
            return
        self.text += character
        if not self.secret:
            self.echo += character.encode("ascii")

    def _erase(self) -> None:
        if self.text:
            self.text = self.text[:-1]
            if not self.secret:
                self.echo += b"\b \b"

    def _erase_line(self) -> Key | None:
        was_empty = not self.text and not self.fault
        self.clear()
        return None if was_empty else Key.ERASED

    def _pass_over(self, byte: int) -> None:
        """A byte behind ESC: `[` or `O` open a sequence, which ends with a letter or `~`."""
        self._escape += 1
        if self._escape == 2:
            if byte in b"[O":
                return
            self.fault = self.fault or Fault.NOISE
        elif byte < 0x40:
            if self._escape <= ESCAPE_MAXIMUM:
                return
            self.fault = self.fault or Fault.NOISE
        self._escape = 0
