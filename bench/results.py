"""The figures as a file for programs."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from appliance import __version__
from bench.figures import Effort, Figure
from bench.rig import MeasurementFailed, run

PLACE = Path("bench-results") / "latest.json"
SCHEMA = 1


def write(figures: Sequence[Figure], effort: Effort, place: Path = PLACE) -> None:
    """One JSON object; what an earlier run wrote there is replaced."""
    place.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "schema": SCHEMA,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "release": __version__,
        "machine": _machine(),
        "repeat": effort.repeat,
        "quick": effort.quick,
        "figures": [figure.as_json() for figure in figures],
    }
    place.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _machine() -> dict[str, Any]:
    return {
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "fio": _first_line("fio", "--version"),
        "qemu": _first_line("qemu-nbd", "--version"),
    }


def _first_line(*command: str) -> str:
    try:
        return run(*command).splitlines()[0]
    except (MeasurementFailed, IndexError):
        return ""
