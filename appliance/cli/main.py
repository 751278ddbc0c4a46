"""`cdpctl`: the verbs on a command line.

Exit codes: 0 done, 1 failed, 2 usage, 3 refused or needs `--yes`.  Answers go
to standard output, for people or (`--json`) for programs; errors go to
standard error, or with `--json` to standard output as `{"error": …}`.
"""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from appliance import __version__
from appliance.cli import offline
from appliance.cli.progress import JobProgress
from appliance.cli.tables import errors, output
from appliance.errors import EbbtideError
from appliance.operators.answers import SCHEMA, ErrorAnswer
from appliance.operators.commands import add_verbs, more_option
from appliance.operators.control.client import ControlClient, Refused
from appliance.operators.explanations import explain
from appliance.operators.parameters import Value
from appliance.operators.text import screens
from appliance.operators.verbs import VERBS, Verb

DEFAULT_SOCKET: Final = "/run/ebbtide/control.sock"
INTERRUPTED: Final = 128 + signal.SIGINT


@dataclass
class Options:
    """What was said before the verb."""

    socket: Path = Path(DEFAULT_SOCKET)
    json: bool = False


def run(verb: Verb, arguments: dict[str, Value]) -> int:
    """Do a verb, show what came of it, and give the exit code."""
    options = click.get_current_context().find_object(Options)
    assert options is not None
    try:
        if verb.offline:
            return offline.run(verb.name, arguments, options.json)
        answer = _answer(options, verb, arguments)
    except Refused as refused:
        return _show_error(options, verb, refused.answer)
    except EbbtideError as error:
        return _show_error(options, verb, ErrorAnswer.of(error))
    if options.json:
        _print_json(answer)
    else:
        screens.show(output(), verb.name, answer)
    return 0


def _answer(options: Options, verb: Verb, arguments: dict[str, Value]) -> dict[str, Any]:
    if verb.name == "explain":
        answer: dict[str, Any] = msgspec.to_builtins(explain(str(arguments["code"])))
        return answer
    with ControlClient(options.socket) as client:
        waits = verb.name == "job wait" or arguments.get("wait") is True
        if options.json or not waits:
            return client.request(verb.name, arguments)
        with JobProgress() as shown:
            try:
                return client.request(verb.name, arguments, shown.report)
            except KeyboardInterrupt:
                if shown.job is not None:
                    number = shown.job["number"]
                    errors().line(f"it goes on; `cdpctl job cancel {number}` would stop it")
                raise


def _show_error(options: Options, verb: Verb, error: ErrorAnswer) -> int:
    if options.json:
        told = error.answer or {}
        fields = ("code", "sentence", "remedy", "exit_code")
        _print_json(told | {"error": {name: getattr(error, name) for name in fields}})
        return error.exit_code
    if error.answer is not None:
        screens.show(output(), verb.name, error.answer)
    errors().line(f"cdpctl: {error.code}: {error.sentence}", "bold red")
    errors().line(f"  {error.remedy}")
    return error.exit_code


def _print_json(answer: dict[str, Any]) -> None:
    click.echo(msgspec.json.encode({"schema": SCHEMA} | answer).decode())


def _choose_json(context: click.Context) -> None:
    context.ensure_object(Options).json = True


def _json_option() -> click.Option:
    return more_option("json", "Answer with JSON.", _choose_json)


def _choose_socket(context: click.Context, _: click.Parameter, path: str) -> None:
    context.ensure_object(Options).socket = Path(path)


def _make_command() -> click.Group:
    group = click.Group(
        "cdpctl",
        params=[
            click.Option(
                ["--socket"],
                metavar="PATH",
                default=DEFAULT_SOCKET,
                envvar="EBBTIDE_SOCKET",
                show_default=True,
                show_envvar=True,
                expose_value=False,
                callback=_choose_socket,
                help="The control socket of cdpd.",
            ),
            _json_option(),
        ],
        help="Look at volumes that Ebbtide protects, and put them back to any moment.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 refused or needs --yes.",
    )
    add_verbs(group, VERBS.values(), run, _json_option)
    return click.version_option(__version__, prog_name="cdpctl")(group)


COMMAND: Final = _make_command()


def main() -> None:
    """The entry point of `cdpctl`."""
    try:
        sys.exit(COMMAND(prog_name="cdpctl", standalone_mode=False))
    except click.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
