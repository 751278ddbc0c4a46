"""A disk on another machine, and hosts that do not speak NBD: docs/outgrowing.md, carried out."""

import shlex
from typing import Any

import pytest
from labgrid.driver import ExecutionError

from hil_tests.accidents import judge, judge_points
from hil_tests.box import Box
from hil_tests.disk_host import DiskHost
from hil_tests.drivers.protocols import FarMachineProtocol
from hil_tests.host import Host

pytestmark = pytest.mark.lg_feature("far-machine")

FAR = "6a4f2f0e-8d7c-4c51-9a3e-2f7c0d9b1e11"
OUT = "0b1f7f3c-2f0e-4d55-8a53-7e5f0e5b8a01"
NAME = "nqn.2014-08.org.nvmexpress:uuid:"
FAR_DISK = "/dev/disk/by-id/nvme-Ebbtide_FINANCE0"
PATIENCE = 400
"""Seconds for which hosts of NVMe wait for cdpd: Python is slow to start under TCG."""


def write(box: Box, path: str, *lines: str) -> None:
    """A file of settings on the box."""
    text = shlex.quote("".join(f"{line}\n" for line in lines))
    box.shell(f"mkdir -p $(dirname {path}) && printf %s {text} >{path}")


def own_name(machine: Any) -> str:
    """By which the other one lets it in."""
    return str(machine.shell("NQN= remote-disk host")).strip()


def far_disk(box: Box) -> str:
    """The other machine's disk, as the box knows it; empty if it does not."""
    disks = box.ask("disks")["disks"]
    return next((str(disk["id"]) for disk in disks if disk["serial"] == "FAR0"), "")


@pytest.fixture
def secondary(box: Box, far: FarMachineProtocol) -> str:
    """The other machine's disk, offered to the box, which has found it."""
    settings = f"NQN={NAME}{FAR} DEVICE={far.disk} SERIAL=FAR0 UUID={FAR} ADDRESS={far.address}"
    far.shell(f"env {settings} HOSTS={own_name(box)} nvme-target offer")
    write(
        box,
        "/etc/udev/rules.d/61-ebbtide-far.rules",
        f'ENV{{ID_WWN}}=="uuid.{FAR}", ENV{{EBBTIDE_BAY}}="1"',
    )
    write(
        box,
        "/etc/ebbtide/remote-disks/far.conf",
        f"NQN={NAME}{FAR}",
        f"ADDRESS={far.address}",
    )
    box.shell("udevadm control --reload; systemctl start ebbtide-remote-disk@far")
    return str(box.until("the far disk is found", lambda: far_disk(box)))


def test_a_secondary_on_another_machine_outlives_its_link(
    box: Box, host: Host, far: FarMachineProtocol, secondary: str, seed: int
) -> None:
    primary = box.disk(box.pair().primary)
    box.cdpctl(f"protect finance --primary {primary} --secondary {secondary} --yes")
    box.await_state("finance", "protected")
    before = box.volume("finance")["write_number"]
    load = host.load("finance", seed)
    load.await_writes(50)
    far.cut()
    box.await_state("finance", "tracking")
    box.until("the far disk is gone", lambda: not far_disk(box))
    load.await_writes(50)
    far.heal()
    box.await_state("finance", "protected")
    load.await_writes(20)
    oracle = load.stop()
    assert load.failed == []
    (gap,) = box.cdpctl("timeline finance")["gaps"]
    assert gap["reason"] == "the secondary was away"
    judge(box, host, "finance", oracle, before, points=False)
    judge_points(box, host, "finance", oracle, before, gap["from_write"] - 1 - before)


@pytest.fixture
def offered(box: Box, far: FarMachineProtocol) -> FarMachineProtocol:
    """The volume `finance` on the other machine, over NVMe/TCP; that machine."""
    box.protect("finance", box.pair())
    write(
        box,
        "/etc/ebbtide/nvmet/finance.conf",
        f"NQN={NAME}{OUT}",
        "DEVICE=/dev/nbd0",
        f"HOSTS={own_name(far)}",
        "SERIAL=FINANCE0",
        f"ADDRESS={far.box_address}",
        f"PATIENCE={PATIENCE}",
    )
    box.shell("systemctl start ebbtide-nvmet@finance", timeout=180)
    name = own_name(far)
    far.shell(
        f"nvme connect -t tcp -a {far.box_address} -s 4420 -n {NAME}{OUT}"
        f" --hostnqn={name} --hostid={name.rpartition(':')[2]} && udevadm settle"
    )
    box.until("the host has its disk", lambda: far.shell(f"ls {FAR_DISK}"))
    return far


def test_a_killed_cdp_kernel_disk_is_followed_by_another(
    box: Box, offered: FarMachineProtocol
) -> None:
    unit = "ebbtide-nvmet@finance"
    box.shell(f"systemctl kill --kill-whom=main --signal=KILL {unit}")
    again = (
        f"[ $(systemctl show -P NRestarts {unit}) -gt 0 ] && systemctl is-active --quiet {unit}"
        " && echo yes"
    )
    box.until("the disk is offered again", lambda: box.shell(again))
    write = f"dd if=/dev/urandom of={FAR_DISK} bs=4k count=64 oflag=direct conv=nocreat,fsync 2>&1"
    box.until("the host has a disk again", lambda: offered.shell(write))
    assert box.verify("finance") == 0


@pytest.mark.parametrize("end", ["kill --signal=KILL", "restart"])
def test_hosts_of_nvme_wait_for_a_cdpd_that_starts_anew(
    box: Box, offered: FarMachineProtocol, end: str, seed: int
) -> None:
    host = DiskHost(offered.shell, FAR_DISK, seed)
    box.until("the host writes", lambda: host.writes > 50)
    box.shell(f"systemctl {end} cdpd", timeout=180)
    written = host.writes
    box.until("the host goes on", lambda: host.writes > written + 50, timeout=PATIENCE)
    box.await_state("finance", "protected")
    told = host.stop(timeout=180)
    assert (told.errors, told.wrong) == ([], [])
    assert box.verify("finance") == 0


def test_a_restore_takes_the_disk_from_hosts_of_nvme(box: Box, offered: FarMachineProtocol) -> None:
    node = offered.shell(f"readlink -f {FAR_DISK}").strip()
    offered.shell(f"dd if=/dev/urandom of={node} bs=4k count=64 oflag=direct conv=fsync")
    box.cdpctl("snapshot finance before")
    offered.shell(f"dd if=/dev/zero of={node} bs=4k count=64 oflag=direct conv=fsync")
    # Whoever has it open, as a mounted file system has, keeps the old one.
    offered.shell(f"sleep 1000 9<>{node} &")
    box.cdpctl("restore finance --to snapshot:before --yes --wait", timeout=300)
    with pytest.raises(ExecutionError):
        offered.shell(f"dd if=/dev/zero of={node} bs=4k count=1 oflag=direct")
    assert box.verify("finance") == 0
