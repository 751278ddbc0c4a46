"""A box whose network comes up after its service."""

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from appliance import events
from tests.service.service_process import BIN, MIB, Service

ADDRESS = "[::1]"
PORT = 10809


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """In a network of its own, of which not even loopback is up."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for tool in ("unshare", "nsenter", "ip", "nbdinfo"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    service = make_service()
    service.command = ["unshare", "--net", BIN / "cdpd"]
    service.disk("alpha", 8 * MIB)
    service.disk("beta", 64 * MIB)
    return service


def test_hosts_come_in_once_the_address_is_there(service: Service) -> None:
    with service.config.open("a") as settings:
        settings.write(f'[hosts]\nnbd_tcp = "{ADDRESS}:{PORT}"\n')
    service.start("alpha", "beta")
    (event,) = service.events(events.ADDRESS_ABSENT)
    assert event["fields"]["endpoint"] == f"{ADDRESS}:{PORT}"
    service.protect("finance", "alpha", "beta")
    with service.connect("finance") as local:
        local.write(0, bytes(512))

    assert service.process is not None
    inside = ("nsenter", f"--target={service.process.pid}", "--net")
    reached = (*inside, "nbdinfo", "--size", f"nbd://{ADDRESS}:{PORT}/finance")
    before = subprocess.run(reached, capture_output=True, timeout=30, check=False)
    assert before.returncode != 0
    subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True, timeout=30)
    now = subprocess.run(reached, capture_output=True, text=True, timeout=30, check=False)
    assert now.returncode == 0, now.stderr
    assert int(now.stdout) == service.status("finance")["size"]
    assert len(service.events(events.ADDRESS_ABSENT)) == 1
    service.stop()
