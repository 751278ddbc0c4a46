"""The figures as a table for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.figures import Bound, Figure

WIDTH = 150
"""Columns where the output is no terminal."""


def show(figures: Sequence[Figure], console: Console) -> None:
    """Medians, each with its least and most in brackets."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("work", "ours", "beside", "theirs", "ratio", "target", "verdict"):
        right = heading in {"ours", "theirs", "ratio", "target"}
        table.add_column(heading, justify="right" if right else "left")
    for figure in figures:
        table.add_row(*_row(figure))
    console.print(table)


def _row(figure: Figure) -> tuple[str, ...]:
    if isinstance(figure, Bound):
        target = "" if figure.at_most is None else f"≤ {figure.at_most:g} {figure.unit}"
    else:
        target = "" if figure.at_least is None else f"≥ {figure.at_least:g}"
    verdict = "" if not target else "met" if figure.met else "SHORT"
    if isinstance(figure, Bound):
        ours = f"{_spread(figure.values)} {figure.unit}"
        return figure.work, ours, "", "", "", target, verdict
    return (
        figure.work,
        f"{_spread(figure.ours)} {figure.unit}",
        figure.beside,
        f"{_spread(figure.theirs)} {figure.unit}",
        _spread(figure.ratios, "{:.2f}"),
        target,
        verdict,
    )


def _spread(values: Sequence[float], form: str = "") -> str:
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = (ordered[middle] + ordered[~middle]) / 2
    form = form or ("{:.0f}" if median >= 100 else "{:.2f}" if median < 10 else "{:.1f}")
    if len(ordered) == 1:
        return form.format(median)
    return f"{form.format(median)} ({form.format(ordered[0])}–{form.format(ordered[-1])})"
