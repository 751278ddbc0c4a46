"""Whatever comes in, a session answers or closes; it never fails and never hoards."""

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.hosts.nbd import wire
from appliance.hosts.nbd.budget import Budget
from appliance.hosts.nbd.buffers import MAX_BACKLOG, RING
from appliance.hosts.nbd.exports import Exports
from tests.hosts.nbd.host_words import info_or_go, option, read, request, string, write
from tests.hosts.nbd.memory_target import CountingPool, MemoryTarget, PlayedSource
from tests.hosts.nbd.played_host import PlayedHost

SIZE = 1 << 20
LIMIT = 64 << 20

options = st.one_of(
    st.sampled_from(
        [
            option(wire.OPTION_LIST),
            option(wire.OPTION_STRUCTURED_REPLY),
            option(wire.OPTION_STARTTLS),
            option(wire.OPTION_SET_META_CONTEXT, string("finance") + bytes(4)),
            info_or_go(wire.OPTION_INFO, "finance", wire.INFO_NAME),
            info_or_go(wire.OPTION_INFO, "nowhere"),
        ]
    ),
    st.builds(option, st.integers(0, 20), st.binary(max_size=40)),
)
sectors = st.integers(0, SIZE // 512 - 1).map(lambda sector: sector * 512)
requests = st.one_of(
    st.builds(write, sectors, st.integers(0, 300).map(lambda n: b"w" * (n * 512))),
    st.builds(read, sectors, st.integers(0, 300).map(lambda n: n * 512)),
    st.builds(
        request, st.sampled_from([3, 4, 5, 6, 7, 9]), sectors, st.integers(0, 4).map((512).__mul__)
    ),
)
openings = st.sampled_from(
    [
        info_or_go(wire.OPTION_GO, "finance"),
        option(wire.OPTION_EXPORT_NAME, b"finance"),
        option(wire.OPTION_STRUCTURED_REPLY) + info_or_go(wire.OPTION_GO, "finance"),
    ]
)
endings = st.sampled_from([b"", request(wire.COMMAND_DISC), b"garbage that is no request at all"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """What a well-behaved host might send, from its first byte to its last."""
    return b"".join(
        [
            wire.CLIENT_FLAGS.pack(draw(st.integers(0, 3))),
            *draw(st.lists(options, max_size=4)),
            draw(openings),
            *draw(st.lists(requests, max_size=8)),
            draw(endings),
        ]
    )


@st.composite
def mutated_streams(draw: st.DrawFn) -> bytes:
    stream = bytearray(draw(streams()))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(stream) - 1))
        kind = draw(st.sampled_from(["flip", "cut", "double"]))
        if kind == "flip":
            stream[place] = draw(st.integers(0, 255))
        elif kind == "cut" and len(stream) > 1:
            del stream[place : place + draw(st.integers(1, 64))]
        else:
            stream[place:place] = stream[place : place + draw(st.integers(1, 64))]
        if not stream:
            break
    return bytes(stream)


def play(stream: bytes, cuts: list[int], *, late: bool = False) -> tuple[bytes, bytes, bool]:
    """Send a stream in pieces; what the session said, what the disk holds, whether it closed.

    Holds the bounds on the way, and that nothing is left behind.  With `late`
    the target completes nothing before the end, so that the order of answers
    does not depend on the pieces.
    """
    target = MemoryTarget(SIZE)
    source = PlayedSource(("finance", target))
    host = PlayedHost(Exports(source), Budget(lambda: None, LIMIT), CountingPool())
    assert isinstance(host.pool, CountingPool)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, stop in pairwise(places):
        piece = stream[start:stop]
        while piece and not host.session.over:
            piece = piece[host.tell(piece) :]
            assert host.budget.used <= LIMIT
            assert host.pool.out <= LIMIT + RING
            if not late:
                target.deliver()
            host.settle()
    target.deliver()
    host.settle()
    over = host.session.over
    host.session.close()
    assert host.budget.used == 0
    assert host.pool.out == 0
    assert target.pool.out == 0
    assert source.connected["finance"] == 0
    assert len(host.said) < MAX_BACKLOG
    return bytes(host.said), bytes(target.bytes), over


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=4))
@settings(max_examples=150, deadline=None)
def test_noise_is_survived(noise: bytes, cuts: list[int]) -> None:
    play(noise, cuts)
    play(wire.CLIENT_FLAGS.pack(3) + noise, cuts)
    play(wire.CLIENT_FLAGS.pack(3) + info_or_go(wire.OPTION_GO, "finance") + noise, cuts)


@given(mutated_streams(), st.lists(st.integers(0, 1 << 20), max_size=4))
@settings(max_examples=200, deadline=None)
def test_mutated_streams_are_survived(stream: bytes, cuts: list[int]) -> None:
    play(stream, cuts)


@given(streams(), st.lists(st.integers(0, 1 << 20), max_size=12))
@settings(max_examples=150, deadline=None)
def test_how_a_stream_is_split_changes_nothing(stream: bytes, cuts: list[int]) -> None:
    assert play(stream, cuts, late=True) == play(stream, [], late=True)


def test_a_stream_byte_by_byte() -> None:
    stream = b"".join(
        [
            wire.CLIENT_FLAGS.pack(3),
            option(wire.OPTION_LIST),
            info_or_go(wire.OPTION_GO, "finance"),
            write(512, b"x" * 1024),
            read(0, 2048),
            write(1 << 40, b"y" * 512),
            request(wire.COMMAND_DISC),
        ]
    )
    assert play(stream, list(range(len(stream))), late=True) == play(stream, [], late=True)


def test_long_seeded_noise_behind_valid_requests() -> None:
    chance = random.Random(1)
    opening = wire.CLIENT_FLAGS.pack(3) + info_or_go(wire.OPTION_GO, "finance")
    for _ in range(60):
        stream = opening
        for _ in range(chance.randrange(20)):
            command, offset = chance.randrange(10), chance.randrange(2 * SIZE)
            length = chance.choice([0, 512, 4096, 1 << 20, 1 << 30, (1 << 32) - 1])
            stream += request(command, offset, length, flags=chance.choice([0, 0, 1, 4, 16, 255]))
        play(stream + chance.randbytes(100_000), [chance.randrange(1 << 17) for _ in range(5)])
