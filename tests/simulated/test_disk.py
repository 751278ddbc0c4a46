"""The played disk keeps the promises of a disk, and no more than those."""

import itertools
from collections.abc import Callable
from errno import EIO, ENODEV, ENOSPC, ESHUTDOWN, ETIMEDOUT

import pytest

from appliance.cdp.interfaces import DISCARD, FLUSH, READ, WRITE, ZERO, Disk, DiskRequest
from appliance.cdp.memory import Buffer
from appliance.cdp.tasks import Completion
from appliance.simulated.choices import Script, every_script
from appliance.simulated.counters import Counters
from appliance.simulated.disk import SimulatedDisk
from appliance.simulated.medium import Medium
from appliance.simulated.world import Stuck, World

SIZE = 64 << 10


def request(
    disk: Disk,
    kind: int,
    offset: int = 0,
    length: int = 0,
    data: bytes = b"",
    *,
    durable: bool = False,
) -> Completion[DiskRequest]:
    """Submit one request; its completion gives the request itself."""
    completion: Completion[DiskRequest] = Completion()
    length = length or len(data)
    buffer = Buffer(length) if kind in (READ, WRITE) else None
    if buffer is not None:
        buffer.view[: len(data)] = data
    disk.submit([DiskRequest(kind, offset, length, buffer, 0, completion.succeed, durable=durable)])
    return completion


def perform(
    world: World, disk: Disk, kind: int, offset: int = 0, length: int = 0, data: bytes = b""
) -> DiskRequest:
    done = world.run_until(request(disk, kind, offset, length, data))
    assert done.error is None, done.error
    return done


def read(world: World, disk: Disk, offset: int, length: int) -> bytes:
    buffer = perform(world, disk, READ, offset, length).buffer
    assert buffer is not None
    return bytes(buffer.view[:length])


def errno_of(done: DiskRequest) -> int:
    """The errno that a request completed with; 0 for success."""
    return 0 if done.error is None else done.error.errno or -1


def blocks(letters: str, block: int = 512) -> bytes:
    return b"".join(letter.encode() * block for letter in letters)


def letters(data: bytes | bytearray, block: int = 512) -> str:
    """The inverse of `blocks`; a block of mixed contents is a '?'."""
    found = ""
    for at in range(0, len(data), block):
        piece = data[at : at + block]
        found += chr(piece[0] or ord(".")) if piece == piece[:1] * block else "?"
    return found


def survivors(
    life: Callable[[World, SimulatedDisk], None],
    length: int,
    *,
    ending: Callable[[World], World] = World.power_cut,
    torn_writes: bool = False,
    block: int = 512,
) -> set[str]:
    """What the first `length` blocks may hold after every possible ending of a life."""
    found = set()
    for script in every_script():
        world = World(script, torn_writes=torn_writes)
        disk = SimulatedDisk(world, Medium("d", SIZE, logical_block=block))
        life(world, disk)
        world = ending(world)
        found.add(letters(read(world, disk.reopen(), 0, length * block), block))
    return found


def test_reads_see_completed_writes_and_zeros() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("d", SIZE))
    perform(world, disk, WRITE, 1024, data=blocks("ab"))
    assert letters(read(world, disk, 512, 2048)) == ".ab."
    perform(world, disk, ZERO, 1024, 512)
    assert letters(read(world, disk, 512, 2048)) == "..b."


def test_a_discarded_range_may_read_as_anything() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        perform(world, disk, WRITE, 0, data=blocks("a"))
        perform(world, disk, FLUSH)
        perform(world, disk, DISCARD, 0, 512)

    assert survivors(life, 1, ending=World.kill) == {"a", ".", "\xdb"}


