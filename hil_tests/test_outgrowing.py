"""A disk on another machine, and hosts that do not speak NBD: docs/outgrowing.md, carried out.

For a rig with a second machine (feature `far-machine`), which none of ours has yet: it was done
by hand in two guests."""

import shlex
from typing import Any

import pytest
from labgrid.driver import ExecutionError

from hil_tests.box import Box
from hil_tests.drivers.protocols import FarMachineProtocol
from hil_tests.host import Host

pytestmark = pytest.mark.lg_feature("far-machine")

FAR = "6a4f2f0e-8d7c-4c51-9a3e-2f7c0d9b1e11"
OUT = "0b1f7f3c-2f0e-4d55-8a53-7e5f0e5b8a01"
NAME = "nqn.2014-08.org.nvmexpress:uuid:"
FAR_DISK = "/dev/disk/by-id/nvme-Ebbtide_FINANCE0"


@pytest.fixture
def far(box: Box) -> Any:
    return box.driver(FarMachineProtocol)


def write(box: Box, path: str, *lines: str) -> None:
    """A file of settings on the box."""
    text = shlex.quote("".join(f"{line}\n" for line in lines))
    box.shell(f"mkdir -p $(dirname {path}) && printf %s {text} >{path}")


def own_name(machine: Any) -> str:
    """By which the other one lets it in."""
    return str(machine.shell("NQN= PATH=$PATH:/usr/lib/ebbtide remote-disk host")).strip()


@pytest.fixture
def secondary(box: Box, far: Any) -> str:
    """The other machine's disk, as the box knows it."""
    settings = f"NQN={NAME}{FAR} DEVICE={far.disk} SERIAL=FAR0 UUID={FAR} ADDRESS={far.address}"
    far.shell(f"blkdiscard -f {far.disk}; env {settings} HOSTS={own_name(box)} nvme-target offer")
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

    def found() -> str:
        disks = box.cdpctl("disks")["disks"]
        return next((str(disk["id"]) for disk in disks if disk["serial"] == "FAR0"), "")

    return str(box.until("the far disk is found", found))


def test_a_secondary_on_another_machine_outlives_its_link(
    box: Box, host: Host, far: Any, secondary: str, seed: int
) -> None:
    primary = box.disk(box.pair().primary)
    box.cdpctl(f"protect finance --primary {primary} --secondary {secondary} --yes")
    box.await_state("finance", "protected")
    load = host.load("finance", seed)
    load.await_writes(50)
    far.cut()
    box.await_state("finance", "tracking")
    load.await_writes(50)
    far.heal()
    box.await_state("finance", "protected")
    load.stop()
    assert load.failed == []
    (gap,) = box.cdpctl("timeline finance")["gaps"]
    assert gap["reason"] == "the secondary was away"
    assert box.verify("finance") == 0


@pytest.fixture
def offered(box: Box, far: Any) -> Any:
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
        "PATIENCE=400",
    )
    box.shell("systemctl start ebbtide-nvmet@finance", timeout=180)
    name = own_name(far)
    far.shell(
        f"nvme connect -t tcp -a {far.box_address} -s 4420 -n {NAME}{OUT}"
        f" --hostnqn={name} --hostid={name.rpartition(':')[2]} && udevadm settle"
    )
    return far


@pytest.mark.parametrize("end", ["restart", "kill --signal=KILL"])
def test_hosts_of_nvme_wait_for_a_cdpd_that_starts_anew(box: Box, offered: Any, end: str) -> None:
    offered.shell(
        f"fio --name=v --filename={FAR_DISK} --direct=1 --rw=randwrite --bs=4k --iodepth=8"
        " --ioengine=libaio --size=32M --io_size=4M --rate_iops=30 --fsync=50 --verify=crc32c"
        " --verify_fatal=1 >/tmp/fio.out 2>&1 & sleep 10"
    )
    box.shell(f"systemctl {end} cdpd", timeout=180)
    box.await_state("finance", "protected")
    offered.shell("while pgrep -x fio >/dev/null; do sleep 1; done", timeout=400)
    assert "err= 0" in offered.shell("cat /tmp/fio.out")
    assert box.verify("finance") == 0


def test_a_restore_takes_the_disk_from_hosts_of_nvme(box: Box, offered: Any) -> None:
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
