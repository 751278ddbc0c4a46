"""A pair whose secondary is changed behind the appliance's back, and what a scan makes of it."""

from collections.abc import Sequence

from pytest_mock import MockerFixture

from appliance.cdp import comparison, full_scan, side_by_side, synchronise
from appliance.cdp.interfaces import BLOCK, SECTOR
from appliance.cdp.jobs import Job, JobKind
from tests.cdp.simulated_pair import SimulatedPair

BLOCKS = 23
"""Of the small volume."""


def in_small_steps(mocker: MockerFixture) -> None:
    """So that a small volume takes many."""
    mocker.patch.object(comparison, "STEP", 2 * BLOCK)
    mocker.patch.object(comparison, "WINDOW", 2 * BLOCK)
    mocker.patch.object(side_by_side, "LONG", 2 * BLOCK)
    mocker.patch.object(synchronise, "STEP", 2 * BLOCK)
    mocker.patch.object(full_scan, "CHUNK", 4 * BLOCK)
    mocker.patch.object(full_scan, "SAVE_NS", 0)


def three_maps() -> SimulatedPair:
    """Three closed maps over a full base: blocks 1–3, then 4–6, then 1 again."""
    pair = SimulatedPair(5, secondary_size=2 << 20)
    size = pair.superblock.volume_size
    pair.primary.medium.view[:size] = pair.random.randbytes(size)
    pair.start()
    for blocks in ((1, 2, 3), (4, 5, 6), (1,)):
        close_map(pair)
        for block in blocks:
            pair.write(block * BLOCK, pair.random.randbytes(BLOCK))
    close_map(pair)
    pair.idle()  # a checkpoint names them now: recovery does not read their payload again
    return pair


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
