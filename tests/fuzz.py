"""Faces under whatever may come in, for as long as one likes: `python -m tests.fuzz console`.

A face is played in lives, each from a seed of its own; a life is ended by an
`AssertionError` of the face's own checks, by any other exception, or by what
the service's log calls an error.  Memory is watched over all lives: what one
leaves behind is a leak.  The first failure ends it, with the line that replays
it.  A face that joins says here where its lives are made.
"""

import argparse
import gc
import logging
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

FACES: Final = {
    "console": "tests.operators.console.fuzzed",
    "panel": "tests.operators.panel.fuzzed",
    "control": "tests.operators.control_fuzzed",
    "nbd": "tests.hosts.nbd.fuzzed",
}
"""Modules with a function `live`, by the name of the face."""
WARM_LIVES: Final = 20
"""Lives before memory is measured for the first time: caches are filled by then."""
LEAK_BYTES: Final = 8 << 20
"""Resident memory that has grown by more from the first measure to the last is a leak."""


class Live(Protocol):
    """One life of a face, of `turns` acts of chance; raises AssertionError for what must not be.

    Returns what it counted: acts, requests made, and the like.
    """

    def __call__(self, dice: random.Random, turns: int) -> dict[str, int]: ...


@dataclass
class Errors(logging.Handler):
    """What was logged as an error, which no input may cause."""

    records: list[logging.LogRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.ERROR)

    def __hash__(self) -> int:
        return id(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@dataclass
class Tally:
    """What all lives together have counted."""

    lives: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, counted: dict[str, int]) -> None:
        self.lives += 1
        for name, count in counted.items():
            self.counts[name] = self.counts.get(name, 0) + count


def fuzz(
    live: Live,
    first_seed: int,
    turns: int,
    go_on: Callable[[Tally], bool],
) -> tuple[Tally, int]:
    """Lives until `go_on` says no: what they counted, and by how many bytes memory has grown.

    A failed life raises its exception, with the seed in a note.
    """
    errors = Errors()
    logging.getLogger("ebbtide").addHandler(errors)
    tally, first = Tally(), 0
    try:
        while go_on(tally):
            seed = first_seed + tally.lives
            try:
                tally.add(live(random.Random(seed), turns))
                assert not errors.records, errors.records[0].getMessage()
            except Exception as error:
                error.add_note(f"seed {seed}, life {tally.lives + 1}")
                raise
            if tally.lives == WARM_LIVES:
                first = _resident()
        grown = _resident() - first if tally.lives > WARM_LIVES else 0
    finally:
        logging.getLogger("ebbtide").removeHandler(errors)
    return tally, grown


def face(name: str) -> Live:
    """How the face of this name lives."""
    live: Live = import_module(FACES[name]).live
    return live


def _resident() -> int:
    """Bytes of this process in memory (proc(5), statm)."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("face", choices=FACES)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1, help="of the first life")
    parser.add_argument("--lives", type=int, help="how many, unless the time is over before")
    parser.add_argument("--turns", type=int, default=500, help="acts of a life")
    wanted = parser.parse_args()
    began = time.monotonic()

    def go_on(tally: Tally) -> bool:
        if wanted.lives is not None and tally.lives >= wanted.lives:
            return False
        return bool(time.monotonic() - began < wanted.seconds)

    try:
        tally, grown = fuzz(face(wanted.face), wanted.seed, wanted.turns, go_on)
    except Exception as error:
        traceback.print_exc()
        seed = next((note for note in error.__notes__ if note.startswith("seed ")), "seed 0,")
        number = seed.split()[1].rstrip(",")
        print(
            f"to see it again: python -m tests.fuzz {wanted.face}"
            f" --seed {number} --lives 1 --turns {wanted.turns}"
        )
        return 1
    counted = ", ".join(f"{count} {name}" for name, count in tally.counts.items())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{wanted.face}: {tally.lives} lives in {time.monotonic() - began:.0f} s: {counted};"
        f" {grown >> 10} KiB more resident than after life {WARM_LIVES}, {most} MiB at most"
    )
    if grown > LEAK_BYTES:
        print(f"that is a leak: more than {LEAK_BYTES} bytes")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
