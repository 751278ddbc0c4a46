"""Whoever comes over TCP: who is let in, and what strangers cannot take from others."""

import contextlib
import errno
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from ssl import SSLObject

import pytest

from appliance.config import AllowRule, TcpEndpoint
from appliance.events import HOST_REFUSED
from appliance.hosts.nbd import credentials, listener, reception, wire
from appliance.hosts.nbd.buffers import Chunk
from appliance.hosts.nbd.channel import SLICE, TlsChannel
from appliance.hosts.nbd.connection import SENT_AT_ONCE, Connection
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.guests import ANYBODY
from appliance.hosts.nbd.listener import Listener
from appliance.loop import Loop
from tests.hosts.nbd import host_words
from tests.hosts.nbd.authority import APPLIANCE, Authority, HostKeys
from tests.hosts.nbd.host_words import info_or_go, option, read, request, write
from tests.hosts.nbd.memory_target import PlayedSource
from tests.hosts.nbd.played_host import PlayedHost
from tests.hosts.nbd.served import Served, serve

SIMPLE_OK = wire.SIMPLE_REPLY.pack(wire.SIMPLE_MAGIC, 0, 1)
MINE = AllowRule(network=ip_network("127.0.0.1/32"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def secure(tmp_path: Path, authority: Authority) -> Iterator[Served]:
    with serve(tmp_path, tls=authority.appliance()) as served:
        yield served


def receive(peer: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    got = 0
    while got < count:
        received = peer.recv_into(memoryview(data)[got:])
        assert received, f"closed after {got} of {count} bytes"
        got += received
    return bytes(data)


def knock(served: Served, origin: str = "127.0.0.1") -> socket.socket:
    """A connection from an address of ours that has only been greeted."""
    peer = socket.create_connection(
        (served.endpoint.address, served.endpoint.port), 20, source_address=(origin, 0)
    )
    receive(peer, wire.GREETING.size)
    return peer


def turned_away(served: Served, origin: str = "127.0.0.1") -> bool:
    """Is a connection closed before it is greeted?"""
    peer = socket.create_connection(
        (served.endpoint.address, served.endpoint.port), 20, source_address=(origin, 0)
    )
    with peer:
        return ended(peer)


def ended(peer: socket.socket) -> bool:
    try:
        return not peer.recv(1)
    except ConnectionResetError:
        return True


def ask(peer: socket.socket, asked: bytes, number: int) -> int:
    """The type of the last reply to an option."""
    peer.sendall(asked)
    return host_words.replies(partial(receive, peer), number)[-1][0]


def start_tls(peer: socket.socket) -> None:
    """Up to the appliance's consent, from the greeting on."""
    hello = wire.CLIENT_FLAGS.pack(3) + option(wire.OPTION_STARTTLS)
    assert ask(peer, hello, wire.OPTION_STARTTLS) == wire.REPLY_ACK


def secured(served: Served, keys: HostKeys, origin: str = "127.0.0.1") -> ssl.SSLSocket:
    """A connection past the TLS handshake."""
    peer = knock(served, origin)
    start_tls(peer)
    return keys.context().wrap_socket(peer, server_hostname=APPLIANCE)


def go(peer: socket.socket, name: str = "finance") -> int:
    return ask(peer, info_or_go(wire.OPTION_GO, name), wire.OPTION_GO)


def enter(served: Served, origin: str = "127.0.0.1") -> socket.socket:
    """A connection in the clear past its negotiation."""
    peer = knock(served, origin)
    peer.sendall(wire.CLIENT_FLAGS.pack(3))
    assert go(peer) == wire.REPLY_ACK
    return peer


def reasons(served: Served) -> list[str]:
    return [str(fields["reason"]) for code, fields in served.events if code == HOST_REFUSED]


def test_tls_over_a_socket(secure: Served, authority: Authority) -> None:
    with secured(secure, authority.host("db1.example")) as peer:
        assert go(peer) == wire.REPLY_ACK
        peer.sendall(b"".join(write(n << 20, bytes([n]) * (1 << 20)) for n in range(40)))
        assert receive(peer, 40 * 16) == SIMPLE_OK * 40
        peer.sendall(read(0, 32 << 20) + request(wire.COMMAND_DISC))
        got = receive(peer, 16 + (32 << 20))
        assert got[16:] == secure.targets["finance"].bytes[: 32 << 20]
        assert peer.recv(1) == b"", "it says farewell"
    assert secure.targets["finance"].bytes[39 << 20] == 39


def test_with_tls_any_address_may_be_listened_on(authority: Authority) -> None:
    keys = credentials.load(authority.appliance())
    with Loop() as loop:
        made = Listener(loop, Exports(PlayedSource()), credentials=keys)
        assert made.listen_tcp(TcpEndpoint("0.0.0.0", 0)).port
        made.close()


def test_the_unix_socket_stays_in_the_clear(secure: Served) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(secure.socket))
        receive(peer, wire.GREETING.size)
        peer.sendall(wire.CLIENT_FLAGS.pack(3))
        assert go(peer) == wire.REPLY_ACK


def test_an_address_that_is_not_allowed_is_not_greeted(tmp_path: Path) -> None:
    with serve(tmp_path, allow=[MINE]) as served:
        enter(served).close()
        assert turned_away(served, "127.0.0.2")
        assert served.events == [
            (
                HOST_REFUSED,
                {"host": "127.0.0.2", "reason": "its address is not on the allow list"},
            )
        ]


def test_a_network_may_be_limited_to_volumes_without_tls(tmp_path: Path) -> None:
    rule = AllowRule(ip_network("127.0.0.0/8"), volumes=frozenset({"mail"}))
    with serve(tmp_path, allow=[rule]) as served, knock(served) as peer:
        peer.sendall(wire.CLIENT_FLAGS.pack(3))
        assert go(peer, "finance") == wire.REPLY_ERROR_POLICY
        assert go(peer, "mail") == wire.REPLY_ACK
        assert reasons(served) == ["this host is not allowed to use finance"]


def test_an_export_by_its_name_alone_obeys_the_list_too(tmp_path: Path) -> None:
    rule = AllowRule(ip_network("127.0.0.0/8"), volumes=frozenset({"mail"}))
    with serve(tmp_path, allow=[rule]) as served:
        with knock(served) as peer:
            peer.sendall(wire.CLIENT_FLAGS.pack(3) + option(wire.OPTION_EXPORT_NAME, b"finance"))
            assert ended(peer)
        with knock(served) as peer:
            peer.sendall(wire.CLIENT_FLAGS.pack(3) + option(wire.OPTION_EXPORT_NAME, b""))
            size, _ = wire.EXPORT_NAME_REPLY.unpack(receive(peer, wire.EXPORT_NAME_REPLY.size))
            assert size == served.targets["mail"].size, "the only one there is for this host"
        assert reasons(served) == ["this host is not allowed to use finance"]


def test_a_name_that_is_not_allowed_gets_nothing(tmp_path: Path, authority: Authority) -> None:
    allow = [AllowRule(name="db1.example")]
    with serve(tmp_path, tls=authority.appliance(), allow=allow) as served:
        with secured(served, authority.host("db1.example")) as peer:
            assert go(peer) == wire.REPLY_ACK
        with secured(served, authority.host("db2.example")) as peer:
            assert go(peer) == wire.REPLY_ERROR_POLICY
            assert ask(peer, option(wire.OPTION_LIST), wire.OPTION_LIST) == wire.REPLY_ACK
        assert "db2.example" in reasons(served)[0]


def test_hosts_with_nothing_to_say_give_way(tmp_path: Path) -> None:
    with serve(tmp_path) as served, contextlib.ExitStack() as opened:
        worker = opened.enter_context(enter(served))
        idle = [
            opened.enter_context(knock(served, f"127.0.0.{n % 3 + 1}"))
            for n in range(reception.UNDECIDED_LIMIT)
        ]
        opened.enter_context(enter(served))
        assert ended(idle[0]), "the oldest went"
        idle[1].sendall(wire.CLIENT_FLAGS.pack(3))
        assert go(idle[1]) == wire.REPLY_ACK, "the next one is still there"
        worker.sendall(write(0, bytes(4096)))
        assert receive(worker, 16) == SIMPLE_OK
        assert "others waited" in reasons(served)[0]


def test_one_address_cannot_take_all_places(tmp_path: Path) -> None:
    with serve(tmp_path) as served, contextlib.ExitStack() as opened:
        for _ in range(reception.ADDRESS_LIMIT):
            opened.enter_context(enter(served))
        assert turned_away(served)
        opened.enter_context(enter(served, "127.0.0.2"))
        assert "come from there already" in reasons(served)[0]


def test_a_host_that_went_without_a_word_is_noticed_in_minutes(tmp_path: Path) -> None:
    with serve(tmp_path) as served, enter(served):
        (connection,) = served.on_loop(lambda: list(served.listener._connections))
        peer = connection._socket
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, interval, count = (
            peer.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + interval * count <= 120


def test_strangers_leave_room_for_those_on_the_unix_socket(tmp_path: Path) -> None:
    with serve(tmp_path) as served, contextlib.ExitStack() as opened:
        for n in range(100):
            with contextlib.suppress(ConnectionResetError, AssertionError):
                opened.enter_context(knock(served, f"127.0.0.{n + 1}"))
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(20)
            peer.connect(str(served.socket))
            receive(peer, wire.GREETING.size)
        assert served.on_loop(lambda: served.listener.connections) <= reception.UNDECIDED_LIMIT + 1


@pytest.mark.parametrize("said", ["nothing", "starttls", "half a hello"])
def test_a_handshake_has_its_time(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(listener, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 1_000_000)
    with serve(tmp_path, tls=authority.appliance()) as served, knock(served) as peer:
        if said != "nothing":
            start_tls(peer)
        if said == "half a hello":
            peer.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        limit_handshakes(served, monkeypatch, 5)
        assert ended(peer)


def limit_handshakes(served: Served, monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """From now on they may take so long, and not from when this machine began with one."""
    (connection,) = served.on_loop(lambda: list(served.listener._connections))
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", connection.phase_seconds + seconds)


def dripped(peer: socket.socket) -> bool:
    """Send one byte more; has the connection ended meanwhile?"""
    try:
        peer.sendall(b"\x00")
        return not peer.recv(1)
    except TimeoutError:
        return False
    except (ConnectionResetError, BrokenPipeError):
        return True


def test_a_slow_drip_does_not_win_time(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 1_000_000)
    with serve(tmp_path, tls=authority.appliance()) as served, knock(served) as peer:
        start_tls(peer)
        peer.sendall(b"\x16\x03\x01\x3f\x00\x01\x00\x3e\xfc")
        peer.settimeout(0.01)
        limit_handshakes(served, monkeypatch, 10)
        end = time.monotonic() + 20
        while not dripped(peer):
            assert time.monotonic() < end


def test_a_handshake_is_computed_beside_the_loop(
    secure: Served, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop turns while steps are computed: they run on other threads."""
    loop_thread = secure.on_loop(threading.get_ident)
    seen: list[int] = []
    original = SSLObject.do_handshake

    def watched(self: SSLObject) -> None:
        seen.append(threading.get_ident())
        original(self)

    monkeypatch.setattr(SSLObject, "do_handshake", watched)
    with secured(secure, authority.host("db1.example")) as peer:
        assert go(peer) == wire.REPLY_ACK
    assert seen
    assert loop_thread not in seen


def test_no_descriptors_left_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "ACCEPT_PAUSE_SECONDS", 0.05)
    asked: list[float] = []
    original = socket.socket.accept

    def accept(self: socket.socket) -> tuple[socket.socket, object]:
        asked.append(time.monotonic())
        if len(asked) <= 3:
            raise OSError(errno.EMFILE, "too many open files")
        return original(self)

    monkeypatch.setattr(socket.socket, "accept", accept)
    with serve(tmp_path) as served, enter(served):
        pauses = [later - earlier for earlier, later in pairwise(asked)]
        assert len(asked) == 4, "it does not spin"
        assert min(pauses) >= 0.04


class Swallowing(socket.socket):
    """Takes whatever it is sent, at once."""

    swallowed = 0

    def sendmsg(self, buffers: object, *_: object) -> int:
        assert isinstance(buffers, list)
        count = sum(map(len, buffers))
        self.swallowed += count
        return count


class Answering(TlsChannel):
    """Has `left` bytes of answers, in slices."""

    left = 32 << 20

    def output(self) -> list[Chunk]:
        return [bytes(min(SLICE, self.left))] if self.left else []

    def sent(self, count: int) -> None:
        self.left -= count


def test_a_long_answer_leaves_in_portions(loop: Loop, authority: Authority) -> None:
    """However fast a host takes it, others have their turns between."""
    host = PlayedHost(Exports(PlayedSource()))
    channel = Answering(
        host.session,
        credentials.load(authority.appliance()),
        loop.offload,
        lambda: None,
        lambda _: ANYBODY,
        lambda _: None,
    )
    ours, theirs = socket.socketpair()
    with theirs, Swallowing(fileno=ours.detach()) as peer:
        connection = Connection(loop, peer, "", 1, host.session, channel, lambda _: None)
        connection.settle()
        portions = [peer.swallowed]
        while channel.left:
            loop.turn(1)
            portions.append(peer.swallowed - sum(portions))
        connection.drop("")
    assert sum(portions) == 32 << 20
    assert 0 < max(portions) <= SENT_AT_ONCE + SLICE
