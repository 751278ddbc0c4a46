"""`cdp-kernel-disk --config FILE VOLUME nbdN`: a volume as a block device of this machine's kernel.

For what offers block devices to hosts that do not speak NBD, such as the kernel's own NVMe/TCP
target.  A process of its own, since it needs CAP_SYS_ADMIN and cdpd does not.  It stays until it is
told to end, or the volume must not go on; the device is disconnected then.
"""

import contextlib
import signal
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from appliance import __version__
from appliance.config import Settings, read_settings
from appliance.errors import NotAKernelDisk, ServiceUnreachable
from appliance.operators.answers import StatusAnswer
from appliance.operators.control.client import ControlClient, Refused
from appliance.operators.kernel_disk.attachment import NotAdmitted, attach
from appliance.operators.kernel_disk.keeper import Keeper, Parted, Past
from appliance.operators.kernel_disk.kernel import KernelDisk
from appliance.operators.program import config_option, program
from appliance.readiness import READY, notify

ASKING_SECONDS: Final = 5.0


def past_of(control_socket: Path, volume: str) -> Past | None:
    """The volume's, as far as cdpd tells it."""
    try:
        with ControlClient(control_socket, seconds=ASKING_SECONDS) as client:
            answer = client.request("status", {"volume": volume})
        status = msgspec.convert(answer, StatusAnswer)
    except (ServiceUnreachable, Refused, msgspec.ValidationError):
        return None
    found = [each for each in status.volumes if each.name == volume]
    if not found:
        return None
    jobs = [job for job in (found[0].job, found[0].last_job) if job and job.kind == "restore"]
    return Past(
        primary=found[0].primary.id if found[0].primary else "",
        restore=jobs[0].started if jobs else "",
        restoring=found[0].state == "restoring",
    )


def keep(settings: Settings, volume: str, device: str, patience: float) -> None:
    """Until a signal; raises NotAKernelDisk."""
    control_socket = settings.service.control_socket
    try:
        with contextlib.closing(KernelDisk(device, patience)) as disk:
            keeper = Keeper(
                lambda: attach(settings.nbd_socket, volume),
                disk,
                lambda: past_of(control_socket, volume),
                patience,
            )
            keeper.keep(lambda: notify(READY))
    except (OSError, ValueError, NotAdmitted, Parted) as error:
        raise NotAKernelDisk(volume=volume, device=device, reason=str(error)) from error


@click.command()
@config_option()
@click.option(
    "--patience",
    type=click.FloatRange(1, 3600),
    default=120.0,
    show_default=True,
    help="For so many seconds, I/O waits while cdpd is away.",
)
@click.argument("volume")
@click.argument("device")
@click.version_option(__version__)
def main(config: Path, patience: float, volume: str, device: str) -> None:
    """Attach VOLUME to this machine's kernel as DEVICE, such as nbd0."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with program("cdp-kernel-disk"):
        keep(read_settings(config), volume, device.removeprefix("/dev/"), patience)
