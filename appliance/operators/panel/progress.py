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
    """Shows the job that `answer` tells of; any key leaves for the idle page, the job goes on."""

    def __init__(self, face: Face, volume: str, answer: Json) -> None:
        super().__init__(face)
        self._volume = volume
        self._job = msgspec.convert(answer, _Started).job

    def lines(self) -> Lines:
        job = self._job
        if job is None:
            return fit(self._volume), fit("done")
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
        for volume in self.face.volumes:
            for known in (volume.job, volume.last_job):
                if known is not None and (known.volume, known.number) == (job.volume, job.number):
                    self._job = known
                    if known.result is not None:
                        self.stand()
