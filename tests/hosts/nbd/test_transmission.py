"""Requests and their answers, and what keeps a host from filling memory."""

import errno
import random

import pytest

from appliance.cdp.interfaces import DISCARD, FLUSH, READ, WRITE, ZERO
from appliance.hosts.nbd import wire
from appliance.hosts.nbd.budget import Budget
from appliance.hosts.nbd.buffers import MAX_BACKLOG, RING
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.session import Phase
from appliance.hosts.nbd.transmission import MAX_IN_FLIGHT
from tests.hosts.nbd.host_words import read, request, write
from tests.hosts.nbd.memory_target import CountingPool, MemoryTarget, PlayedSource
from tests.hosts.nbd.played_host import Answer, PlayedHost

MIB = 1 << 20


def connect(
    target: MemoryTarget, structured: bool = False, budget: Budget | None = None
) -> PlayedHost:
    budget = budget if budget is not None else Budget(lambda: None)
    host = PlayedHost(Exports(PlayedSource(("finance", target))), budget, CountingPool())
    host.go("finance", structured)
    return host


def wakeful_budget(limit: int) -> Budget:
    """A budget that admits at once, as a turn of the loop would soon."""

    def wake() -> None:
        budget.admit()

    budget = Budget(wake, limit)
    return budget


def ask(host: PlayedHost, target: MemoryTarget, data: bytes) -> Answer:
    """Send one request and hand back its answer."""
    host.tell(data)
    target.deliver()
    ((_, answer),) = host.answers()
    return answer


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("length", [512, 4096, 64 << 10, (64 << 10) + 512, MIB, 3 * MIB])
def test_what_is_written_is_read_back(structured: bool, length: int) -> None:
    target = MemoryTarget(4 * MIB)
    host = connect(target, structured)
    data = random.Random(length).randbytes(length)
    assert ask(host, target, write(512, data)) == Answer()
    host.reads[1] = length
    assert ask(host, target, read(512, length)) == Answer(data=data)
    assert target.pool.out == 0
    assert host.budget.used == 0


@pytest.mark.parametrize("structured", [False, True])
def test_answers_come_in_the_order_of_completion(structured: bool) -> None:
    target = MemoryTarget()
    host = connect(target, structured)
    host.reads = {2: 512, 4: 1024}
    host.tell(
        write(0, b"a" * 512, cookie=1)
        + read(0, 512, cookie=2)
        + request(wire.COMMAND_FLUSH, cookie=3)
        + read(512, 1024, cookie=4)
    )
    target.deliver(lambda pending: pending.reverse())
    assert host.answers() == [
        (4, Answer(data=bytes(1024))),
        (3, Answer()),
        (2, Answer(data=b"a" * 512)),
        (1, Answer()),
    ]


def test_the_largest_cookie_comes_back() -> None:
    target = MemoryTarget()
    host = connect(target)
    host.tell(request(wire.COMMAND_FLUSH, cookie=(1 << 64) - 1))
    target.deliver()
    assert host.answers() == [((1 << 64) - 1, Answer())]


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (wire.COMMAND_WRITE, WRITE),
        (wire.COMMAND_TRIM, DISCARD),
        (wire.COMMAND_WRITE_ZEROES, ZERO),
    ],
)
@pytest.mark.parametrize("fua", [False, True])
def test_fua_reaches_the_target(command: int, kind: int, fua: bool) -> None:
    target = MemoryTarget()
    host = connect(target)
    payload = bytes(4096) if command == wire.COMMAND_WRITE else b""
    flags = wire.FLAG_FUA if fua else 0
    assert ask(host, target, request(command, 0, 4096, flags=flags, payload=payload)) == Answer()
    assert target.submitted == {kind: 1}
    assert target.fua[kind] == fua


def test_large_writes_carry_fua_too() -> None:
    target = MemoryTarget()
    host = connect(target)
    assert ask(host, target, write(0, bytes(MIB), flags=wire.FLAG_FUA)) == Answer()
    assert target.fua[WRITE] == 1


@pytest.mark.parametrize("command", [wire.COMMAND_READ, wire.COMMAND_FLUSH, wire.COMMAND_CACHE])
def test_fua_is_accepted_where_it_says_nothing(command: int) -> None:
    target = MemoryTarget()
    host = connect(target)
    length = 0 if command == wire.COMMAND_FLUSH else 512
    host.reads[1] = length if command == wire.COMMAND_READ else 0
    assert ask(host, target, request(command, 0, length, flags=wire.FLAG_FUA)).error == 0


