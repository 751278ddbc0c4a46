"""`cdp-console --config FILE [--device PATH]`: the appliance on a serial line.

A process of its own for each line, a client of the control socket without
access to disks.  `--set-password` reads the new password from standard input.
"""

import getpass
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import click

from appliance import __version__
from appliance.config import Settings, read_settings
from appliance.drivers.serial_line import SerialLine
from appliance.errors import BadSettings, PasswordUnfit
from appliance.loop import Loop
from appliance.operators.access.lockout import Lockout
from appliance.operators.access.passwords import FixedPassword, KeptPassword, Passwords
from appliance.operators.console.attendant import Attendant
from appliance.operators.console.clerk import Clerk
from appliance.operators.console.conversation import Manner
from appliance.operators.console.machine import Console
from appliance.operators.console.pacing import Pacer
from appliance.operators.console.session import make_session
from appliance.operators.program import config_option, program

logger = logging.getLogger("ebbtide.console")


@click.command()
@config_option()
@click.option(
    "--device",
    type=click.Path(path_type=Path),
    help="The serial line; without it, that of the settings.",
)
@click.option("--set-password", is_flag=True, help="Read a new password, keep it, stop.")
@click.version_option(__version__)
def main(config: Path, device: Path | None, set_password: bool) -> None:
    """The serial console of the appliance."""
    with program("cdp-console"):
        settings = read_settings(config)
        if set_password:
            _set_password(_passwords(settings))
        else:
            serve(settings, _device(settings, device))


def serve(settings: Settings, device: Path) -> None:
    """Run until a signal says stop."""
    passwords = _passwords(settings)
    lockout = Lockout(settings.service.state_dir / "console" / f"{device.name}.failures")
    manner = Manner()
    title = f"Ebbtide on {socket.gethostname()}, line {device.name}"
    console = Console(
        make_session(passwords, lockout, title, manner), manner, settings.console.idle_seconds
    )
    baud = settings.console.baud
    with Loop(on_error=lambda error: logger.error("a callback failed", exc_info=error)) as loop:

        def answered(number: int, reply: dict[str, Any] | Exception) -> None:
            loop.post_from_thread(lambda: attendant.answered(number, reply))

        def progressed(number: int, job: dict[str, Any]) -> None:
            loop.post_from_thread(lambda: attendant.progressed(number, job))

        clerk = Clerk(
            settings.service.control_socket, f"console {device.name}", answered, progressed
        )
        attendant = Attendant(loop, console, clerk, lambda: SerialLine(device, baud), Pacer(baud))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.stop())
        attendant.start()
        try:
            loop.run()
        finally:
            attendant.close()
            clerk.close()


def _device(settings: Settings, device: Path | None) -> Path:
    if device is not None:
        return device.absolute()
    if not settings.console.device:
        raise BadSettings(reason="console.device: no serial line is named, here or by --device")
    return Path(settings.console.device)


def _passwords(settings: Settings) -> Passwords:
    if not settings.console.password_hash:
        return KeptPassword(settings.service.state_dir / "console" / "password")
    try:
        return FixedPassword(settings.console.password_hash)
    except ValueError as error:
        raise BadSettings(reason=f"console.password_hash: {error}") from None


def _set_password(passwords: Passwords) -> None:
    """Raises PasswordUnfit."""
    if sys.stdin.isatty():
        password = getpass.getpass("New password: ")
        if password != getpass.getpass("New password again: "):
            raise PasswordUnfit(reason="the two were not the same")
    else:
        password = sys.stdin.readline().removesuffix("\n")
    try:
        passwords.change(password)
    except OSError as error:
        raise PasswordUnfit(reason=f"it cannot be kept: {error.strerror}") from None
