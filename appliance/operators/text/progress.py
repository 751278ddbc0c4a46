"""How far a job is, in words."""

from typing import Any

from appliance.operators.text import words


def bytes_done(job: dict[str, Any]) -> int:
    """Of `bytes_total`, as the job counts it."""
    return min(int(job["bytes_done"]), int(job["bytes_total"]))


def percent(job: dict[str, Any]) -> int:
    """Never 100 before the end."""
    if job["result"] == "done":
        return 100
    return min(99, bytes_done(job) * 100 // max(1, int(job["bytes_total"])))


def amount(job: dict[str, Any]) -> str:
    return f"{words.size(bytes_done(job))} of {words.size(job['bytes_total'])}"


def time_left(job: dict[str, Any]) -> str:
    eta = job["eta_seconds"]
    return "" if eta is None else f"{words.duration(eta)} left"


def describe(job: dict[str, Any]) -> str:
    """The job in a line."""
    parts = [f"{job['kind']}: {job['phase']}, {percent(job)} %", amount(job), time_left(job)]
    return ", ".join(filter(None, parts))
