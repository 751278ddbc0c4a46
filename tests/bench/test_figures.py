"""What the bench makes of numbers; that it measures at all is its own to tell."""

import io
import json
from pathlib import Path

from click.testing import CliRunner
from pytest_mock import MockerFixture
from rich.console import Console

from bench import results, table
from bench.__main__ import main
from bench.figures import Bound, Effort, Ratio, by_turns

FAST = Ratio("host writes", "k/s", [39.0, 10.0, 26.0], "a peer", [26.0, 10.0, 20.0], 1.3)
SLOW = Ratio("host writes", "k/s", [12.0, 10.0, 26.0], "a peer", [10.0, 10.0, 20.0], 1.3)
SMALL = Bound("memory", "MiB", [120.0, 140.0, 128.0], 128.0)
LARGE = Bound("memory", "MiB", [120.0, 140.0, 128.1], 128.0)


def test_the_median_of_the_pairs_decides() -> None:
    assert FAST.ratios == [1.5, 1.0, 1.3]
    assert (FAST.met, SLOW.met) == (True, False)
    assert (SMALL.met, LARGE.met) == (True, False)


def test_ours_and_theirs_take_turns() -> None:
    turns: list[str] = []

    def measure(who: str, speed: float) -> float:
        turns.append(who)
        return speed

    ours, theirs = by_turns(3, lambda: measure("ours", 2.0), lambda: measure("theirs", 1.0))
    assert turns == ["ours", "theirs"] * 3
    assert (ours, theirs) == ([2.0] * 3, [1.0] * 3)


def test_the_table_says_what_is_short() -> None:
    output = io.StringIO()
    table.show([FAST, SLOW, SMALL, LARGE], Console(file=output, width=table.WIDTH))
    lines = output.getvalue().splitlines()[1:]
    assert [line.split()[-1] for line in lines] == ["met", "SHORT", "met", "SHORT"]
    assert "1.30 (1.00–1.50)" in lines[0]
    assert "≤ 128 MiB" in lines[3]


def test_the_file_holds_every_number(tmp_path: Path) -> None:
    place = tmp_path / "results" / "latest.json"
    results.write([SLOW, LARGE], Effort(repeat=3, quick=True), place)
    written = json.loads(place.read_text(encoding="utf-8"))
    assert (written["schema"], written["repeat"], written["quick"]) == (1, 3, True)
    ratio, bound = written["figures"]
    assert (ratio["ours"], ratio["theirs"], ratio["met"]) == (SLOW.ours, SLOW.theirs, False)
    assert (bound["values"], bound["at_most"], bound["met"]) == (LARGE.values, 128.0, False)


def test_without_root_it_says_so_and_ends_with_3(mocker: MockerFixture) -> None:
    mocker.patch("os.geteuid", return_value=1000)
    done = CliRunner().invoke(main, ["--quick"])
    assert done.exit_code == 3
    assert done.output.startswith("bench: this machine lacks root")
    assert done.output.count("\n") == 1
