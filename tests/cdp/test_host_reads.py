"""Reads while the primary is silent: who answers, when, and whose the memory is."""

from collections.abc import Sequence

import pytest

from appliance.cdp.host_reads import PATIENCE, HostReads
from appliance.cdp.interfaces import READ, DiskRequest, HostRequest
from appliance.cdp.memory import Buffer
from appliance.cdp.tasks import Completion
from appliance.simulated.disk import SimulatedDisk
from appliance.simulated.medium import Medium
from appliance.simulated.world import World
from tests.hosts.nbd.memory_target import CountingPool

BLOCK = 4096


class SilentDisk(SimulatedDisk):
    """Keeps what it is asked for, pinning nothing, until the test answers."""

    def __init__(self, world: World) -> None:
        super().__init__(world, Medium("p", 1 << 20))
        self.asked: list[DiskRequest] = []

    def submit(self, requests: Sequence[DiskRequest]) -> None:
        self.asked += requests

    def answer(self, data: bytes) -> None:
        """The oldest."""
        request = self.asked.pop(0)
        assert request.buffer is not None
        request.buffer.view[: request.length] = data
        request.done(request)


class Played:
    """Reads over a silent primary; the secondary answers when the test says so."""

    def __init__(self) -> None:
        self.world = World(1)
        self.pool = CountingPool()
        self.primary = SilentDisk(self.world)
        self.reads = HostReads(self.primary, self.world, self.pool)
        self.reads.elsewhere = self._elsewhere
        self.elsewhere: list[tuple[float, Completion[Buffer | None]]] = []
        self.answered: list[HostRequest] = []

    @property
    def now(self) -> float:
        return self.world.clock.monotonic_ns() / 1e9

    async def _elsewhere(self, _offset: int, _length: int) -> Buffer | None:
        completion: Completion[Buffer | None] = Completion()
        self.elsewhere.append((self.now, completion))
        return await completion

    def read(self) -> HostRequest:
        request = HostRequest(READ, 0, BLOCK, self.answered.append)
        self.reads.read(request)
        self.world.run_idle()
        return request

    def bring(self, data: bytes | None) -> None:
        """The secondary's answer to the oldest question."""
        _, completion = self.elsewhere.pop(0)
        buffer = None
        if data is not None:
            buffer = self.pool.get(BLOCK)
            buffer.view[:BLOCK] = data
        completion.succeed(buffer)


@pytest.fixture
def played() -> Played:
    return Played()


OURS, THEIRS = b"p" * BLOCK, b"s" * BLOCK


def test_a_silent_primary_is_passed_over_and_keeps_its_memory(played: Played) -> None:
    request, began = played.read(), played.now
    played.world.run_for(2 * PATIENCE + 0.01)
    ((asked_at, _),) = played.elsewhere
    assert PATIENCE <= asked_at - began <= 2 * PATIENCE + 0.01
    played.bring(THEIRS)
    assert played.answered == [request]
    assert bytes(request.answer()) == THEIRS
    assert played.pool.out == 2 * BLOCK, "the primary's memory is not anyone else's yet"
    played.primary.answer(OURS)
    assert played.answered == [request], "answered once"
    assert bytes(request.answer()) == THEIRS
    request.release()
    assert played.pool.out == 0


def test_what_is_asked_meanwhile_goes_to_the_secondary_at_once(played: Played) -> None:
    played.read()
    played.world.run_for(2 * PATIENCE + 0.01)
    played.bring(THEIRS)
    second = played.read()
    assert len(played.elsewhere) == len(played.primary.asked) == 1
    played.bring(THEIRS)
    assert bytes(second.answer()) == THEIRS
    played.primary.answer(OURS)  # it is back
    third = played.read()
    assert not played.elsewhere
    played.primary.answer(OURS)
    assert bytes(third.answer()) == OURS


def test_what_the_secondary_must_not_answer_waits_for_the_primary(played: Played) -> None:
    """It is asked again and again: the write on its way may complete."""
    request = played.read()
    for _ in range(3):
        played.world.run_for(2 * PATIENCE + 0.01)
        played.bring(None)
        assert not played.answered
    assert len(played.primary.asked) == 1
    played.primary.answer(OURS)
    assert bytes(request.answer()) == OURS


def test_the_faster_one_answers(played: Played) -> None:
    request = played.read()
    played.world.run_for(2 * PATIENCE + 0.01)
    played.primary.answer(OURS)
    played.bring(THEIRS)
    assert played.answered == [request]
    assert bytes(request.answer()) == OURS
    request.release()
    assert played.pool.out == 0
    played.read()
    assert len(played.primary.asked) == 1
    assert not played.elsewhere


def test_a_primary_that_answers_others_is_not_silent(played: Played) -> None:
    """It is slow, and the secondary would be slower under its load."""
    played.read()
    for _ in range(10):
        played.read()
        played.primary.asked.insert(0, played.primary.asked.pop())
        played.primary.answer(OURS)
        played.world.run_for(PATIENCE * 0.8)
    assert not played.elsewhere


def test_nothing_is_looked_at_while_nothing_is_owed(played: Played) -> None:
    played.read()
    played.primary.answer(OURS)
    played.world.run_for(10 * PATIENCE)
    assert played.world.waiting() == "nothing is pending"
