"""The handshake that readies a connection for the kernel, with our own server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.hosts.nbd import wire
from appliance.operators.kernel_disk.attachment import NotAdmitted, attach
from tests.hosts.nbd.served import Served, serve


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(tmp_path) as server:
        yield server


def test_a_volume_is_attached_with_what_the_kernel_must_know(served: Served) -> None:
    attachment = attach(served.socket, "mail")
    with attachment.socket:
        assert (attachment.size, attachment.block) == (64 << 20, 4096)
        assert attachment.server == os.getpid(), "who listens is known"
        wanted = wire.EXPORT_SEND_FLUSH | wire.EXPORT_SEND_FUA | wire.EXPORT_SEND_TRIM
        assert attachment.flags & wanted == wanted


def test_after_the_handshake_the_kernel_speaks_simple_replies(served: Served) -> None:
    with attach(served.socket, "finance").socket as connection:
        served.on_loop(lambda: served.targets["finance"].bytes.__setitem__(slice(3), b"abc"))
        request = (wire.REQUEST_MAGIC, 0, wire.COMMAND_READ, 7, 0, 512)
        connection.sendall(wire.REQUEST.pack(*request))
        answer = bytearray()
        while len(answer) < wire.SIMPLE_REPLY.size + 512:
            answer += connection.recv(4096)
    assert wire.SIMPLE_REPLY.unpack_from(answer) == (wire.SIMPLE_MAGIC, 0, 7)
    assert answer[wire.SIMPLE_REPLY.size :].startswith(b"abc\0")


def test_a_refusal_comes_with_its_words_and_who_refused(served: Served) -> None:
    served.on_loop(lambda: served.source.not_ready.add("finance"))
    with pytest.raises(NotAdmitted, match="for now") as refusal:
        attach(served.socket, "finance")
    assert refusal.value.server == os.getpid()


def test_where_nobody_listens_nobody_refuses(tmp_path: Path) -> None:
    with pytest.raises(NotAdmitted) as refusal:
        attach(tmp_path / "nbd.sock", "finance")
    assert refusal.value.server is None
