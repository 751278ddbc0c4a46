"""A pair whose secondary is changed behind the appliance's back, and what a scan makes of it."""

from collections.abc import Sequence

from appliance.cdp.interfaces import SECTOR
from appliance.cdp.jobs import Job, JobKind
from tests.cdp.simulated_pair import SimulatedPair


def newest(pair: SimulatedPair) -> int:
    """The newest point."""
    window = pair.volume.window()
    assert window is not None
    return window.newest_write


def close_map(pair: SimulatedPair) -> None:
    assert pair.volume.history is not None
    pair.volume.history.journal.close_map()


def spoil(pair: SimulatedPair, blocks: Sequence[int]) -> None:
    """Change what the secondary would answer for these blocks now, behind the appliance's back."""
    history = pair.volume.history
    assert history is not None
    pit_map = pair.run(history.pit_map(history.chain.newest_write))
    for block in blocks:
        for piece in pit_map.pieces(block * 8, block * 8 + 8):
            if piece.entry is None:
                at = pair.superblock.base_offset + piece.start * SECTOR
            else:
                at = (piece.entry.location + piece.start - piece.entry.start) * SECTOR
            view = pair.secondary.medium.view[at : at + (piece.end - piece.start) * SECTOR]
            view[:] = bytes(byte ^ 0xFF for byte in view)


def start(pair: SimulatedPair, kind: JobKind) -> Job:
    return pair.lifecycle.jobs.synchronise(kind)


def synchronised(pair: SimulatedPair, kind: JobKind) -> Job:
    job = start(pair, kind)
    pair.world.run_until(job.finished)
    assert job.result == "done", job.error
    return job


def suspects(pair: SimulatedPair) -> list[tuple[int, int]]:
    """First and last writes of the maps that the timeline calls suspect."""
    return [(m.first_write, m.last_write) for m in pair.volume.maps() if m.suspect]


def figures(job: Job) -> tuple[int, int]:
    return job.bytes_different, job.bytes_copied
