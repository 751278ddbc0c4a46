"""The PIT map of ten million writes: its time, and all the memory that its process takes.

Each run is a process of its own, `python -m bench.pit_map WRITES`, which makes
the entries first, in maps of the size that the journal closes them at.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from appliance.cdp.format import ENTRY_DTYPE, Rows
from appliance.cdp.journal import MAP_ENTRIES
from appliance.cdp.pit_map import PitMap
from bench.figures import Bound, Effort, Figure
from bench.rig import MeasurementFailed

WRITES = 10_000_000
BLOCKS = 1 << 28
"""4 KiB blocks of the volume: 1 TiB."""


def pit_map(effort: Effort) -> list[Figure]:
    """Of 10 million, quick or not: a tenth of them would not tell."""
    runs = [_run(mixed=False) for _ in range(1 + effort.repeat)]
    mixed = [_run(mixed=True) for _ in range(effort.repeat)]
    figures: list[Figure] = []
    for work, results in (("of 4 KiB", runs[1:]), ("of 4 to 16 KiB, overlapping", mixed)):
        name = f"PIT map of 10 million writes {work}"
        figures += [
            Bound(f"{name}: time", "s", [seconds for seconds, _ in results], 2.0),
            Bound(f"{name}: peak memory", "MiB", [peak for _, peak in results], 1024.0),
        ]
    return figures


def _run(mixed: bool) -> tuple[float, float]:
    """Seconds, and MiB at most in memory."""
    command = [sys.executable, "-m", "bench.pit_map", "mixed" if mixed else "equal"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", None) or ""
        raise MeasurementFailed(f"PIT map: {error} {said[-400:]}") from error
    result = json.loads(done.stdout)
    return result["seconds"], result["peak_mib"]


def made_entries(first: int, count: int, mixed: bool) -> Rows:
    """Writes `first` and on, of random blocks; `mixed`: of one to four blocks each."""
    chance = np.random.default_rng(first)
    rows = np.empty(count, ENTRY_DTYPE)
    rows["start"] = chance.integers(0, BLOCKS, count) * 8
    rows["write"] = np.arange(first, first + count)
    rows["location"] = rows["write"] * 32
    rows["length"] = chance.integers(1, 5, count) * 8 if mixed else 8
    rows["crc"] = 0
    return rows


def main(kind: str) -> None:
    entries = [
        made_entries(first, min(MAP_ENTRIES, WRITES + 1 - first), kind == "mixed")
        for first in range(1, WRITES + 1, MAP_ENTRIES)
    ]
    began = time.perf_counter()
    PitMap(WRITES, entries)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    """The most that was resident in this process's life."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (peak,) = [int(line.split()[1]) for line in status if line.startswith("VmHWM:")]
    return peak / 1024


if __name__ == "__main__":
    main(sys.argv[1])