def test_requests_in_flight_complete_in_any_order_and_exactly_once() -> None:
    orders = set()
    for script in every_script():
        world = World(script)
        disk = SimulatedDisk(world, Medium("d", SIZE))
        answered: list[DiskRequest] = []
        disk.submit(
            [DiskRequest(WRITE, n * 512, 512, Buffer(512), 0, answered.append) for n in range(3)]
        )
        assert (answered, disk.outstanding) == ([], 3)
        world.run_idle()
        assert disk.outstanding == 0
        orders.add(tuple(done.offset // 512 for done in answered))
    assert orders == set(itertools.permutations(range(3)))


def test_a_flush_keeps_what_completed_before_it_was_submitted_and_no_more() -> None:
    found = set()
    for late_survives in (0, 1):
        world = World(Script([1, late_survives]))  # of flush and late write, the write first
        disk = SimulatedDisk(world, Medium("d", SIZE))
        perform(world, disk, WRITE, 0, data=blocks("a"))
        flush = request(disk, FLUSH)
        late = request(disk, WRITE, 512, data=blocks("b"))
        world.run_until(late)
        assert not flush.finished
        world.run_until(flush)
        found.add(letters(read(world.power_cut(), disk.reopen(), 0, 1024)))
    assert found == {"a.", "ab"}


def test_a_completed_write_is_volatile_until_flushed() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        perform(world, disk, WRITE, 0, data=blocks("a"))
        perform(world, disk, WRITE, 512, data=blocks("b"))

    assert survivors(life, 2) == {"..", "a.", ".b", "ab"}


def test_a_flush_in_flight_promises_nothing() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        perform(world, disk, WRITE, 0, data=blocks("a"))
        request(disk, FLUSH)

    assert survivors(life, 1) == {".", "a"}


def test_overlapping_writes_survive_in_any_order() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        perform(world, disk, WRITE, 0, data=blocks("aa"))
        request(disk, WRITE, 512, data=blocks("bb"))

    assert survivors(life, 3) == {"...", "aa.", ".bb", "abb", "aab"}


def test_a_durable_write_wins_over_the_volatile_one_it_overtook() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        perform(world, disk, WRITE, 0, data=blocks("aaa"))
        world.run_until(request(disk, WRITE, 512, data=blocks("b"), durable=True))

    assert survivors(life, 3) == {".b.", "aba"}


def test_a_write_over_a_durable_one_falls_back_to_it() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        world.run_until(request(disk, WRITE, 0, data=blocks("aa"), durable=True))
        perform(world, disk, WRITE, 512, data=blocks("b"))

    assert survivors(life, 2) == {"aa", "ab"}


def test_a_caught_write_tears_between_sectors() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        request(disk, WRITE, 0, data=blocks("abc"))

    found = set()
    for seed in range(300):
        world = World(seed)
        disk = SimulatedDisk(world, Medium("d", SIZE))
        life(world, disk)
        found.add(letters(read(world.power_cut(), disk.reopen(), 0, 1536)))
    assert found == {"".join(path) for path in itertools.product("a.", "b.", "c.")}


def test_a_4096_byte_block_is_never_torn() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        request(disk, WRITE, 0, data=blocks("a", 4096))

    assert survivors(life, 1, torn_writes=True, block=4096) == {".", "a"}


def test_a_killed_service_loses_no_completed_write_and_tears_none() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        perform(world, disk, WRITE, 0, data=blocks("a"))
        request(disk, WRITE, 512, data=blocks("bb"))
        request(disk, WRITE, 1024, data=blocks("cc"))

    assert survivors(life, 4, ending=World.kill, torn_writes=True) == {
        "a...", "abb.", "a.cc", "abbc", "abcc",
    }  # fmt: skip


def test_what_a_kill_kept_a_later_power_cut_may_lose() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        perform(world, disk, WRITE, 0, data=blocks("a"))

    assert survivors(life, 1, ending=lambda world: world.kill().power_cut()) == {".", "a"}


def test_requests_of_an_ended_life_never_complete() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("d", SIZE))
    old = request(disk, WRITE, 0, data=blocks("a"))
    following = world.power_cut()
    late = request(disk, WRITE, 512, data=blocks("b"))
    fresh = disk.reopen()
    assert letters(read(following, fresh, 512, 512)) == "."
    following.run_for(60)
    assert (old.finished, late.finished) == (False, False)
    assert (fresh.outstanding, disk.medium.in_flight) == (0, {})


def test_memory_is_read_when_the_write_lands() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("d", SIZE))
    buffer = Buffer(512)
    buffer.view[:512] = blocks("a")
    disk.submit([DiskRequest(WRITE, 0, 512, buffer, 0, lambda request: None)])
    assert buffer.pins == 1
    buffer.view[:512] = blocks("x")
    world.run_idle()
    assert buffer.pins == 0
    assert letters(read(world, disk, 0, 512)) == "x"


def test_the_next_request_of_a_kind_fails_as_told() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("d", SIZE))
    disk.medium.fail_next(FLUSH, EIO)
    disk.medium.fail_next(READ, ENOSPC, count=2)
    errors = [errno_of(world.run_until(request(disk, FLUSH))) for _ in range(2)]
    errors += [errno_of(world.run_until(request(disk, READ, 0, 512))) for _ in range(3)]
    assert errors == [EIO, 0, ENOSPC, ENOSPC, 0]


def test_a_failed_write_leaves_old_and_new_sectors() -> None:
    found = set()
    for seed in range(100):
        world = World(seed)
        disk = SimulatedDisk(world, Medium("d", SIZE))
        disk.medium.fail_next(WRITE, EIO)
        assert world.run_until(request(disk, WRITE, 0, data=blocks("ab"))).error is not None
        found.add(letters(read(world, disk, 0, 1024)))
    assert found == {"..", "a.", ".b", "ab"}