def test_zeroing_may_be_longer_than_any_payload() -> None:
    target = MemoryTarget(40 * MIB)
    target.bytes[:] = b"x" * len(target.bytes)
    host = connect(target)
    assert ask(host, target, request(wire.COMMAND_WRITE_ZEROES, 0, 40 * MIB)) == Answer()
    assert not any(target.bytes)
    assert ask(host, target, request(wire.COMMAND_TRIM, 0, 0xFFFFF000)).error == errno.ENOSPC


def test_fast_zeroing_is_refused_at_once_where_it_is_not_fast() -> None:
    target = MemoryTarget()
    host = connect(target)
    fast = wire.FLAG_FAST_ZERO | wire.FLAG_NO_HOLE
    assert ask(host, target, request(wire.COMMAND_WRITE_ZEROES, 0, 512, flags=fast)).error == (
        errno.ENOTSUP
    )
    assert not target.submitted
    no_hole = request(wire.COMMAND_WRITE_ZEROES, 0, 512, flags=wire.FLAG_NO_HOLE)
    assert ask(host, target, no_hole) == Answer()


def test_cache_succeeds_and_costs_nothing() -> None:
    target = MemoryTarget()
    host = connect(target)
    assert ask(host, target, request(wire.COMMAND_CACHE, 0, MIB)) == Answer()
    assert ask(host, target, request(wire.COMMAND_CACHE, 512, MIB)).error == errno.EINVAL
    assert not target.submitted


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (read(1, 512), errno.EINVAL),
        (read(0, 511), errno.EINVAL),
        (read(0, 0), errno.EINVAL),
        (write(1, bytes(512)), errno.EINVAL),
        (write(0, b""), errno.EINVAL),
        (read(MIB, 512), errno.EINVAL),
        (read(MIB - 512, 1024), errno.EINVAL),
        (read(1 << 63, 512), errno.EINVAL),
        (read((1 << 64) - 512, 512), errno.EINVAL),
        (write(MIB, bytes(512)), errno.ENOSPC),
        (write((1 << 64) - 512, bytes(1024)), errno.ENOSPC),
        (request(wire.COMMAND_TRIM, MIB, 512), errno.ENOSPC),
        (request(wire.COMMAND_WRITE_ZEROES, 0, 0), errno.EINVAL),
        (request(wire.COMMAND_FLUSH, 0, 512), errno.EINVAL),
        (request(wire.COMMAND_FLUSH, 512, 0), errno.EINVAL),
        (read(0, (32 << 20) + 512), errno.EINVAL),
        (read(0, 0xFFFFFFFF), errno.EINVAL),
        (write(0, bytes((32 << 20) + 512)), errno.EINVAL),
        (request(7, 0, 512), errno.EINVAL),
        (request(8, 0, 512), errno.EINVAL),
        (request(0xFFFF, 0, 512), errno.EINVAL),
        (read(0, 512, flags=0x8000), errno.EINVAL),
        (read(0, 512, flags=wire.FLAG_NO_HOLE), errno.EINVAL),
        (write(0, bytes(512), flags=wire.FLAG_DF), errno.EINVAL),
        (write(0, bytes(MIB), flags=wire.FLAG_FAST_ZERO), errno.EINVAL),
    ],
)
def test_bad_requests_are_refused_and_the_next_is_served(
    structured: bool, data: bytes, error: int
) -> None:
    target = MemoryTarget(MIB)
    host = connect(target, structured)
    answer = ask(host, target, data)
    assert (answer.error, answer.data) == (error, b"")
    assert bool(answer.message) == structured
    assert ask(host, target, write(512, b"x" * 512)) == Answer()
    assert target.bytes[512:1024] == b"x" * 512
    assert target.bytes.count(b"x") == 512
    assert host.budget.used == 0
    assert target.pool.out == 0


def test_df_is_for_structured_reads() -> None:
    target = MemoryTarget(MIB)
    simple, structured = connect(target), connect(target, structured=True)
    asked = read(0, 4096, flags=wire.FLAG_DF)
    assert ask(simple, target, asked).error == errno.EINVAL
    assert ask(structured, target, asked) == Answer(data=bytes(4096))
    too_long = read(0, (32 << 20) + 512, flags=wire.FLAG_DF)
    assert ask(structured, target, too_long).error == errno.EOVERFLOW


