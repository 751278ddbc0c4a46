"""Simulated power cuts for as long as one likes: `python -m tests.soak --seconds 600`.

Every seed is a run of lives over a pair of simulated disks, held against an
oracle (`tests/simulation`).  Both cores work, each on seeds of its own.  The
first failure ends it: its story, and the line that replays it, are printed.
"""

import argparse
import multiprocessing
import os
import sys
import time
from multiprocessing import Queue

from tests.simulation.explorer import LIVES, Explorer
from tests.simulation.findings import Failure, Tally
from tests.simulation.scans import ScanExplorer

Report = tuple[int, Tally, Failure | None] | None


def _work(wanted: argparse.Namespace, seeds: range, end: float, found: "Queue[Report]") -> None:
    """One process: its seeds, until the time is over; the last report has no seed."""
    lives, go_on = wanted.lives, wanted.go_on
    for seed in seeds:
        if time.monotonic() > end:
            break
        kind = ScanExplorer if wanted.scans else Explorer
        explorer = kind(seed, wanted.story)
        failure = explorer.run(lives)
        found.put((seed, explorer.tally, failure))
        if failure is not None and not go_on:
            break
    found.put(None)


def _scans(total: Tally) -> str:
    """What there is to tell of synchronisations, in lines of its own."""
    if not total.phases:
        return ""
    phases = ", ".join(f"{phase} {count}" for phase, count in sorted(total.phases.items()))
    return (
        f"{total.scans} scans judged, {total.spoils} sectors changed behind our back\n"
        f"cuts and kills by phase: {phases}\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1, help="the first of the seeds")
    parser.add_argument("--runs", type=int, help="how many seeds, unless the time is over before")
    parser.add_argument("--lives", type=int, default=LIVES, help="of each seed")
    parser.add_argument("--scans", action="store_true", help="lives of synchronisations")
    parser.add_argument("--story", action="store_true", help="keep every disk request in the story")
    parser.add_argument("--go-on", action="store_true", help="after a failure, too")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    wanted = parser.parse_args()
    began = time.monotonic()
    end = began + wanted.seconds
    behind = wanted.seed + (wanted.runs if wanted.runs is not None else 1 << 40)
    processes = 1 if wanted.runs == 1 else wanted.processes
    found: Queue[Report] = multiprocessing.Queue()
    workers = [
        multiprocessing.Process(
            target=_work,
            args=(wanted, range(wanted.seed + at, behind, processes), end, found),
        )
        for at in range(processes)
    ]
    for worker in workers:
        worker.start()
    total, last, failures, working = Tally(), wanted.seed - 1, 0, processes
    while working:
        report = found.get()
        if report is None:
            working -= 1
            continue
        seed, tally, failure = report
        total.add(tally)
        last = max(last, seed)
        if failure is not None:
            failures += 1
            print(failure.what if wanted.go_on else failure, flush=True)
            if not wanted.go_on:
                break
    for worker in workers:
        worker.terminate()
        worker.join()
    seconds = time.monotonic() - began
    print(
        f"{total.lives} lives: {total.power_cuts} power cuts, {total.kills} kills,"
        f" {total.stops} stops; {total.writes} writes, {total.points} points compared,"
        f" {total.restores} restores, {total.losses} secondary faults\n{_scans(total)}"
        f"seeds {wanted.seed} to {last}, {wanted.lives} lives each; {seconds:.0f} s,"
        f" {total.power_cuts / seconds:.1f} power cuts a second; {failures} failures"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