def test_a_failed_flush_keeps_or_loses_the_cache() -> None:
    def life(world: World, disk: SimulatedDisk) -> None:
        perform(world, disk, WRITE, 0, data=blocks("a"))
        disk.medium.fail_next(FLUSH, EIO)
        world.run_until(request(disk, FLUSH))
        perform(world, disk, FLUSH)

    def losing_life(world: World, disk: SimulatedDisk) -> None:
        disk.medium.lose_cache_on_failed_flush()
        life(world, disk)

    assert survivors(life, 1) == {"a"}
    assert survivors(losing_life, 1) == {".", "a"}


def test_a_bad_sector_fails_reads_until_it_is_written() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("d", SIZE))
    disk.medium.bad_sectors |= {3, 5}
    assert world.run_until(request(disk, READ, 0, 1536)).error is None
    assert errno_of(world.run_until(request(disk, READ, 0, 2048))) == EIO
    perform(world, disk, WRITE, 1536, data=blocks("r"))
    assert letters(read(world, disk, 1536, 1024)) == "r."
    assert disk.medium.bad_sectors == {5}


def test_a_stalled_disk_goes_on_when_released() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("d", SIZE))
    before = request(disk, WRITE, 0, data=blocks("a"))
    disk.medium.stall()
    after = request(disk, WRITE, 512, data=blocks("b"))
    world.run_for(20)
    assert (before.finished, after.finished, disk.outstanding) == (False, False, 2)
    disk.medium.release()
    world.run_idle()
    assert (errno_of(before.result()), errno_of(after.result())) == (0, 0)
    world.run_for(60)
    assert not disk.fenced


def test_past_its_deadline_a_disk_is_fenced_and_its_late_write_still_lands() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("d", SIZE), deadline_seconds=5)
    disk.medium.stall()
    world.run_for(1)
    buffer = Buffer(512)
    buffer.view[:512] = blocks("l")
    answers: list[DiskRequest] = []
    start = world.clock.monotonic_ns()
    disk.submit([DiskRequest(WRITE, 0, 512, buffer, 0, answers.append)])
    world.run_until(lambda: bool(answers))
    assert world.clock.monotonic_ns() - start == 5_000_000_000
    assert errno_of(answers[0]) == ETIMEDOUT
    assert (disk.fenced, disk.outstanding, buffer.pins) == (True, 1, 1)
    refused = request(disk, READ, 0, 512)
    assert not refused.finished
    assert errno_of(world.run_until(refused)) == ETIMEDOUT

    disk.medium.release()
    world.run_idle()
    assert (disk.outstanding, buffer.pins, len(answers)) == (0, 0, 1)
    assert letters(read(world, disk.reopen(), 0, 512)) == "l"


def test_a_run_that_waits_for_a_stalled_disk_names_the_request() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("d", SIZE), deadline_seconds=1e9)
    disk.medium.stall()
    request(disk, WRITE, 0x200, data=blocks("a"))
    with pytest.raises(Stuck, match=r"d: write 0x200\+0x200 \(stalled\)"):
        world.run_until(lambda: world.clock.monotonic_ns() < 0, limit=0)


def test_a_closed_disk_answers_everything_and_keeps_memory_pinned() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("d", SIZE))
    pending = request(disk, WRITE, 0, data=blocks("a"))
    disk.close()
    assert (disk.fenced, disk.outstanding, pending.finished) == (True, 1, False)
    assert errno_of(world.run_until(pending)) == ESHUTDOWN
    world.run_idle()
    assert disk.outstanding == 0


def test_a_removed_disk_is_gone_and_loses_its_cache() -> None:
    found = set()
    for script in every_script():
        world = World(script, torn_writes=False)
        disk = SimulatedDisk(world, Medium("d", SIZE))
        perform(world, disk, WRITE, 0, data=blocks("a"))
        pending = request(disk, WRITE, 512, data=blocks("b"))
        disk.medium.remove()
        assert errno_of(world.run_until(pending)) == ENODEV
        assert (disk.fenced, disk.outstanding) == (True, 0)
        with pytest.raises(OSError, match="No such device"):
            disk.reopen()
        disk.medium.replug()
        found.add(letters(read(world, disk.reopen(), 0, 1024)))
    assert found == {"..", "a.", ".b", "ab"}


def test_what_the_service_asks_is_counted() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("d", SIZE))
    perform(world, disk, WRITE, 0, data=blocks("abc"))
    before = disk.medium.counters.copy()
    world.run_until(request(disk, WRITE, 0, data=blocks("d"), durable=True))
    perform(world, disk, READ, 0, 1024)
    perform(world, disk, FLUSH)
    perform(world, disk, ZERO, 0, 2048)
    assert disk.medium.counters - before == Counters(
        reads=1, bytes_read=1024, writes=1, durable_writes=1, bytes_written=512,
        flushes=1, zeros=1, bytes_zeroed=2048,
    )  # fmt: skip


