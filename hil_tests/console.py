"""The product's console, as somebody at the serial line uses it."""

import re
from dataclasses import dataclass
from typing import Any, Final

PASSWORD: Final = "a password of the rig"
ANSWER: Final = rb"(?:^|\n)(OK|ERR EB\d{3})\r\n"
CONFIRM: Final = r"Type ([A-Z]+ \w+) to do it, 0 to go back: "
ANSWER_SECONDS: Final = 120
"""A box under TCG needs seconds for a password alone."""


class ConsoleRefused(Exception):
    """It answered ERR; `code` says which."""

    def __init__(self, said: str, code: str, answer: str) -> None:
        super().__init__(f"{said}: {code}\n{answer}")
        self.code = code


class NotAsked(Exception):
    """It answered at once where it should have asked something."""


@dataclass
class Console:
    """One session; `line` is a RecordedLine."""

    line: Any

    def log_in(self, password: str = PASSWORD) -> str:
        """On a box that has no password yet, choose it.  What it tells on the way in."""
        # A prompt that was shown before, or by another box, is none that hears: ^C leaves
        # whatever stands there with what is typed into it, and has the prompt come again.
        self.line.forget()
        self.line.sendcontrol("c")
        prompts = [r"New password: ", r"\nPassword: ", r"\n\d*> "]
        index, _, _, _ = self.line.expect(prompts, timeout=ANSWER_SECONDS)
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
            index, before, match, _ = self.line.expect(
                [CONFIRM, ANSWER.decode()], timeout=ANSWER_SECONDS
            )
            plan = str(before.decode(errors="replace"))
            if index == 1:
                raise NotAsked(f"{words}: not asked to confirm:\n{plan}")
            return plan + self._answer(words, match.group(1).decode())
        return self._answer(words)

    def choose(self, group: str, *answers: str, confirm: bool = False) -> str:
        """By numbers: of a group of the menu, of an item in it, and whatever it asks then; what
        the last one brings."""
        self.say(group)
        for answer in answers[:-1]:
            self.line.sendline(answer)
            index, before, _, _ = self.line.expect(
                [r"\(0 = back\): ", ANSWER.decode()], timeout=ANSWER_SECONDS
            )
            if index == 1:
                raise NotAsked(f"{answer}: no question came:\n{before.decode(errors='replace')}")
        return self.say(answers[-1], confirm)

    def log_out(self) -> None:
        """From anywhere."""
        self.line.sendcontrol("c")
        self.line.sendline("exit")
        self.line.expect("\nPassword: ", timeout=ANSWER_SECONDS)

    def wrong_password(self) -> None:
        """Somebody guesses, once the line asks."""
        self.line.sendline("a guess")
        self.line.expect("ERR EB611\r\n", timeout=ANSWER_SECONDS)

    def await_deafness(self) -> int:
        """The seconds for which it says that it takes no password."""
        _, _, match, _ = self.line.expect(
            r"wrong passwords in a row: no login here for (\d+) s", timeout=ANSWER_SECONDS
        )
        return int(match.group(1))

    def await_password_prompt(self) -> None:
        """However long it takes none."""
        self.line.expect("\nPassword: ", timeout=ANSWER_SECONDS)

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
