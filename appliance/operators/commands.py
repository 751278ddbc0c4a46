"""Commands of click made from the table of verbs."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import click

from appliance.errors import BadRequest
from appliance.operators.parameters import Parameter, Value
from appliance.operators.verbs import VERBS, Verb

TIME_AGO: Final = re.compile(r"-\d+[smhdw]")
"""A point that begins like an option."""

Run = Callable[[Verb, dict[str, Value]], int]
"""Does a verb with checked arguments; gives the exit code."""


def more_option(name: str, help_text: str, choose: Callable[[click.Context], None]) -> click.Option:
    """A switch of the face's own: `choose` is called where it is said, and no verb hears of it."""

    def said(context: click.Context, _: click.Parameter, chosen: bool) -> None:
        if chosen:
            choose(context)

    return click.Option(
        [f"--{name}"], is_flag=True, expose_value=False, callback=said, help=help_text
    )


class VerbCommand(click.Command):
    """A verb.  Of what looks like an option and is none, it takes a time ago as an argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            if not isinstance(parameter, click.Argument):
                continue
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, str) and item.startswith("-") and not TIME_AGO.fullmatch(item):
                    raise click.NoSuchOption(item, ctx=ctx)
        return rest


def add_verbs(
    group: click.Group, verbs: Iterable[Verb], run: Run, more: Callable[[], click.Option]
) -> None:
    """Give `group` a command for each verb; those of two words stand in groups of their own.
    `more` makes the option that every command has besides its own."""
    for verb in verbs:
        if verb.hidden:
            continue
        first, _, second = verb.name.partition(" ")
        parent = group
        if second:
            known = group.commands.get(first)
            if not isinstance(known, click.Group):
                known = click.Group(first, help=_group_help(first))
                group.add_command(known)
            parent = known
        parent.add_command(_command(verb, second or first, run, more()))


def _command(verb: Verb, name: str, run: Run, more: click.Option) -> click.Command:
    def callback(**given: Any) -> None:
        context = click.get_current_context()
        arguments = {
            key: list(value) if isinstance(value, tuple) else value for key, value in given.items()
        }
        try:
            checked = verb.check(arguments)
        except BadRequest as error:
            raise click.UsageError(str(error.fields["reason"]), context) from error
        context.exit(run(verb, checked))

    return VerbCommand(
        name,
        callback=callback,
        params=[*map(_parameter, verb.parameters), more],
        help=_help(verb),
        short_help=verb.sentence,
        context_settings={"ignore_unknown_options": True},
    )


def _parameter(parameter: Parameter) -> click.Parameter:
    kind = _kind(parameter)
    if not parameter.flag:
        many = -1 if parameter.type in ("assignments", "disks") else 1
        return click.Argument([parameter.name], type=kind, required=parameter.required, nargs=many)
    if parameter.type == "switch":
        return click.Option([f"--{parameter.name}"], is_flag=True, help=parameter.help)
    return click.Option(
        [f"--{parameter.name}"], type=kind, required=parameter.required, help=parameter.help
    )


def _kind(parameter: Parameter) -> click.ParamType[Any]:
    match parameter.type:
        case "whole":
            return click.INT
        case "seconds":
            return click.FLOAT
        case "choice":
            return click.Choice(parameter.choices)
        case _:
            return click.STRING


def _help(verb: Verb) -> str:
    """The sentence, and what the arguments are: click tells of options alone."""
    positional = [parameter for parameter in verb.parameters if not parameter.flag]
    if not positional:
        return verb.sentence
    width = max(len(parameter.name) for parameter in positional)
    lines = [f"  {parameter.name.upper():<{width}}  {parameter.help}" for parameter in positional]
    return "\n".join([verb.sentence, "", "\b", *lines])


def _group_help(word: str) -> str:
    return " ".join(verb.sentence for verb in VERBS.values() if verb.name.startswith(f"{word} "))