def test_the_story_names_disk_kind_and_place() -> None:
    world = World(1)
    disk = SimulatedDisk(world, Medium("left", SIZE))
    perform(world, disk, WRITE, 1024, data=blocks("a"))
    told = [line.split("  ")[-1] for line in world.story().splitlines()]
    assert told == ["left submit write 0x400+0x200", "left done write 0x400+0x200"]


@pytest.mark.parametrize(
    ("kind", "offset", "length", "buffer", "start", "message"),
    [
        (READ, 512, 4096, Buffer(4096), 0, "aligned"),
        (READ, 0, 512, Buffer(4096), 0, "aligned"),
        (WRITE, 0, 0, Buffer(4096), 0, "aligned"),
        (WRITE, SIZE, 4096, Buffer(4096), 0, "outside"),
        (ZERO, -4096, 4096, None, 0, "outside"),
        (WRITE, 0, 8192, Buffer(4096), 0, "does not fit"),
        (READ, 0, 4096, Buffer(8192), 100, "does not fit"),
        (READ, 0, 4096, None, 0, "no buffer"),
        (9, 0, 4096, None, 0, "no known kind"),
    ],
)
def test_a_mistaken_request_raises_at_once(
    kind: int, offset: int, length: int, buffer: Buffer | None, start: int, message: str
) -> None:
    disk = SimulatedDisk(World(1), Medium("d", SIZE, logical_block=4096))
    with pytest.raises(AssertionError, match=message):
        disk.submit([DiskRequest(kind, offset, length, buffer, start, lambda request: None)])


def test_a_seed_and_its_script_repeat_a_life() -> None:
    def life(world: World) -> str:
        disk = SimulatedDisk(world, Medium("d", SIZE))
        for n in range(8):
            request(disk, WRITE, n * 512, data=blocks("abcd"))
        for _ in range(4):
            world.step()
        following = world.power_cut()
        return letters(read(following, disk.reopen(), 0, 8192))

    assert life(World(11)) == life(World(11))
    script = Script()
    first = life(World(script))
    assert life(World(Script([choice for choice, _ in script.taken]))) == first


@pytest.mark.parametrize("seed", range(150))
def test_random_lives_keep_every_promise_sector_by_sector(seed: int) -> None:
    """Against a model that knows, for each sector, what it may hold after a power cut."""
    sectors = 6
    world = World(seed)
    choose = world.choose
    disk = SimulatedDisk(world, Medium("d", SIZE))
    versions = [[0] for _ in range(sectors)]
    kept = [0] * sectors
    """The least index into `versions` that can be left."""
    in_flight: dict[int, range] = {}

    def submit_write(value: int) -> None:
        first = choose(sectors)
        count = 1 + choose(sectors - first)
        buffer = Buffer(count * 512)
        buffer.view[: count * 512] = bytes([value]) * (count * 512)
        in_flight[value] = range(first, first + count)

        def done(answer: DiskRequest) -> None:
            for sector in in_flight.pop(value):
                versions[sector].append(value)
                if answer.durable:
                    kept[sector] = len(versions[sector]) - 1

        durable = choose(4) == 0
        disk.submit(
            [DiskRequest(WRITE, first * 512, count * 512, buffer, 0, done, durable=durable)]
        )

    def submit_flush() -> None:
        covered = [len(of_sector) - 1 for of_sector in versions]

        def done(answer: DiskRequest) -> None:
            kept[:] = [max(old, new) for old, new in zip(kept, covered, strict=True)]

        disk.submit([DiskRequest(FLUSH, 0, 0, None, 0, done)])

    for value in range(1, 40):
        if choose(4):
            submit_write(value)
        else:
            submit_flush()
        for _ in range(choose(3)):
            world.step()
    seen = bytes(disk.medium.contents[: sectors * 512 : 512])
    assert list(seen) == [of_sector[-1] for of_sector in versions]
    power_fails = choose(2)
    following = world.power_cut() if power_fails else world.kill()
    left = read(following, disk.reopen(), 0, sectors * 512)
    for sector in range(sectors):
        of_sector = versions[sector]
        allowed = set(of_sector[kept[sector] :] if power_fails else of_sector[-1:])
        allowed |= {value for value, reach in in_flight.items() if sector in reach}
        held = left[sector * 512 : (sector + 1) * 512]
        assert held == held[:1] * 512, f"sector {sector} is torn\n{following.story()}"
        assert held[0] in allowed, f"sector {sector}\n{following.story()}"
