"""One request of an operator, what it can reach, and the waiting for the job that it began."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time_ns
from typing import Final

from appliance.cdp.jobs import Job
from appliance.errors import EbbtideError, JobCancelled, JobFailed, VolumeNotFound, VolumeNotReady
from appliance.operators.answers import ErrorAnswer, JobDescription
from appliance.operators.descriptions import describe_job
from appliance.operators.interfaces import Appliance, Timers, Volume
from appliance.operators.operator_lock import Change, Operator, OperatorLock
from appliance.operators.panel_link import PanelLink
from appliance.operators.parameters import Value

PROGRESS_SECONDS: Final = 0.25


class Desk:
    """What all operators share: the appliance, the lock, and the front panel."""

    def __init__(
        self, appliance: Appliance, timers: Timers, wall_ns: Callable[[], int] = time_ns
    ) -> None:
        self.appliance = appliance
        self.timers = timers
        self.lock = OperatorLock(timers, appliance.emit, wall_ns)
        self.panel = PanelLink(timers, appliance.emit)

    def leave(self, operator: Operator) -> None:
        """The connection is gone, and what it asked for is cancelled."""
        self.lock.leave(operator)
        self.panel.leave(operator)


@dataclass(frozen=True, slots=True)
class Request:
    """A verb asked for by `operator`, with its checked arguments.

    `report` is called with the job again and again while one is waited for.
    """

    desk: Desk
    operator: Operator
    change: Change
    arguments: Mapping[str, Value]
    report: Callable[[JobDescription], None]

    @property
    def appliance(self) -> Appliance:
        return self.desk.appliance

    @property
    def actor(self) -> str:
        return self.operator.actor

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

    def seconds(self, name: str) -> float:
        value = self.arguments[name]
        if value is None:
            return 0.0
        assert isinstance(value, float)
        return value

    def texts(self, name: str) -> list[str]:
        value = self.arguments[name]
        assert isinstance(value, list)
        return value

    def switch(self, name: str) -> bool:
        return self.arguments[name] is True

    def volume(self) -> Volume:
        """The volume that `volume` names; raises VolumeNotFound, or VolumeNotReady if there is
        only a disk of it here."""
        name = self.text("volume")
        volume = self.appliance.volumes.get(name)
        if volume is not None:
            return volume
        for absent in self.appliance.absent_volumes():
            if absent.name == name:
                reason = "; ".join(text for _, text in absent.alerts)
                raise VolumeNotReady(volume=name, state="offline", reason=reason)
        raise VolumeNotFound(volume=name)


async def follow(request: Request, job: Job) -> None:
    """Report the job until it ends; raises JobFailed (or what the job failed of) or
    JobCancelled."""
    request.change.settled = True
    timer = None

    def report() -> None:
        nonlocal timer
        request.report(describe_job(job))
        timer = request.desk.timers.after(PROGRESS_SECONDS, report)

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
