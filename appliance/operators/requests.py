"""One request of an operator, and the waiting for the job that it began."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from appliance.cdp.jobs import Job
from appliance.errors import EbbtideError, JobCancelled, JobFailed, VolumeNotFound
from appliance.operators.answers import ErrorAnswer, JobDescription
from appliance.operators.descriptions import describe_job
from appliance.operators.interfaces import Appliance, Timers, Volume
from appliance.operators.verbs import Value

PROGRESS_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Request:
    """A verb asked for by `actor`, with its checked arguments.

    `report` is called with the job again and again while one is waited for.
    """

    appliance: Appliance
    timers: Timers
    actor: str
    arguments: Mapping[str, Value]
    report: Callable[[JobDescription], None]

    def text(self, name: str) -> str:
        value = self.arguments[name]
        assert isinstance(value, str)
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self.arguments[name] is None else self.text(name)

    def whole(self, name: str, default: int = 0) -> int:
        value = self.arguments[name]
        if value is None:
            return default
        assert isinstance(value, int)
        return value

    def switch(self, name: str) -> bool:
        return self.arguments[name] is True

    def volume(self) -> Volume:
        """The volume that `volume` names; raises VolumeNotFound."""
        volume = self.appliance.volumes.get(self.text("volume"))
        if volume is None:
            raise VolumeNotFound(volume=self.text("volume"))
        return volume


async def follow(request: Request, job: Job) -> None:
    """Report the job until it ends; raises JobFailed (or what the job failed of) or
    JobCancelled."""
    timer = None

    def report() -> None:
        nonlocal timer
        request.report(describe_job(job))
        timer = request.timers.after(PROGRESS_SECONDS, report)

    if not job.finished.finished:
        report()
        try:
            await job.finished
        finally:
            if timer is not None:
                timer.cancel()
        request.report(describe_job(job))
    if job.result == "cancelled":
        raise JobCancelled(kind=job.kind, volume=job.volume)
    if isinstance(job.error, EbbtideError):
        raise job.error
    if job.result != "done":
        raise JobFailed(
            kind=job.kind,
            volume=job.volume,
            reason=ErrorAnswer.of(job.error).sentence if job.error else "no reason given",
        )
