"""One job at a time: how the jobs of a volume begin, and what is said when they end."""

from collections.abc import Awaitable, Callable
from errno import EIO
from itertools import count

from appliance import events
from appliance.cdp.jobs import Job, JobKind, Result
from appliance.cdp.tasks import Cancelled, Task
from appliance.cdp.volume import Volume
from appliance.errors import DiskUnreadable, EbbtideError, JobRunning


class JobRunner:
    """Of one volume.  `numbers` gives each job of the appliance its own."""

    def __init__(self, volume: Volume, numbers: "count[int]") -> None:
        self._volume = volume
        self._numbers = numbers

    def run(self, kind: JobKind, work: Callable[[Job], Awaitable[None]], held: bool = False) -> Job:
        """Begin a job, `held` before its first step if a person holds it; JobRunning while there is
        one.

        `work` ends with what its job ends with: an EbbtideError is a failure.
        """
        volume = self._volume
        if volume.job is not None:
            raise JobRunning(volume=volume.name, kind=volume.job.kind)
        job = Job(next(self._numbers), kind, volume.name, volume.clock)
        if held:
            job.pause()
        volume.job = job
        volume.emit(events.JOB_STARTED, volume=volume.name, kind=kind, job=job.number)

        async def run() -> None:
            try:
                await work(job)
                outcome: tuple[Result, EbbtideError | None] = ("done", None)
            except Cancelled:
                outcome = (job.stopped, None)
            except EbbtideError as error:
                outcome = ("failed", error)
            volume.job, volume.last_job = None, job
            if outcome[1] is not None:
                self._look_at_secondary(outcome[1])
            volume.emit(events.JOB_ENDED, volume=volume.name, kind=kind, result=outcome[0])
            job.end(*outcome)

        job.task = Task(run())
        return job

    def _look_at_secondary(self, error: EbbtideError) -> None:
        """Is it lost?  Without writes of hosts nobody else might notice."""
        history, path = self._volume.history, self._volume.path
        if history is None:
            return
        disk = history.disk
        unreadable = isinstance(error, DiskUnreadable) and error.fields["disk"] == disk.identity.id
        if disk.fenced or unreadable:
            assert path is not None
            path.lose_secondary(OSError(EIO, str(error)))
