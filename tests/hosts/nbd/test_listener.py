"""Sockets: where the server listens, whom it refuses, and what is left when hosts go."""

import grp
import os
import socket
import stat
import threading
from functools import partial
from pathlib import Path

import pytest

from appliance import events
from appliance.config import TcpEndpoint
from appliance.errors import BadSettings
from appliance.hosts.nbd import credentials, listener, wire
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.listener import Listener
from appliance.loop import Loop
from tests.hosts.nbd import host_words
from tests.hosts.nbd.authority import Authority
from tests.hosts.nbd.host_words import info_or_go, read, request, write
from tests.hosts.nbd.memory_target import PlayedSource
from tests.hosts.nbd.served import Served, serve

SIMPLE_OK = wire.SIMPLE_REPLY.pack(wire.SIMPLE_MAGIC, 0, 1)


def receive(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = peer.recv(min(count - len(data), 1 << 20))
        assert piece, f"closed after {len(data)} of {count} bytes"
        data += piece
    return data


def connect(served: Served) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(20)
    peer.connect(str(served.socket))
    return peer


def ask(peer: socket.socket, name: str) -> int:
    """Go through the handshake; the type of the last reply."""
    take = partial(receive, peer)
    host_words.greet(take, peer.sendall)
    peer.sendall(info_or_go(wire.OPTION_GO, name))
    return host_words.replies(take, wire.OPTION_GO)[-1][0]


def enter(served: Served, name: str = "finance") -> socket.socket:
    """A socket that is past its handshake."""
    peer = connect(served)
    assert ask(peer, name) == wire.REPLY_ACK
    return peer


def test_the_unix_socket_is_for_owner_and_group(served: Served) -> None:
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give to another group")
@pytest.mark.parametrize("group", ["daemon", "there-is-no-such-group"])
def test_the_unix_socket_goes_to_the_hosts_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    monkeypatch.setattr(listener, "HOSTS_GROUP", group)
    with serve(tmp_path) as served:
        expected = grp.getgrnam(group).gr_gid if group == "daemon" else os.getegid()
        assert served.socket.stat().st_gid == expected
        assert stat.S_IMODE(served.socket.stat().st_mode) == 0o660


def test_the_socket_is_gone_after_close(tmp_path: Path) -> None:
    with serve(tmp_path) as served:
        path = served.socket
        assert path.is_socket()
    assert not path.exists()


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1", "::"])
def test_tcp_beyond_loopback_is_refused(address: str) -> None:
    with Loop() as loop, pytest.raises(BadSettings, match="loopback"):
        Listener(loop, Exports(PlayedSource())).listen_tcp(TcpEndpoint(address, 10809))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_an_address_that_is_here_makes_no_event(tmp_path: Path, address: str) -> None:
    with serve(tmp_path) as served:
        endpoint = TcpEndpoint(address, 0)
        assert served.on_loop(lambda: served.listener.listen_tcp(endpoint)).port
        assert served.events == []


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_that_no_interface_has_is_listened_on(tmp_path: Path, address: str) -> None:
    told: list[tuple[str, object]] = []

    def emit(code: str, **fields: events.FieldValue) -> None:
        told.append((code, fields["endpoint"]))

    keys = credentials.load(Authority(tmp_path / "keys").appliance())
    with Loop() as loop:
        listener = Listener(loop, Exports(PlayedSource()), credentials=keys, emit=emit)
        endpoint = listener.listen_tcp(TcpEndpoint(address, 0))
        assert endpoint.port
        assert told == [(events.ADDRESS_ABSENT, str(TcpEndpoint(address, 0)))]
        listener.close()


def test_a_taken_tcp_port_is_refused(served: Served) -> None:
    with Loop() as loop, pytest.raises(BadSettings, match="in use"):
        Listener(loop, Exports(PlayedSource())).listen_tcp(served.endpoint)


def test_connections_are_limited(tmp_path: Path) -> None:
    with serve(tmp_path, connection_limit=2) as served:
        first, second = enter(served), enter(served)
        with connect(served) as third:
            assert third.recv(1) == b""
        first.close()
        served.wait_until(lambda: served.listener.connections == 1)
        enter(served).close()
        second.close()


def test_a_batch_is_answered(served: Served) -> None:
    with enter(served) as peer:
        peer.sendall(b"".join(write(n * 4096, bytes([n]) * 4096) for n in range(32)))
        assert receive(peer, 32 * 16) == SIMPLE_OK * 32
    assert served.targets["finance"].bytes[31 * 4096] == 31


def test_disc_answers_first_and_then_closes(served: Served) -> None:
    with enter(served) as peer:
        peer.sendall(read(0, 4 << 20) + request(wire.COMMAND_DISC))
        assert receive(peer, 16 + (4 << 20)) == SIMPLE_OK + bytes(4 << 20)
        assert peer.recv(1) == b""


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n" * 4, os.urandom(4096)])
def test_garbage_closes_the_connection(served: Served, data: bytes) -> None:
    with enter(served) as peer:
        peer.sendall(data)
        with pytest.raises((AssertionError, ConnectionResetError)):
            receive(peer, 1)
    with connect(served) as peer:
        peer.sendall(b"\xff" * 64)
        with pytest.raises((AssertionError, ConnectionResetError)):
            receive(peer, 100)


def test_a_host_that_vanishes_leaves_nothing_behind(served: Served) -> None:
    for unsent in (write(0, bytes(1 << 20))[:-1], read(0, 32 << 20) * 4, b"\x25"):
        peer = enter(served)
        peer.sendall(unsent)
        peer.close()
    served.wait_until(lambda: served.listener.connections == 0)
    assert served.listener.budget.used == 0


def test_a_host_that_reads_no_answers_is_not_read_either(served: Served) -> None:
    target = served.targets["finance"]
    with enter(served) as peer:
        peer.settimeout(0.2)
        asked = read(0, 1 << 20) * 100_000
        with pytest.raises(TimeoutError):
            peer.sendall(asked)
        assert target.pool.most <= served.listener.budget.share
        with enter(served) as other:
            other.sendall(write(0, b"x" * 512))
            assert receive(other, 16) == SIMPLE_OK


def test_disconnect_closes_the_sockets_and_admit_opens_again(served: Served) -> None:
    peer, other = enter(served, "finance"), enter(served, "mail")
    emptied = threading.Event()

    def disconnect() -> None:
        served.exports.disconnect("finance", "a restore").when_finished(emptied.set)

    served.on_loop(disconnect)
    assert emptied.wait(10)
    assert peer.recv(1) == b""
    with connect(served) as refused:
        assert ask(refused, "finance") == wire.REPLY_ERROR_UNKNOWN
    served.on_loop(lambda: served.exports.admit("finance"))
    enter(served, "finance").close()
    other.sendall(write(0, bytes(4096)))
    assert receive(other, 16) == SIMPLE_OK
    peer.close()
    other.close()


def test_hosts_that_overstay_are_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second takes 20 ms here; a limit is set once somebody is to reach it, and nobody else."""
    monkeypatch.setattr(listener, "WATCH_SECONDS", 0.02)
    for limit in ("HANDSHAKE_SECONDS", "LINGER_SECONDS", "STALL_SECONDS"):
        monkeypatch.setattr(listener, limit, 1_000_000)
    with serve(tmp_path) as served:
        with connect(served) as silent:
            receive(silent, wire.GREETING.size)
            with monkeypatch.context() as soon:
                soon.setattr(listener, "HANDSHAKE_SECONDS", 3)
                assert silent.recv(1) == b"", "no handshake in time"
        monkeypatch.setattr(listener, "LINGER_SECONDS", 3)
        with enter(served) as deaf:
            deaf.sendall(read(0, 32 << 20) + request(wire.COMMAND_DISC))
            served.wait_until(lambda: served.listener.connections == 0)
        with enter(served) as patient, enter(served) as first, enter(served) as second:
            # Two hosts take all of the budget and stop in the middle of their payloads.
            for hoarder in (first, second):
                hoarder.sendall(write(0, bytes(32 << 20)) + write(0, bytes(32 << 20))[:512000])
                receive(hoarder, 16)
            with enter(served) as third, enter(served) as fourth:
                for hoarder in (third, fourth):
                    hoarder.sendall(write(0, bytes(32 << 20))[:512000])
                served.wait_until(lambda: served.listener.budget.used == 128 << 20)
                monkeypatch.setattr(listener, "STALL_SECONDS", 3)
                patient.sendall(write(0, bytes(4096)))
                assert receive(patient, 16) == SIMPLE_OK