def test_writes_to_a_read_only_export_are_not_permitted() -> None:
    target = MemoryTarget(read_only=True)
    host = connect(target)
    for data in (
        write(0, bytes(512)),
        write(0, bytes(MIB)),
        request(wire.COMMAND_TRIM, 0, 512),
        request(wire.COMMAND_WRITE_ZEROES, 0, 512, flags=wire.FLAG_FAST_ZERO),
    ):
        assert ask(host, target, data).error == errno.EPERM
    assert ask(host, target, request(wire.COMMAND_FLUSH)) == Answer()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (errno.EIO, errno.EIO),
        (errno.ENOSPC, errno.ENOSPC),
        (errno.EROFS, errno.EPERM),
        (errno.EDQUOT, errno.ENOSPC),
        (errno.ENODEV, errno.EIO),
        (errno.ETIMEDOUT, errno.EIO),
        (errno.ESHUTDOWN, errno.ESHUTDOWN),
    ],
)
@pytest.mark.parametrize("structured", [False, True])
def test_errors_of_the_target_reach_the_host(ours: int, theirs: int, structured: bool) -> None:
    target = MemoryTarget()
    host = connect(target, structured)
    target.fail_with = ours
    for data in (read(0, 512), write(0, bytes(512)), request(wire.COMMAND_FLUSH)):
        assert ask(host, target, data).error == theirs
    assert host.budget.used == 0


