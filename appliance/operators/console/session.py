"""What one person goes through at the line, from the login to the log-out."""

import logging
from collections.abc import Callable
from typing import Final

from appliance.errors import EbbtideError, NotUnderstood
from appliance.operators.access.lockout import Lockout
from appliance.operators.access.passwords import Passwords
from appliance.operators.console import menu
from appliance.operators.console.carrying_out import carry_out
from appliance.operators.console.conversation import (
    Conversation,
    Ended,
    Interrupted,
    Manner,
    ask,
    note,
    perform,
    tell,
)
from appliance.operators.console.login import change_password, log_in
from appliance.operators.console.outcome import answering
from appliance.operators.console.paper import Paper
from appliance.operators.console.typed import help_lines, parse, split
from appliance.operators.control.client import Refused

PROMPT: Final = "> "
VOLUMES_GREETED: Final = 8
_log = logging.getLogger("ebbtide.console")


class _LeaveTheLine(Exception):
    """The person wants to log out."""


def make_session(
    passwords: Passwords, lockout: Lockout, title: str, manner: Manner
) -> Callable[[], Conversation[None]]:
    """A maker of sessions for the machine; `title` says which box and line this is."""

    def session() -> Conversation[None]:
        yield from log_in(passwords, lockout, title)
        manner.logged_in = True
        yield from note("login")
        yield from answering(_greet())
        yield from _Visit(passwords, lockout, manner).serve()
        _log.info("logout")
        yield from tell("logged out", "OK", paged=False)

    return session


def _greet() -> Conversation[None]:
    """How the volumes are, in a line each, and the menu; trouble with the service is told and no
    reason to be left without."""
    paper = Paper()
    try:
        status = yield from perform("status")
        for volume in status["volumes"][:VOLUMES_GREETED]:
            alerts = len(volume["alerts"])
            told = f", {alerts} to look at" if alerts else ""
            paper.line(f"{volume['name']}: {volume['state']}{told}")
        if not status["volumes"]:
            paper.line("no volumes yet")
        for alert in (status.get("image") or {}).get("alerts", []):
            paper.line(f"{alert['code']} {alert['text']}")
    except Refused as refused:
        paper.line(f"{refused.answer.code}: {refused.answer.sentence}")
    except EbbtideError as error:
        paper.line(f"{error.code}: {error}")
    paper.line()
    yield from tell(*paper.lines, *menu.main_lines())


class _Visit:
    """Of one person: takes numbers and commands, and knows no more than the menu that is shown."""

    def __init__(self, passwords: Passwords, lockout: Lockout, manner: Manner) -> None:
        self._passwords = passwords
        self._lockout = lockout
        self._manner = manner
        self._group: menu.Group | None = None

    def serve(self) -> Conversation[None]:
        """Until the person logs out."""
        while True:
            self._manner.paged = True
            try:
                line = yield from ask(self._prompt())
            except Interrupted:
                continue
            except Ended:
                return
            try:
                yield from answering(self._do(line.strip()))
            except _LeaveTheLine:
                return

    def _prompt(self) -> str:
        return PROMPT if self._group is None else f"{self._group.number}{PROMPT}"

    def _do(self, line: str) -> Conversation[None]:
        if not line:
            yield from self._show_menu()
        elif line.isdecimal():
            yield from self._choose(line)
        else:
            yield from self._command(line)

    def _show_menu(self) -> Conversation[None]:
        lines = menu.main_lines() if self._group is None else self._group.lines()
        yield from tell(*lines)

    def _choose(self, line: str) -> Conversation[None]:
        number = int(line)
        if number == 0:
            if self._group is None:
                raise _LeaveTheLine
            self._group = None
            yield from self._show_menu()
        elif self._group is None:
            self._group = next((one for one in menu.GROUPS if one.number == number), None)
            if self._group is None:
                raise NotUnderstood(reason=f"there is no {line} in this menu")
            yield from self._show_menu()
        else:
            item = next((one for one in self._group.items if one.number == number), None)
            if item is None:
                raise NotUnderstood(reason=f"there is no {line} in this menu")
            yield from menu.do(item, self._manner)

    def _command(self, line: str) -> Conversation[None]:
        words = split(line)
        match words:
            case ["exit"]:
                raise _LeaveTheLine
            case ["menu"]:
                self._group = None
                yield from self._show_menu()
            case ["password"]:
                yield from change_password(self._passwords, self._lockout)
            case ["help", *which]:
                self._manner.paged = "--all" not in which
                yield from tell(*help_lines([word for word in which if word != "--all"]))
            case [*which, "--help"]:
                yield from tell(*help_lines(which))
            case _:
                typed = parse(line)
                self._manner.paged = not typed.all
                yield from carry_out(typed.verb, typed.arguments, self._manner)
