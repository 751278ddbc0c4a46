"""`cdpd --config FILE`: the data process of the appliance.

It holds the engine, the NBD server and the control socket, and nothing else.
SIGTERM and SIGINT take every volume out of service in order.
"""

import faulthandler
import logging
import signal
from pathlib import Path

import click

from appliance import __version__, events
from appliance.cdp.tasks import Task
from appliance.config import Settings, read_settings
from appliance.drivers.block_devices import BlockDevices
from appliance.drivers.clock import SystemClock
from appliance.drivers.discovery import Discovery
from appliance.drivers.disk_directory import DiskDirectory
from appliance.event_log import EventLog
from appliance.hosts.nbd import credentials
from appliance.hosts.nbd.credentials import Credentials
from appliance.hosts.nbd.guests import AllowList
from appliance.hosts.nbd.listener import Listener
from appliance.loop import Loop
from appliance.operators.control.server import ControlServer
from appliance.operators.program import config_option, program
from appliance.readiness import ALIVE, READY, STOPPING, alive_period, notify
from appliance.service.box import Box
from appliance.service.image import read_image
from appliance.service.watchdog import Watchdog

logger = logging.getLogger("cdpd")


@click.command()
@config_option()
@click.option("--check-config", is_flag=True, help="Read the settings, say what is wrong, stop.")
@click.version_option(__version__)
def main(config: Path, check_config: bool) -> None:
    """The service of the appliance."""
    with program("cdpd"):
        settings = read_settings(config)
        tls = settings.hosts.tls
        hosts_keys = credentials.load(tls) if tls is not None else None
        if not check_config:
            serve(settings, hosts_keys)


def serve(settings: Settings, hosts_keys: Credentials | None) -> None:
    """Run until a signal says stop; `hosts_keys` are those of NBD over TCP."""
    settings.service.runtime_dir.mkdir(parents=True, exist_ok=True)
    settings.service.state_dir.mkdir(parents=True, exist_ok=True)
    with Loop(on_error=lambda error: logger.error("a callback failed", exc_info=error)) as loop:
        clock = SystemClock()
        log = EventLog(settings.service.state_dir, clock.wall_ns, loop.offload, loop.after)
        image = read_image()
        box = Box(loop, clock, log, settings.protection, image)
        control = ControlServer(loop, settings.service.control_socket, box)  # no other is there
        listener = Listener(
            loop,
            box.exports,
            credentials=hosts_keys,
            allow=AllowList(settings.allow_list),
            emit=log.emit,
        )
        listener.listen_unix(settings.nbd_socket)
        endpoint = settings.nbd_endpoint
        if endpoint is not None:
            listener.listen_tcp(endpoint)
        discovery = _discovery(settings, loop, box)

        async def close() -> None:
            discovery.close()
            control.close()
            await listener.close()
            await box.close()

        def stop() -> None:
            notify(STOPPING)
            log.emit(events.SERVICE_STOPPED, reason="it was told to")
            Task(close()).when_finished(loop.stop)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.post_from_thread(stop))
        log.emit(events.SERVICE_STARTED, release=__version__)
        if image is not None and image.memory_only:
            log.emit(events.STATE_IN_MEMORY, reason=image.memory_only)
        notify(READY)
        _feed_watchdog(loop, clock, box, settings.protection.disk_deadline_seconds)
        loop.run()
        log.close()


def _feed_watchdog(loop: Loop, clock: SystemClock, box: Box, deadline: float) -> None:
    period = alive_period()
    if period is None:
        return
    # The manager ends by SIGABRT what it has not heard from; the journal then tells where it stood.
    faulthandler.enable()
    watchdog = Watchdog(
        loop, clock, box.bays.requests, deadline, period, lambda: notify(ALIVE), box.emit
    )
    watchdog.start()


def _discovery(settings: Settings, loop: Loop, box: Box) -> Discovery:
    directory = settings.disks.directory
    if directory is not None:
        return DiskDirectory(loop, box.bays, directory)
    return BlockDevices(loop, box.bays)
