"""The service as a user of its own: the disks that udev gives it, and nobody else's."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.media import LoopDisk, Media, wait_for
from tests.service.own_user import (
    DISKS,
    GROUP,
    STRANGER,
    USER,
    UnprivilegedService,
    program,
    python,
    run_as,
    unprivileged_service,
)
from tests.service.service_process import MIB

RULES = Path(__file__).parents[2] / "firmware_config" / "udev" / "62-ebbtide-disks.rules"
RUNTIME_RULES = Path("/run/udev/rules.d")


def udevadm(*words: str) -> None:
    subprocess.run(["udevadm", *words], check=True, capture_output=True, timeout=30)


@pytest.fixture
def bays(media: Media, tmp_path: Path) -> Iterator[None]:
    """Loop devices on files of this test that are called `…-bay-…` are in a bay.

    The rules are those that are delivered, with a group that this machine need not know.
    """
    written = {
        f"61-ebbtide-bays-{os.getpid()}.rules": 'KERNEL=="loop*",'
        f' ATTR{{loop/backing_file}}=="{tmp_path}/*-bay-*", ENV{{EBBTIDE_BAY}}="1"\n',
        f"62-ebbtide-disks-{os.getpid()}.rules": RULES.read_text().replace(
            'GROUP="cdp-disks"', f'GROUP="{DISKS}"'
        ),
    }
    there = RUNTIME_RULES.exists()
    RUNTIME_RULES.mkdir(parents=True, exist_ok=True)
    try:
        for name, text in written.items():
            (RUNTIME_RULES / name).write_text(text)
        udevadm("control", "--reload")
        yield
    finally:
        for name in written:
            (RUNTIME_RULES / name).unlink(missing_ok=True)
        if not there:
            RUNTIME_RULES.rmdir()
        udevadm("control", "--reload")
        udevadm("settle")  # what a service lets go of is looked at once more, by the old rules yet
        # The nodes of loop devices stay, and udev takes back no group that it has given.
        for node in Path("/dev").glob("loop[0-9]*"):
            if node.stat().st_gid == DISKS:
                os.chown(node, 0, 0)


@pytest.fixture
def service() -> Iterator[UnprivilegedService]:
    with unprivileged_service("udev") as service:
        yield service


def owner(disk: LoopDisk) -> tuple[int, int]:
    """Group and mode of the disk's node."""
    assert disk.node is not None
    status = disk.node.stat()
    return status.st_gid, status.st_mode & 0o777


