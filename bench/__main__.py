"""`python -m bench`: measure, show a table, and leave a JSON file.

Ends with 0 also when a figure is short of its target, with 1 when something
could not be measured, with 3 when the machine lacks what it takes.
"""

import signal
import sys
from collections.abc import Callable
from typing import Final

import click
from rich.console import Console

from bench import results, table
from bench.figures import Effort, Figure
from bench.hosts import random_reads, random_writes, sequential_writes
from bench.latency import latency
from bench.memory import memory
from bench.pit_map import pit_map
from bench.restore import restore
from bench.rig import MeasurementFailed, missing
from bench.scan import scan

Measure = Callable[[Effort], list[Figure]]

MEASURES: Final[dict[str, Measure]] = {
    "random-writes": random_writes,
    "random-reads": random_reads,
    "sequential-writes": sequential_writes,
    "scan": scan,
    "latency": latency,
    "restore": restore,
    "pit-map": pit_map,
    "memory": memory,
}
REPEAT: Final = 5
REPEAT_QUICK: Final = 2


@click.command()
@click.option("--quick", is_flag=True, help="Smaller and shorter: does everything work?")
@click.option(
    "--only", "names", type=click.Choice(list(MEASURES)), multiple=True, help="Only this measure."
)
@click.option("--repeat", type=click.IntRange(1, 1000), help="How often each is measured.")
def main(quick: bool, names: tuple[str, ...], repeat: int | None) -> None:
    """Measure Ebbtide beside its peers."""
    lack = missing()
    if lack:
        click.echo(f"bench: this machine lacks {lack}", err=True)
        sys.exit(3)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    effort = Effort(repeat or (REPEAT_QUICK if quick else REPEAT), quick)
    figures: list[Figure] = []
    failed = False
    for name in names or MEASURES:
        click.echo(f"bench: {name} …", err=True)
        try:
            figures += MEASURES[name](effort)
        except MeasurementFailed as error:
            click.echo(f"bench: {name} could not be measured: {error}", err=True)
            failed = True
    console = Console()
    table.show(figures, console if console.is_terminal else Console(width=table.WIDTH))
    results.write(figures, effort)
    click.echo(f"bench: written to {results.PLACE}", err=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
