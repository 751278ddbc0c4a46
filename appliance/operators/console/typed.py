"""Commands as they are typed: parsed by the same definitions as `cdpctl`'s.

What differs here: there is no `--yes`, since the console asks; `--all` shows
an answer without stopping at full pages, for rigs; and what works on disks by
itself is not done here.
"""

import shlex
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import click
from click.exceptions import Exit, NoArgsIsHelpError

from appliance.errors import NotHere, NotUnderstood
from appliance.operators.commands import add_verbs, more_option
from appliance.operators.console.paper import WIDTH, Paper, plain
from appliance.operators.parameters import Value
from appliance.operators.verbs import VERBS, Verb

HERE: Final[dict[str, Verb]] = {
    verb.name: replace(verb, parameters=tuple(one for one in verb.parameters if one.name != "yes"))
    for verb in VERBS.values()
    if not verb.offline and not verb.hidden
}
"""The verbs as the console knows them."""
OWN: Final = {
    "menu": "Show the menu with its numbers.",
    "help": "List the commands, or tell of one: help restore.",
    "password": "Change the console's password.",
    "exit": "Log out.",
}
"""Commands of the console itself."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A verb with checked arguments, as it was typed."""

    verb: Verb
    arguments: dict[str, Value]
    all: bool


@dataclass
class _Parse:
    """What a parse has found."""

    found: tuple[Verb, dict[str, Value]] | None = None
    all: bool = False


def parse(line: str) -> Typed:
    """Raises NotUnderstood, or NotHere."""
    words = split(line)
    _refuse_offline(words)
    parse = _Parse()
    try:
        with _COMMANDS.make_context("console", words, obj=parse) as context:
            _COMMANDS.invoke(context)
    except NoArgsIsHelpError as error:
        raise NotUnderstood(reason=f"{line.strip()} what?") from error
    except click.UsageError as error:
        raise NotUnderstood(reason=_sentence(error)) from error
    except Exit:
        pass
    if parse.found is None:
        raise NotUnderstood(reason="nothing was asked for")
    verb, arguments = parse.found
    return Typed(verb, arguments, parse.all)


def split(line: str) -> list[str]:
    """The words of a line; quotes hold a word together.  Raises NotUnderstood."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise NotUnderstood(reason="a quote has no end") from error


def help_lines(words: list[str]) -> list[str]:
    """All commands, or one of them; raises NotUnderstood."""
    if words in [[name] for name in OWN]:
        return [f"{words[0]}: {OWN[words[0]]}"]
    _refuse_offline(words)
    paper = Paper()
    if not words:
        known = {name: verb.sentence for name, verb in HERE.items()} | OWN
        wide = max(map(len, known)) + 4
        for name, sentence in known.items():
            text = plain(f"  {name}".ljust(wide) + sentence)
            paper.lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * wide)
        paper.line()
        paper.line("^C leaves what is asked or shown, ^U empties the line, ^L shows it again.")
        return paper.lines
    command: click.Command = _COMMANDS
    context = click.Context(command, info_name="", terminal_width=WIDTH, help_option_names=[])
    for word in words:
        found = command.get_command(context, word) if isinstance(command, click.Group) else None
        if found is None:
            raise NotUnderstood(reason=f"there is no command '{' '.join(words)}'")
        command = found
        context = click.Context(command, parent=context, info_name=word, terminal_width=WIDTH)
    for text in command.get_help(context).splitlines():
        paper.line(text)
    return paper.lines


def _refuse_offline(words: list[str]) -> None:
    if words and words[0] in VERBS and VERBS[words[0]].offline:
        raise NotHere(verb=words[0])


def _sentence(error: click.UsageError) -> str:
    text = error.format_message().rstrip(".")
    return text[:1].lower() + text[1:]


def _all_option() -> click.Option:
    return more_option("all", "Do not stop at full pages.", _choose_all)


def _choose_all(context: click.Context) -> None:
    parse = context.find_object(_Parse)
    if parse is not None:
        parse.all = True


def _found(verb: Verb, arguments: dict[str, Value]) -> int:
    parse = click.get_current_context().find_object(_Parse)
    assert parse is not None
    parse.found = (verb, arguments)
    return 0


def _make_commands(run: Callable[[Verb, dict[str, Value]], int]) -> click.Group:
    # Help would be printed to the standard output of the process.
    group = click.Group("console", context_settings={"help_option_names": []})
    add_verbs(group, HERE.values(), run, _all_option)
    return group


_COMMANDS: Final = _make_commands(_found)