def status_of(process: int, key: str) -> list[str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{key}:"))


def test_it_protects_writes_and_restores(
    media: Media, bays: None, service: UnprivilegedService
) -> None:
    alpha, beta = media.loop("bay-alpha", 8 * MIB), media.loop("bay-beta", 128 * MIB)
    wait_for(lambda: owner(alpha) == owner(beta) == (DISKS, 0o660), "udev's rules")
    service.start(alpha.id, beta.id)
    assert service.process is not None
    assert set(status_of(service.process.pid, "Uid")) == {str(USER)}
    assert int(status_of(service.process.pid, "CapEff")[0], 16) == 0
    service.protect("finance", alpha.id, beta.id)
    first, second = (random.Random(seed).randbytes(1 * MIB) for seed in (1, 2))
    with service.connect("finance") as client:
        client.write(0, first)
        service.ask("snapshot", volume="finance", name="first")
        client.write(0, second)
        client.flush()
    service.ask("restore", volume="finance", to="snapshot:first", yes=True, wait=True)
    assert service.contents("finance")[:MIB] == first
    service.stop()
    service.start(alpha.id, beta.id)
    assert service.until_state("finance", "protected")
    assert service.contents("finance")[:MIB] == first


def test_a_disk_that_arrives_is_had_through_its_group(
    media: Media, bays: None, service: UnprivilegedService
) -> None:
    alpha, beta = media.loop("bay-alpha", 8 * MIB), media.loop("bay-beta", 64 * MIB)
    service.start(alpha.id, beta.id)
    service.protect("finance", alpha.id, beta.id)
    beta.pull()
    service.until_state("finance", "tracking")
    beta.attach()
    service.until_state("finance", "protected")
    assert owner(beta) == (DISKS, 0o660)


def test_other_disks_are_closed_to_it(
    media: Media, bays: None, service: UnprivilegedService
) -> None:
    alpha, other = media.loop("bay-alpha", 8 * MIB), media.loop("other", 64 * MIB)
    udevadm("settle")
    assert owner(other)[0] != DISKS
    service.start(alpha.id)
    assert other.id not in {disk["id"] for disk in service.ask("disks")["disks"]}
    code, error, _ = service.refused(
        "protect", volume="finance", primary=alpha.id, secondary=other.id, yes=True, wipe=other.id
    )
    assert (code, error) == (1, "EB101")
    told = [event["fields"].get("disk") for event in service.ask("events", limit=4096)["events"]]
    assert other.id not in told, "nobody was bothered with a disk that is not ours"
    assert other.node is not None
    tried = run_as(USER, "dd", f"if={other.node}", "of=/dev/null", "count=1", groups=(DISKS,))
    assert "Permission denied" in tried.stderr


def test_a_disk_in_service_stays_though_it_is_taken_off_the_list_of_bays(
    media: Media, bays: None, service: UnprivilegedService
) -> None:
    alpha, beta = media.loop("bay-alpha", 8 * MIB), media.loop("bay-beta", 64 * MIB)
    service.start(alpha.id, beta.id)
    service.protect("finance", alpha.id, beta.id)
    assert alpha.node is not None
    os.chown(alpha.node, 0, 0)
    service.ask("disks")
    assert service.status("finance")["state"] == "protected"
    with service.connect("finance") as client:
        client.write(0, b"x" * 4096)


def test_what_this_system_runs_from_is_never_given_away(
    media: Media, bays: None, tmp_path: Path
) -> None:
    """A slip in the list of bays: a mounted disk is in a place that is called a bay."""
    disk = media.loop("bay-system", 8 * MIB)
    wait_for(lambda: owner(disk)[0] == DISKS, "udev's rules")
    node = disk.node
    assert node is not None
    subprocess.run(["mke2fs", "-q", node], check=True, capture_output=True, timeout=30)
    udevadm("settle")  # what it was then, no event that comes late shall bring back
    place = tmp_path / "mounted"
    place.mkdir()
    look_again = ("trigger", "--action=change", "--settle", f"/sys/block/{node.name}")
    subprocess.run(["mount", node, place], check=True, timeout=30)
    try:
        os.chown(node, 0, 0)  # as it is when the machine has just started
        udevadm(*look_again)
        assert owner(disk)[0] != DISKS
    finally:
        subprocess.run(["umount", place], check=True, timeout=30)
    udevadm(*look_again)
    assert owner(disk)[0] == DISKS


@pytest.fixture
def quiet() -> Iterator[UnprivilegedService]:
    """A service without disks, running."""
    with unprivileged_service("directory") as service:
        service.start()
        yield service


def cdpctl(
    service: UnprivilegedService, user: int, *words: str, groups: tuple[int, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    return run_as(user, *program("cdpctl"), "--socket", service.socket, *words, groups=groups)


def test_who_is_not_in_the_group_has_no_say(quiet: UnprivilegedService) -> None:
    for words in (("status",), ("release", "finance", "--yes")):
        done = cdpctl(quiet, STRANGER, *words)
        assert done.returncode == 3
        assert "EB631" in done.stderr
        assert "group cdp" in done.stderr
    reach = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    for door in (quiet.socket, quiet.nbd):
        done = run_as(STRANGER, *python(reach), door)
        assert "PermissionError" in done.stderr
    for kept in ("state", "state/events.jsonl"):
        done = run_as(STRANGER, "cat", quiet.room / kept)
        assert "ermission denied" in done.stderr


def test_who_is_in_the_group_has_and_is_written_down(quiet: UnprivilegedService) -> None:
    assert cdpctl(quiet, STRANGER, "status", groups=(GROUP,)).returncode == 0
    assert cdpctl(quiet, STRANGER, "release", "finance", "--yes", groups=(GROUP,)).returncode == 1
    (asked,) = quiet.events("EV903")
    assert asked["actor"] == f"uid {STRANGER}"
