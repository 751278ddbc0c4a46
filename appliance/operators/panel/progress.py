"""A job that somebody began here, until its end."""

import msgspec

from appliance.glass import Key
from appliance.operators.answers import JobDescription
from appliance.operators.panel.idle import done, job_line
from appliance.operators.panel.screen import Face, Json, Screen
from appliance.operators.panel.text import Lines, bar, fit, marquee


class _Started(msgspec.Struct, frozen=True):
    """What is read of an answer."""

    job: JobDescription | None


class JobProgress(Screen):
    """Shows the job that `answer` tells of; any key leaves for the idle page, the job goes on.

    The service remembers one ended job of a volume: of one that a later job has followed nobody
    tells any more how it ended.
    """

    def __init__(self, face: Face, volume: str, answer: Json) -> None:
        super().__init__(face)
        self._volume = volume
        self._job = msgspec.convert(answer, _Started).job
        self._forgotten = False

    def lines(self) -> Lines:
        job = self._job
        if job is None:
            return fit(self._volume), fit("done")
        if self._forgotten:
            return fit(f"{job.kind} ended"), fit("how: not seen")
        if job.result is None:
            return fit(job_line(job)), bar(done(job))
        if job.error is not None:
            return fit(f"{job.kind} {job.result}"), marquee(job.error.sentence, self.elapsed)
        return fit(f"{job.kind} {job.result}"), fit(self._volume)

    def press(self, key: Key) -> None:
        del key
        self.face.home()

    def tick(self) -> None:
        job = self._job
        if job is None or job.result is not None:
            return
        jobs = [each for volume in self.face.volumes for each in (volume.job, volume.last_job)]
        known = {each.number: each for each in jobs if each and each.volume == job.volume}
        self._job = known.get(job.number, job)
        if self._job.result is not None:
            self.stand()
        self._forgotten = job.number not in known and max(known, default=0) > job.number
