"""`cdp-exporter --config FILE`: figures for Prometheus, over HTTP.

A client of the control socket, of a user of its own and without a disk.  It
only asks; a scrape of `/metrics` is what makes it ask, so it idles for nothing.
"""

import asyncio
import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import click
import msgspec
from prometheus_client.exposition import choose_encoder

from appliance import __version__
from appliance.config import Settings, read_settings
from appliance.errors import CannotListen, EbbtideError
from appliance.operators.control.client import Refused
from appliance.operators.exporter.metrics import Metrics
from appliance.operators.exporter.reading import Reading, Watcher
from appliance.operators.exporter.scrapes import ScrapeServer
from appliance.operators.program import config_option, program

SHARED_SECONDS: Final = 1.0
"""Scrapes within so long of a look share it: however many there are, the service is asked once a
second."""
_log = logging.getLogger("ebbtide.exporter")


class Exporter:
    """Answers scrapes from looks at the service, one look at a time, beside the event loop."""

    def __init__(self, watcher: Watcher, threads: ThreadPoolExecutor) -> None:
        self._watcher = watcher
        self._threads = threads
        self._looking: asyncio.Task[None] | None = None
        self._looked = float("-inf")
        self._reading: Reading | None = None
        self._trouble = ""

    async def answer(self, accepted: str) -> tuple[bytes, str]:
        """The body of a scrape, and its type."""
        if self._looking is None and time.monotonic() - self._looked > SHARED_SECONDS:
            self._looking = asyncio.create_task(self._look_again())
        if self._looking is not None:
            # Whoever asked may leave; the others wait for the same look.
            await asyncio.shield(self._looking)
        encode, content_type = choose_encoder(accepted)
        return encode(Metrics(self._reading)), content_type

    async def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._reading = await loop.run_in_executor(self._threads, self._look)
            self._looked = time.monotonic()
        finally:
            self._looking = None

    def _look(self) -> Reading | None:
        trouble, reading = "", None
        try:
            reading = self._watcher.look()
        except (EbbtideError, Refused, msgspec.ValidationError) as error:
            trouble = str(error)
        if trouble != self._trouble:  # told once, not at every scrape
            _log.warning("%s", trouble or "cdpd answers again")
        self._trouble = trouble
        return reading


async def serve(settings: Settings) -> None:
    """Until a signal says stop; raises CannotListen."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    with ThreadPoolExecutor(1, thread_name_prefix="look") as threads:
        exporter = Exporter(Watcher(settings.service.control_socket), threads)
        server = ScrapeServer(exporter.answer)
        try:
            endpoint = await server.start(settings.exporter_endpoint)
        except OSError as error:
            raise CannotListen(
                endpoint=settings.exporter_endpoint, reason=error.strerror or str(error)
            ) from error
        _log.info("metrics are at http://%s/metrics", endpoint)
        await stopped.wait()
        await server.close()


@click.command()
@config_option()
@click.version_option(__version__)
def main(config: Path) -> None:
    """Metrics of the appliance for Prometheus."""
    with program("cdp-exporter"):
        asyncio.run(serve(read_settings(config)))
