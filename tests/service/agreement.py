"""What must hold of a volume at rest, whatever happened to it before."""

import numpy as np

from tests.service.recorder import Life, Recorder
from tests.service.service_process import Service


def record(service: Service, volume: str, seed: int = 7) -> Recorder:
    """A host that starts to remember now."""
    status = service.status(volume)
    recorder = Recorder(status["size"], seed)
    recorder.begin(status["write_number"], service.contents(volume))
    return recorder


def assert_in_sync(service: Service, volume: str, recorder: Recorder) -> None:
    """The volume holds what was acknowledged, and the secondary says the same."""
    contents = np.frombuffer(service.contents(volume), np.uint8)
    recorder.life.check_survived(contents)
    newest = service.status(volume)["window"]["newest_write"]
    assert service.contents(f"{volume}@write:{newest}") == contents.tobytes()
    job = service.ask("sync", volume=volume, verify=True, wait=True)["job"]
    assert (job["result"], job["bytes_different"]) == ("done", 0)


def assert_exact(service: Service, volume: str, life: Life, number: int) -> None:
    """The view of a write is what the volume held just after it."""
    found = np.frombuffer(service.contents(f"{volume}@write:{number}"), np.uint8)
    wrong = np.flatnonzero(found != life.at(number))
    assert not len(wrong), (
        f"write {number} of the life {life.first}..{life.last} (acknowledged to"
        f" {life.acknowledged}) is wrong in {len(wrong)} bytes, from {wrong[0]} to {wrong[-1]}"
    )
