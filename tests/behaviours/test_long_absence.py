"""The secondary is away for more starts than the primary remembers generations.

DESIGN.md, section 4, rules 8 and 9: the good one is taken back, and a disk that went its own way
meanwhile is refused as before.
"""

from collections.abc import Callable

import pytest
from pytest_mock import MockerFixture

from appliance.cdp import superblock
from appliance.cdp.format import PARENTS, PRIMARY, SECONDARY
from appliance.cdp.interfaces import Disk
from appliance.cdp.memory import BufferPool
from appliance.cdp.superblock import Superblock
from appliance.cdp.tasks import Completion, Task
from appliance.errors import DiskFailed, WrongDisk
from tests.cdp.simulated_pair import REGION, SimulatedPair, assert_refused_as_parted, codes

BLOCK = 4096
STARTS = PARENTS + 6
End = Callable[[SimulatedPair], None]
ENDS = pytest.mark.parametrize(
    "end", [SimulatedPair.stop, SimulatedPair.kill, SimulatedPair.power_cut]
)


@pytest.fixture
def pair() -> SimulatedPair:
    pair = SimulatedPair(seed=9)
    pair.start()
    pair.write(0, b"\x11" * BLOCK)
    pair.stop()
    return pair


def starts_alone(
    pair: SimulatedPair, end: End = SimulatedPair.stop, *, starts: int = STARTS
) -> None:
    """In each life a host writes to the fourth region, or to the second."""
    for number in range(starts):
        pair.start(with_secondary=False)
        pair.write((3, 1)[number % 2] * REGION, pair.random.randbytes(BLOCK))
        pair.flush()
        end(pair)


def attach(pair: SimulatedPair) -> None:
    pair.run(pair.lifecycle.attach(pair.secondary))
    pair.world.run_until(lambda: pair.volume.protection.value == "protected")


def assert_equal_disks(pair: SimulatedPair) -> None:
    window = pair.volume.window()
    assert window is not None
    assert pair.point(f"write:{window.newest_write}") == pair.read(pair.volume)


def parted(pair: SimulatedPair) -> tuple[bytes, bytes]:
    """After an absence as long: the primary, served on alone, and a secondary that a clone got."""
    starts_alone(pair)
    images = pair.images()
    starts_alone(pair, starts=1)
    ours = pair.images()[0]
    pair.put_back(images)
    return ours, images[1]


# The good one


@ENDS
@pytest.mark.parametrize("hot", [False, True], ids=["at the start", "later"])
def test_only_what_was_written_meanwhile_is_resynced(
    pair: SimulatedPair, end: End, hot: bool
) -> None:
    kept = max(pair.states)
    starts_alone(pair, end)
    contents = pair.states[max(pair.states)]

    if hot:
        pair.start(with_secondary=False)
        attach(pair)
    else:
        pair.start()

    job = pair.volume.last_job
    assert job is not None
    assert (job.kind, job.bytes_scanned) == ("resync", 2 * REGION)
    assert pair.read(pair.volume) == contents
    assert pair.point(f"write:{kept}") == pair.states[kept]
    assert_equal_disks(pair)
    pair.stop()
    found, verdict = pair.check()
    assert not codes(found)
    assert not verdict.errors


def test_one_long_absence_after_another(pair: SimulatedPair) -> None:
    for lost in (False, True):
        starts_alone(pair)
        pair.start()
        if lost:
            pair.secondary.medium.remove()
            pair.write(0, b"\x22" * BLOCK)
            pair.secondary.medium.replug()
        pair.stop()
    starts_alone(pair)

    pair.start()

    assert_equal_disks(pair)


def test_a_cut_at_any_event_of_its_return(pair: SimulatedPair) -> None:
    """Whatever it bears by then, the primary knows it however often it starts alone again."""
    starts_alone(pair)
    images = pair.images()
    borne = set()
    for events in range(400):
        pair.put_back(images)
        returned = Task(pair.made().start(pair.secondary))
        for _ in range(events):
            if returned.finished:
                break
            pair.world.step()
        over = returned.finished
        pair.power_cut()
        borne.add(pair.load(pair.secondary).generation)
        starts_alone(pair, starts=2)
        assert "EC304" not in codes(pair.check()[0]), "a checkpoint of an unknown generation"
        pair.start(until_protected=False, readable=False)
        if over:
            assert len(borne) == 2
            return
    pytest.fail("it never came to its end")


# Those that went their own way


def test_a_secondary_that_a_clone_got_after_serving_alone(pair: SimulatedPair) -> None:
    ours, _ = parted(pair)
    starts_alone(pair, starts=1)
    pair.start()
    pair.stop()
    pair.put_back((ours, pair.images()[1]))

    assert_refused_as_parted(pair)


def test_a_secondary_that_a_clone_got_at_once(pair: SimulatedPair) -> None:
    """It bears what this primary was before it started alone once more, and has forgotten."""
    ours, _ = parted(pair)
    pair.start()
    pair.write(0, b"\x33" * BLOCK)
    pair.stop()
    pair.put_back((ours, pair.images()[1]))

    assert_refused_as_parted(pair)


@pytest.mark.parametrize("starts", [0, 1, 2])
def test_an_old_copy_of_the_primary(pair: SimulatedPair, starts: int) -> None:
    """Made so many starts before the secondary came back."""
    starts_alone(pair)
    old = pair.images()[0]
    starts_alone(pair, starts=starts)
    pair.start()
    pair.stop()
    starts_alone(pair, starts=1)
    pair.start()
    pair.stop()
    pair.put_back((old, pair.images()[1]))

    with pytest.raises(WrongDisk, match="served hosts"):
        pair.start()


# A return that fails, or comes early


def test_a_secondary_that_cannot_be_given_the_generation(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    """Each try makes the primary a new one; what the secondary bears is not forgotten for that."""
    starts_alone(pair)
    pair.start(with_secondary=False)
    store = superblock.store

    async def refused(disk: Disk, pool: BufferPool, written: Superblock) -> None:
        if written.role == SECONDARY:
            raise DiskFailed(disk=disk.identity.id, reason="its first pages are worn out")
        await store(disk, pool, written)

    mocker.patch.object(superblock, "store", refused)
    for _ in range(STARTS):
        with pytest.raises(DiskFailed):
            pair.run(pair.lifecycle.attach(pair.secondary))
        pair.secondary.close()
        pair.secondary = pair.secondary.reopen()
    mocker.stopall()

    attach(pair)

    assert_equal_disks(pair)


def test_a_secondary_that_is_back_before_its_loss_is_durable(
    pair: SimulatedPair, mocker: MockerFixture
) -> None:
    """It is given the new generation once the primary has it, and not before."""
    pair.start()
    store, released = superblock.store, Completion[None]()
    begun: list[int] = []

    async def slow(disk: Disk, pool: BufferPool, written: Superblock) -> None:
        begun.append(written.role)
        if written.role == PRIMARY:
            await released
        await store(disk, pool, written)

    mocker.patch.object(superblock, "store", slow)
    pair.secondary.medium.remove()
    pair.lifecycle.secondary_gone()
    pair.secondary.medium.replug()
    pair.secondary = pair.secondary.reopen()
    returned = Task(pair.lifecycle.attach(pair.secondary))
    pair.idle()
    assert begun == [PRIMARY]
    mocker.stopall()
    released.succeed(None)
    pair.world.run_until(returned)

    pair.power_cut()

    pair.start()
