"""How each program of the box begins and ends: settings, log, and words for an error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from appliance.drivers.journal import start_logging
from appliance.errors import EbbtideError


def config_option(required: bool = True) -> Callable[[Any], Any]:
    """`--config FILE`, a Path: the same file for all programs."""
    return click.option(
        "--config",
        "config",
        type=click.Path(path_type=Path),
        required=required,
        help="The settings file.",
    )


@contextmanager
def program(name: str) -> Iterator[None]:
    """Around all that a program does: an error ends it with its words and its exit code."""
    start_logging(name)
    try:
        yield
    except EbbtideError as error:
        end(name, error.code, str(error), error.remedy, error.exit_code)


def end(name: str, code: str, sentence: str, remedy: str, exit_code: int) -> None:
    """Raises SystemExit."""
    click.echo(f"{name}: {code}: {sentence}", err=True)
    click.echo(f"{name}: {remedy}", err=True)
    sys.exit(exit_code)
