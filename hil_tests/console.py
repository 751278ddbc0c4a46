"""The product's console, as somebody at the serial line uses it."""

import re
from dataclasses import dataclass
from typing import Any, Final

PASSWORD: Final = "a password of the rig"
ANSWER: Final = rb"(?:^|\n)(OK|ERR EB\d{3})\r\n"
ANSWER_SECONDS: Final = 90
"""A box under TCG needs seconds for a password alone."""


class ConsoleRefused(Exception):
    """It answered ERR; `code` says which."""

    def __init__(self, said: str, code: str, answer: str) -> None:
        super().__init__(f"{said}: {code}\n{answer}")
        self.code = code


@dataclass
class Console:
    """One session; `line` is a labgrid console."""

    line: Any

    def log_in(self, password: str = PASSWORD) -> str:
        """On a box that has no password yet, choose it.  What it tells on the way in."""
        # ^C leaves whatever stood there, and has the prompt come again.
        self.line.sendcontrol("c")
        index, _, _, _ = self.line.expect([r"New password: ", r"\nPassword: ", r"\n> "], timeout=60)
        if index == 2:
            return ""
        if index == 0:
            self.line.sendline(password)
            self.line.expect("New password again: ", timeout=ANSWER_SECONDS)
        return self._answer("log in", password)

    def say(self, words: str, confirm: bool = False) -> str:
        """A command, typed, and its answer; with `confirm`, what it asks to be typed is typed.

        Raises ConsoleRefused.
        """
        self.line.sendline(words)
        if confirm:
            _, before, match, _ = self.line.expect(
                r"Type ([A-Z]+ \w+) to do it, 0 to go back: ", timeout=ANSWER_SECONDS
            )
            plan = str(before.decode(errors="replace"))
            return plan + self._answer(words, match.group(1).decode())
        return self._answer(words)

    def _answer(self, said: str, typed: str = "") -> str:
        if typed:
            self.line.sendline(typed)
        _, before, match, _ = self.line.expect(ANSWER.decode(), timeout=ANSWER_SECONDS)
        answer = str(before.decode(errors="replace"))
        self.line.expect([r"> ", r"assword: "], timeout=ANSWER_SECONDS)
        if match.group(1) != b"OK":
            code = re.sub(r"^ERR ", "", match.group(1).decode())
            raise ConsoleRefused(said, code, answer)
        return answer