def test_a_wrong_request_magic_ends_the_connection() -> None:
    target = MemoryTarget()
    host = connect(target)
    host.tell(write(0, bytes(512)) + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert host.session.over
    host.session.close()
    target.deliver()
    assert host.budget.used == 0


def test_disc_finishes_what_is_in_flight_and_then_closes() -> None:
    target = MemoryTarget()
    host = connect(target)
    host.reads[2] = 512
    host.tell(write(0, b"a" * 512) + read(0, 512, cookie=2) + request(wire.COMMAND_DISC))
    assert not host.session.reading
    assert not host.session.over
    target.deliver()
    assert not host.session.over, "the answers have not left"
    assert [answer.data for _, answer in host.answers()] == [b"", b"a" * 512]
    assert host.session.over


def test_requests_after_disc_are_not_served() -> None:
    target = MemoryTarget()
    host = connect(target)
    host.tell(request(wire.COMMAND_DISC) + write(0, b"a" * 512))
    assert host.session.over
    assert not target.submitted


def test_a_vanished_host_leaves_nothing_behind() -> None:
    target = MemoryTarget(4 * MIB)
    host = connect(target)
    source = host.exports._source
    assert isinstance(source, PlayedSource)
    host.tell(read(0, MIB))
    target.deliver()
    host.settle(at_most=1000)
    host.tell(read(0, MIB) + write(0, bytes(512)) + write(0, bytes(MIB))[: MIB // 2])
    assert host.budget.used > 3 * MIB
    host.session.close()
    assert source.connected["finance"] == 1, "its requests are still in flight"
    assert target.deliver() == 2
    assert host.budget.used == 0
    assert target.pool.out == 0
    assert isinstance(host.pool, CountingPool)
    assert host.pool.out == 0
    assert source.connected["finance"] == 0
    assert host.session.output() == []


def test_a_batch_rouses_once() -> None:
    target = MemoryTarget()
    host = connect(target)
    host.settle()
    before = host.rousings
    host.tell(b"".join(write(512 * n, bytes(512), cookie=n) for n in range(32)))
    target.deliver()
    assert host.rousings == before + 1
    assert len(host.session.output()) == 1, "one buffer holds all the replies"


def test_requests_in_flight_are_bounded() -> None:
    target = MemoryTarget()
    host = connect(target)
    flushes = b"".join(request(wire.COMMAND_FLUSH, cookie=n) for n in range(20_000))
    sent = host.tell(flushes)
    assert sent < len(flushes)
    assert len(target.pending) == MAX_IN_FLIGHT
    answered = 0
    while answered < 20_000:
        assert target.deliver()
        answered += len(host.answers())
        sent += host.tell(flushes[sent:])
    assert target.most_pending == MAX_IN_FLIGHT
    assert not host.session.stalled


def test_a_host_that_takes_no_answers_is_read_no_further() -> None:
    target = MemoryTarget(32 * MIB)
    host = connect(target)
    host.tell(read(0, MIB) * 200)
    while target.deliver():
        pass
    assert host.budget.used <= host.budget.share
    assert target.pool.out <= host.budget.share
    assert host.session.stalled
    assert len(host.session.receive_buffer()) == 0
    host.reads[1] = MIB
    answered = 0
    while answered < 200:
        answered += len(host.answers())
        target.deliver()
    assert len(host.session.receive_buffer()) > 0, "it goes on once the host does"


def test_refusals_that_nobody_takes_are_bounded() -> None:
    target = MemoryTarget()
    host = connect(target, structured=True)
    refused = read(0, 0) * 9000
    sent = 0
    for _ in range(1000):
        sent += host.tell(refused)
    backlog = sum(map(len, host.session.output()))
    assert backlog < MAX_BACKLOG + 4 * RING
    assert sent < 1000 * len(refused)


def test_payload_is_bounded_over_all_connections() -> None:
    budget = wakeful_budget(64 * MIB)
    target = MemoryTarget(32 * MIB)
    hosts = [connect(target, budget=budget) for _ in range(6)]
    unsent = {n: b"".join(write(0, bytes([n]) * (16 * MIB)) for _ in range(2)) for n in range(6)}
    answered = 0
    for _ in range(200):
        for number, host in enumerate(hosts):
            unsent[number] = unsent[number][host.tell(unsent[number]) :]
            assert budget.used <= budget.limit
            assert sum(pool_of(host).out for host in hosts) <= budget.limit + 6 * RING
            host.settle()
        target.deliver()
        answered += sum(len(host.answers()) for host in hosts)
    assert answered == 12
    assert not any(unsent.values())
    assert budget.used == 0
    assert not budget.waiting


def pool_of(host: PlayedHost) -> CountingPool:
    assert isinstance(host.pool, CountingPool)
    return host.pool


def test_a_large_request_is_not_starved_by_small_ones() -> None:
    budget = wakeful_budget(32 * MIB)
    target = MemoryTarget(32 * MIB)
    greedy, patient = connect(target, budget=budget), connect(target, budget=budget)
    greedy.tell(read(0, 4096))
    patient.tell(read(0, 32 * MIB))
    assert len(target.pending) == 1
    greedy.tell(read(0, 4096))
    assert len(target.pending) == 1, "whoever waits comes first"
    greedy.reads[1] = 4096
    target.deliver()
    assert len(greedy.answers()) == 1
    assert [request.length for request in target.pending] == [32 * MIB]
    patient.reads[1] = 32 * MIB
    target.deliver()
    assert len(patient.answers()) == 1
    assert [request.length for request in target.pending] == [4096]


def test_a_closed_session_makes_way_for_those_that_wait() -> None:
    budget = wakeful_budget(32 * MIB)
    target = MemoryTarget(32 * MIB)
    first, second, third = (connect(target, budget=budget) for _ in range(3))
    first.tell(write(0, bytes(16 * MIB))[: 1 * MIB])
    second.tell(read(0, 32 * MIB))
    third.tell(read(0, 1024))
    assert not target.pending
    second.session.close()
    assert [request.length for request in target.pending] == [1024]


def test_finish_lets_go_of_a_payload_that_never_came() -> None:
    target = MemoryTarget(4 * MIB)
    host = connect(target)
    host.tell(write(0, bytes(MIB))[: MIB // 2])
    assert host.budget.used == MIB
    host.session.finish()
    assert host.budget.used == 0
    assert host.session.over
    assert host.session.phase is Phase.FINISHING


def test_kinds_of_requests_are_passed_on() -> None:
    target = MemoryTarget()
    host = connect(target)
    host.reads[2] = 512
    for data in (
        read(0, 512, cookie=2),
        write(0, bytes(512)),
        request(wire.COMMAND_FLUSH),
        request(wire.COMMAND_TRIM, 0, 512),
        request(wire.COMMAND_WRITE_ZEROES, 0, 512),
    ):
        assert ask(host, target, data).error == 0
    assert target.submitted == {READ: 1, WRITE: 1, FLUSH: 1, DISCARD: 1, ZERO: 1}
