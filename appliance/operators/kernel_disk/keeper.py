"""Keeps a volume attached to the kernel while `cdpd` comes and goes, and not a moment longer.

Behind the kernel's device are hosts that do not speak NBD, whose caches believe what they saw last.
So the invariant is: **a device goes on over another connection only if the volume cannot have
become another one meanwhile.**  A `cdpd` that is there and yet sends its hosts away has a reason,
such as a restore; then, and when anything about the volume is not as it was, the device ends, I/O
fails, and whoever offers it takes it from its hosts.  Only a `cdpd` that went away itself is waited
for: nothing that it acknowledged is lost by that (DESIGN, section 4, rule 5).
"""

import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from appliance.operators.kernel_disk.attachment import Attachment, NotAdmitted

RETRY_SECONDS: Final = 0.5
"""Between two attempts; the kernel needs a moment, too, to see that its connection broke."""


class Disk(Protocol):
    """The kernel's side; each may raise OSError."""

    def connect(self, attachment: Attachment) -> None: ...

    def reconnect(self, attachment: Attachment) -> None: ...

    def disconnect(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Past:
    """What tells that a volume is not what it was, though it has the same name."""

    primary: str
    restore: str
    """When the restore began that runs, or that was the last job; empty if there is none."""
    restoring: bool


class Parted(Exception):
    """The device has ended; why, in words."""


class Keeper:
    """One volume on one device."""

    def __init__(
        self,
        attach: Callable[[], Attachment],
        disk: Disk,
        past: Callable[[], Past | None],
        patience: float,
    ) -> None:
        """`attach` raises NotAdmitted; `past` is the volume's now, None if nobody can be asked;
        `patience` in seconds."""
        self._attach = attach
        self._disk = disk
        self._past = past
        self._patience = patience

    def keep(self, on_attached: Callable[[], None]) -> None:
        """Attach the volume, say so, and stay until it must end; raises NotAdmitted, Parted or
        OSError, the device then being disconnected."""
        attachment = self._attach()
        try:
            past = self._past()
            if past is None or past.restoring:
                raise NotAdmitted("its state cannot be asked for", attachment.server)
            self._disk.connect(attachment)
            try:
                on_attached()
                while True:
                    _wait_for_end(attachment)
                    # Asked at once: if cdpd ends next, its successor has forgotten its jobs.
                    now = self._past()
                    if now is not None and not _same_past(past, now):
                        raise Parted("it is being restored")
                    following = self._follow(attachment, past)
                    attachment.socket.close()
                    attachment = following
            finally:
                self._disk.disconnect()
        finally:
            attachment.socket.close()

    def _follow(self, lost: Attachment, past: Past) -> Attachment:
        """Another connection to the same volume, in the hands of the kernel."""
        until = time.monotonic() + self._patience
        reason = ""
        while time.monotonic() < until:
            time.sleep(RETRY_SECONDS)
            try:
                found = self._attach()
            except NotAdmitted as refusal:
                reason = str(refusal)
                if refusal.server == lost.server:
                    raise Parted(f"cdpd has sent its hosts away: {reason}") from refusal
                now = self._past()
                if now is not None and now.restoring:
                    raise Parted("it is being restored") from refusal
                continue
            try:
                # Whatever happens to the volume from here on ends this connection, too.
                self._check_same(lost, found, past, self._past())
                self._disk.reconnect(found)
            except BaseException:
                found.socket.close()
                raise
            return found
        raise Parted(f"cdpd has not let it in for {self._patience:g} s: {reason}")

    def _check_same(
        self, lost: Attachment, found: Attachment, past: Past, now: Past | None
    ) -> None:
        """Raises Parted if what was found may be other than what was lost."""
        if found.server == lost.server:
            raise Parted("cdpd had sent its hosts away")
        if now is None:
            raise Parted("its state cannot be asked for")
        if (found.size, found.block, now.primary) != (lost.size, lost.block, past.primary):
            raise Parted("it is another volume")
        if not _same_past(past, now):
            raise Parted("it was restored")


def _same_past(past: Past, now: Past) -> bool:
    """Nothing was restored meanwhile, as far as a cdpd knows: a new one has forgotten its jobs."""
    return not now.restoring and now.restore in {"", past.restore}


def _wait_for_end(attachment: Attachment) -> None:
    """Until the server closes the connection; what it sends is the kernel's to read."""
    poll = select.poll()
    poll.register(attachment.socket, select.POLLRDHUP)
    poll.poll()
