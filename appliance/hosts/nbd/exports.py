"""Which names hosts may connect to, and who is connected.

Names are resolved by the service (`ExportSource`): a volume's own, read-write,
and `VOLUME@POINT` for a view.  A name is opened once and shared by all its
connections, so that a point given relative to now means the same to each of
them; it is closed with the last.

What does not serve now refuses every new connection with a reason, also where
others still hold it, who go on with what can be had.  It is not on the list:
clients that list (`qemu-nbd --list`) ask about each name, and give up on all of
them at the first refusal.  It still counts when a host names none, or such a
host would be given another volume than the day before.

`disconnect` empties an export and keeps it empty until `admit`: a restore must
know that no host has anything in flight, and that none comes back too early.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from appliance.cdp.interfaces import HostTarget
from appliance.cdp.tasks import Completion
from appliance.errors import EbbtideError, HostNotAllowed, VolumeNotFound, VolumeNotReady
from appliance.hosts.nbd.guests import ANYBODY, Guest
from appliance.hosts.nbd.wire import printable


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Export:
    """What stands behind a name.

    `can_multi_conn`: a FLUSH on one connection covers what was completed on
    all of them.  `fast_zero`: zeroing costs next to nothing; otherwise a host
    that asks for fast zeroing is told so at once.  `on_open` and `on_close`
    are called once for each connection, `on_close` when nothing of it is in
    flight any more.
    """

    name: str
    description: str
    target: HostTarget
    can_multi_conn: bool = True
    fast_zero: bool = False
    on_open: Callable[[], None] = _nothing
    on_close: Callable[[], None] = _nothing


class ExportSource(Protocol):
    """What the service gives the NBD server."""

    def names(self) -> list[tuple[str, str]]:
        """Name and description of each export that there is."""
        ...

    def check(self, name: str) -> None:
        """Raises an `EbbtideError` if there is an export of that name that does not serve now."""
        ...

    def open(self, name: str) -> Completion[Export]:
        """The export of that name; fails with an `EbbtideError` if there is none."""
        ...


@dataclass(eq=False, slots=True)
class _Entry:
    """An export that is open or being opened."""

    opening: Completion[Export]
    leases: "dict[Lease, None]" = field(default_factory=dict)
    arriving: int = 0
    """Connections that wait for the opening."""


class Lease:
    """One connection's hold on an export."""

    __slots__ = ("export", "disconnect", "_release")

    def __init__(
        self, export: Export, disconnect: Callable[[], None], release: "Callable[[Lease], None]"
    ) -> None:
        self.export = export
        self.disconnect = disconnect
        """Asks the connection to finish what is in flight and go."""
        self._release = release

    def release(self) -> None:
        """The connection has nothing in flight and is gone; call once."""
        self._release(self)


class Exports:
    """The names, who holds them, and which are closed to hosts."""

    def __init__(self, source: ExportSource) -> None:
        self._source = source
        self._entries: dict[str, _Entry] = {}
        self._closed: dict[str, str] = {}
        self._emptied: dict[str, list[Completion[None]]] = {}

    def names(self, guest: Guest = ANYBODY) -> list[tuple[str, str]]:
        """Name and description of each export that a host is shown: it can connect to it."""
        return [
            (name, text)
            for name, text in self._source.names()
            if guest.may_use(name) and self._is_admitted(name)
        ]

    def find(
        self, name: str, disconnect: Callable[[], None], guest: Guest = ANYBODY
    ) -> Completion[Lease]:
        """A hold on the export called `name`; the empty name is the only one there is for the host.

        Fails with an `EbbtideError` if there is none, it is not for this host, or closed to hosts.
        """
        found: Completion[Lease] = Completion()
        shown = [] if name else [known for known, _ in self._source.names() if guest.may_use(known)]
        if len(shown) == 1:
            name = shown[0]
        try:
            if not guest.may_use(name):
                raise HostNotAllowed(export=printable(name) or "any export")
            if not name:
                raise VolumeNotFound(volume="'' (name one)")
            self.check(name)
        except EbbtideError as error:
            found.fail(error)
            return found
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry(self._source.open(name))
        entry.arriving += 1
        entry.opening.when_finished(lambda: self._opened(name, entry, disconnect, found))
        return found

    def disconnect(self, name: str, reason: str) -> Completion[None]:
        """Send the hosts of an export away and refuse new ones, until `admit`.

        Completes when its connections are closed and nothing is in flight.
        `reason` is what refused hosts are told.
        """
        emptied: Completion[None] = Completion()
        self._closed[name] = reason
        entry = self._entries.get(name)
        if entry is None:
            emptied.succeed(None)
        else:
            self._emptied.setdefault(name, []).append(emptied)
            for lease in list(entry.leases):
                lease.disconnect()
        return emptied

    def admit(self, name: str) -> None:
        """Hosts may connect again."""
        self._closed.pop(name, None)

    def connections(self, name: str) -> int:
        """How many connections hold the export now."""
        entry = self._entries.get(name)
        return len(entry.leases) if entry is not None else 0

    def check(self, name: str) -> None:
        """Raises an `EbbtideError` if the export is closed to hosts, or does not serve now."""
        if name in self._closed:
            raise VolumeNotReady(volume=name, state="closed to hosts", reason=self._closed[name])
        self._source.check(name)

    def _is_admitted(self, name: str) -> bool:
        try:
            self.check(name)
        except EbbtideError:
            return False
        return True

    def _opened(
        self, name: str, entry: _Entry, disconnect: Callable[[], None], found: Completion[Lease]
    ) -> None:
        entry.arriving -= 1
        try:
            export = entry.opening.result()
        except Exception as error:
            self._forget_if_unused(name, entry)
            found.fail(error)
            return
        lease = Lease(export, disconnect, lambda lease: self._released(name, entry, lease))
        entry.leases[lease] = None
        export.on_open()
        try:
            self.check(name)
        except EbbtideError as error:
            lease.release()
            found.fail(error)
            return
        found.succeed(lease)

    def _released(self, name: str, entry: _Entry, lease: Lease) -> None:
        del entry.leases[lease]
        lease.export.on_close()
        self._forget_if_unused(name, entry)

    def _forget_if_unused(self, name: str, entry: _Entry) -> None:
        if entry.leases or entry.arriving:
            return
        del self._entries[name]
        for emptied in self._emptied.pop(name, []):
            emptied.succeed(None)
