"""The line that is being typed, byte by byte.

Understood are Backspace and Delete (one character), ^U (the line), ^L (show it
again), ^C, ^D and Enter; escape sequences of arrow keys and flow control are
passed over.  Any other byte comes from no keyboard: the line that it hit is
*noisy* and must not be taken for what somebody wanted.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

LENGTH_MAXIMUM: Final = 400
ESCAPE_MAXIMUM: Final = 8
"""Bytes of an escape sequence; what is longer is none."""

INTERRUPT: Final = 0x03
END: Final = 0x04
REDRAW: Final = 0x0C
ERASE_LINE: Final = 0x15
ENTER: Final = 0x0D
_ERASE = frozenset({0x08, 0x7F})
_PASSED_OVER = frozenset({0x11, 0x13})
"""XON and XOFF, which some terminals send unasked."""
_ESCAPE = 0x1B
_TAB = 0x09


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
        """What comes of a byte, if anything does.  Line ends are ENTER only."""
        if self._escape and byte >= 0x20:
            self._pass_over(byte)
            return None
        self._escape = 0
        match byte:
            case 0x0D:
                line = Line(self.text, self.fault)
                self.clear()
                return line
            case 0x15:
                return self._erase_line()
            case 0x03:
                # Of a noisy line it may be a part: then it only empties the line.
                return self._erase_line() if self.fault else Key.INTERRUPT
            case 0x04 if not self.text and not self.fault:
                return Key.END
            case 0x0C:
                return Key.REDRAW
            case 0x1B:
                self._escape = 1
            case _ if byte in _ERASE:
                self._erase()
            case _ if byte == _TAB or 0x20 <= byte < 0x7F:
                self._add(" " if byte == _TAB else chr(byte))
            case _ if byte not in _PASSED_OVER:
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
