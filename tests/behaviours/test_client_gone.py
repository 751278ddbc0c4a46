"""Whoever asked for a change goes away in the middle of it: the change is made, and whole."""

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest

from tests.service.service_process import MIB, Service


def ask_and_go(service: Service, verb: str, **arguments: object) -> None:
    """Say it, and hang up before anything is answered."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(service.socket))
        request = {"id": 1, "verb": verb, "args": arguments}
        client.sendall(json.dumps(request).encode() + b"\n")


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
