"""Load made by fio: over NBD as a host makes it, and on a disk alone."""

import json
from pathlib import Path
from typing import Any, Literal

from bench.rig import MIB, MeasurementFailed, run

Pattern = Literal["read", "write", "randread", "randwrite"]


def over_nbd(
    uri: str,
    pattern: Pattern,
    *,
    block: int,
    depth: int,
    span: int,
    seconds: float | None = None,
    amount: int | None = None,
) -> float:
    """Bytes a second over the first `span` bytes of an export, for `seconds` or for `amount` bytes.

    `block` is in bytes; `depth` requests are in flight.  Random blocks come in
    an order of their own, none twice before all have come.
    """
    until = ["--time_based", f"--runtime={seconds}"] if seconds else [f"--io_size={amount}"]
    return _speed(_job(*_load(uri, pattern, block, depth, span), *until))


def p99_over_nbd(
    uri: str, pattern: Pattern, *, block: int, depth: int, span: int, seconds: float
) -> float:
    """Seconds that all but a hundredth of such requests took at most, from issue to answer."""
    load = _load(uri, pattern, block, depth, span)
    job = _job(*load, "--time_based", f"--runtime={seconds}")
    way = "read" if pattern.endswith("read") else "write"
    return float(job[way]["clat_ns"]["percentile"]["99.000000"]) / 1e9


def _load(uri: str, pattern: Pattern, block: int, depth: int, span: int) -> list[str]:
    return [
        "--ioengine=nbd", f"--uri={uri}", f"--rw={pattern}", f"--bs={block}", f"--size={span}",
        f"--iodepth={depth}",
    ]  # fmt: skip


def sequential_read(node: Path, span: int) -> float:
    """Bytes a second of reading the first `span` bytes of a disk in direct steps of 1 MiB."""
    return _speed(_job(
        "--ioengine=psync", f"--filename={node}", "--direct=1", "--rw=read", f"--bs={MIB}",
        f"--size={span}", "--readonly",
    ))  # fmt: skip


def _job(*arguments: str) -> dict[str, Any]:
    """What fio tells of its one job."""
    output = run("fio", "--name=bench", "--output-format=json", *arguments)
    # The nbd engine talks before the JSON begins.
    _, brace, rest = output.partition("{")
    try:
        job: dict[str, Any] = json.loads(brace + rest)["jobs"][0]
    except (ValueError, LookupError) as error:
        raise MeasurementFailed(f"fio: no figures in {output[:400]!r}") from error
    if job["error"]:
        raise MeasurementFailed(f"fio: error {job['error']}")
    return job


def _speed(job: dict[str, Any]) -> float:
    moved = sum(job[way]["io_bytes"] for way in ("read", "write"))
    milliseconds = max(job[way]["runtime"] for way in ("read", "write"))
    if not moved or not milliseconds:
        raise MeasurementFailed("fio moved nothing")
    return float(moved / milliseconds * 1000)
