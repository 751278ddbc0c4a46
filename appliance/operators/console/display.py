"""What is on its way to the line: text, pages, and the one line that is rewritten in place.

Everything here can still be dropped.  Lines wait as they are and become bytes
only as bytes are taken, so a long answer never stands here twice.
"""

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Final

from appliance.operators.console.paper import WIDTH, plain

PAGE: Final = 22
"""Lines between two stops; a terminal has 24."""
OUTPUT_FULL: Final = 1024
"""Bytes that wait to be taken before more of an answer is made ready."""
ECHO_FULL: Final = 4096
"""Bytes beyond which even an echo is left out."""
OUTPUT_MOST: Final = ECHO_FULL + OUTPUT_FULL
"""Bytes beyond which nothing is added: the line is stuck, or flooded from the other end."""
MORE: Final = "-- more -- (Enter: go on, a: all, q: stop) "


class Shown(Enum):
    """How far the lines are."""

    ALL = "all lines are on their way"
    PART = "there is no room for more now"
    PAGE = "the page is full, and says so"


class Display:
    """See the module."""

    def __init__(self) -> None:
        self._output = bytearray()
        self._lines: deque[str] = deque()
        self._rows = 0
        self._live = ""

    @property
    def waiting(self) -> int:
        """Bytes that can be taken."""
        return len(self._output)

    @property
    def has_room(self) -> bool:
        return len(self._output) < OUTPUT_FULL

    def take(self, most: int) -> bytes:
        taken = bytes(self._output[:most])
        del self._output[:most]
        return taken

    def put(self, text: str) -> None:
        """Text behind what is there."""
        if len(self._output) < OUTPUT_MOST:
            self._output += text.encode("ascii", "replace")

    def put_line(self, text: str = "") -> None:
        self._live = ""
        self.put(text + "\r\n")

    def echo(self, data: bytes) -> None:
        """What was typed; left out where nobody reads."""
        if len(self._output) < ECHO_FULL:
            self._output += data

    def follow(self, text: str) -> None:
        """Show `text` in the place of what was shown so before; left out while other things are on
        their way."""
        text = plain(text)[:WIDTH]
        if not self._output and text != self._live:
            self._output += b"\r" + text.ljust(len(self._live)).encode()
            self._live = text

    def end_following(self) -> None:
        """What comes now goes below the line that was rewritten."""
        if self._live:
            self.put_line()

    def add(self, lines: Sequence[str]) -> None:
        """Lines for `show`."""
        self._lines.extend(lines)

    def show(self, paged: bool) -> Shown:
        """Make lines ready; with `paged`, stop at a full page."""
        while self._lines:
            if not self.has_room:
                return Shown.PART
            if paged and self._rows >= PAGE:
                self.put(MORE)
                return Shown.PAGE
            self.put_line(self._lines.popleft())
            self._rows += 1
        return Shown.ALL

    def turn_page(self) -> None:
        """Somebody wants to see more, or has typed something: a page begins."""
        self._rows = 0

    def wipe_more(self) -> None:
        """Take the question at the end of a page away again."""
        self._output += b"\r" + b" " * len(MORE) + b"\r"
        self.turn_page()

    def drop_lines(self) -> None:
        """What was not shown yet is not wanted."""
        self._lines.clear()

    def drop_output(self) -> None:
        """What has not left yet is not wanted either."""
        self._output.clear()
        self.turn_page()
