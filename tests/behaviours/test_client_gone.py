"""Whoever asked for a change goes away in the middle of it: the change is made, and whole."""

import json
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest

from appliance.operators.control.messages import REQUEST_MAXIMUM
from tests.service.service_process import MIB, Service


def request(verb: str, **arguments: object) -> bytes:
    return json.dumps({"id": 1, "verb": verb, "args": arguments}).encode()


def say_and_go(service: Service, *lines: bytes) -> None:
    """Say it, and hang up before anything is answered."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(service.socket))
        client.sendall(b"".join(line + b"\n" for line in lines))


def ask_and_go(service: Service, verb: str, **arguments: object) -> None:
    say_and_go(service, request(verb, **arguments))


@pytest.mark.parametrize("hosts", [0, 1])
def test_a_release_and_a_protect(make_service: Callable[..., Service], hosts: int) -> None:
    service = make_service()
    service.disk("alpha", 8 * MIB)
    service.disk("beta", 64 * MIB)
    service.start("alpha", "beta")
    names = {"volume": "finance", "primary": "alpha", "secondary": "beta", "yes": True}

    def released(before: int) -> bool:
        return len(service.events("EV207")) > before

    for life in range(8):
        ask_and_go(service, "protect", **names)
        service.wait(lambda: bool(service.ask("status")["volumes"]), "the volume")
        service.until_state("finance", "protected")
        with ExitStack() as stay:
            for _ in range(hosts):  # they stay until they are sent away
                stay.enter_context(service.connect("finance")).write(0, b"x" * 4096)
            ask_and_go(service, "release", volume="finance", yes=True)
            service.wait(partial(released, life), "the release")
        assert not service.ask("status")["volumes"]
        assert {disk["state"] for disk in service.ask("disks")["disks"]} == {"free"}


def test_what_was_said_counts_although_no_answer_can_be_given(
    make_service: Callable[..., Service],
) -> None:
    """The service finds out by its first answer, with the release not read yet."""
    service = make_service()
    service.disk("alpha", 8 * MIB)
    service.disk("beta", 64 * MIB)
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    assert service.process is not None
    service.process.send_signal(signal.SIGSTOP)
    try:
        long = request("disks").ljust(REQUEST_MAXIMUM - 1)
        say_and_go(service, long, request("release", volume="finance", yes=True))
    finally:
        service.process.send_signal(signal.SIGCONT)
    service.wait(lambda: bool(service.events("EV207")), "the release")
