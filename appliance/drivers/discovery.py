"""Which disks are attached, and what comes and goes.

Two sources find disks: `block_devices` (the kernel's, through udev) and
`disk_directory` (files).  Both work the same way: something stirs, the source
looks at everything there is, and the difference to the last look is told to
the listener.  An event itself is never believed, so a lost one costs time and
not truth.

Invariants:

* A disk is known by its id, which comes from its label and never from the
  kernel's name for it.  Two attached disks with one id are never mixed up: the
  one that was known first stays, the other is told as in use; if neither was,
  both are.
* A disk that went and came back between two looks is told as disappeared and
  appeared, since what was open on it is dead.
* A foreign disk is not told at all.  One that becomes foreign stays, in use by others: a slip in
  the list of bays, while it serves, is no reason to stop its hosts.
* No disk is opened here.  One that the machine itself uses, or that cannot be
  told from others, says so in `in_use`; only a disk without is free to open.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from appliance.cdp.interfaces import DiskIdentity, Post
from appliance.cdp.tasks import Completion

SETTLE_SECONDS: Final = 0.1
"""Events come in showers; a look waits that long for the rest of one."""

_Key = tuple[str, str, str]
"""One attachment of one disk: node, incarnation, id."""


@dataclass(frozen=True, slots=True)
class FoundDisk:
    """An attached disk, as far as it can be told without opening it.

    `size` in bytes.  `incarnation` differs between two attachments of the same
    disk.  `in_use` says why it must not be opened, None if it may be.  It is
    `foreign` if it is not the appliance's to look at.  The blocks of a file are
    told as those of the commonest disk; the opened disk knows better.
    """

    identity: DiskIdentity
    size: int
    logical_block: int
    physical_block: int
    incarnation: str
    in_use: str | None = None
    foreign: bool = False


class Listener(Protocol):
    """Who is told; called on the loop's thread."""

    def disk_appeared(self, disk: FoundDisk) -> None: ...

    def disk_disappeared(self, disk: FoundDisk) -> None:
        """`disk` as it was told last."""
        ...

    def disk_changed(self, disk: FoundDisk) -> None:
        """Its size, blocks or `in_use` are others than before."""
        ...


class Discovery:
    """Looks with `find` beside the loop: now, every `period` seconds, and when it is stirred.

    `find` gives every attached disk; it runs on another thread and opens none.
    An error that it raises ends that look, and goes to whoever waits for it or
    to the loop's handler of errors; the next look is a fresh attempt.
    """

    def __init__(
        self,
        loop: Post,
        listener: Listener,
        find: Callable[[], list[FoundDisk]],
        period: float,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._find = find
        self._period = period
        self._known: dict[_Key, FoundDisk] = {}
        self._doubtful: set[_Key] = set()
        """Those that share their id with another, and are not the one known first."""
        self._waiting: list[Completion[list[FoundDisk]]] = []
        self._looking = False
        self._stirred = False
        self._closed = False
        self._timer = loop.after(0, self._look_again)

    @property
    def disks(self) -> list[FoundDisk]:
        """All attached disks, as of the last look."""
        return list(self._known.values())

    def look(self) -> Completion[list[FoundDisk]]:
        """Look now; what changed is told to the listener first."""
        completion: Completion[list[FoundDisk]] = Completion()
        self._waiting.append(completion)
        self._start()
        return completion

    def stir(self) -> None:
        """Something may have changed: look soon."""
        if not self._stirred and not self._closed:
            self._stirred = True
            self._timer.cancel()
            self._timer = self._loop.after(SETTLE_SECONDS, self._look_again)

    def close(self) -> None:
        """Tell nothing any more; idempotent."""
        self._closed = True
        self._timer.cancel()

    def _look_again(self) -> None:
        self._stirred = False
        self._timer = self._loop.after(self._period, self._look_again)
        self._start()

    def _start(self) -> None:
        if not self._looking and not self._closed:
            self._looking = True
            waiting, self._waiting = self._waiting, []
            found = self._loop.offload(self._find)
            found.when_finished(lambda: self._looked(found, waiting))

    def _looked(
        self, found: Completion[list[FoundDisk]], waiting: list[Completion[list[FoundDisk]]]
    ) -> None:
        self._looking = False
        if self._closed:
            return
        if self._waiting:  # asked while that look was under way, which may have missed something
            self._start()
        try:
            disks = found.result()
        except Exception as error:
            for completion in waiting:
                completion.fail(error)
            if not waiting:
                raise
        else:
            self._tell(disks)
            for completion in waiting:
                completion.succeed(self.disks)

    def _tell(self, found: Sequence[FoundDisk]) -> None:
        before = self._known
        ours = [disk for disk in found if not disk.foreign or _key(disk) in before]
        now = {_key(disk): disk for disk in self._told_apart(ours)}
        self._known = now
        for key, disk in before.items():
            if key not in now:
                self._listener.disk_disappeared(disk)
        for key, disk in now.items():
            if key not in before:
                self._listener.disk_appeared(disk)
            elif disk != before[key]:
                self._listener.disk_changed(disk)

    def _told_apart(self, found: Sequence[FoundDisk]) -> list[FoundDisk]:
        """The disks, with those marked whose id another one has too."""
        by_id: dict[str, list[FoundDisk]] = defaultdict(list)
        for disk in found:
            by_id[disk.identity.id].append(disk)
        doubtful: set[_Key] = set()
        disks = []
        for disk in found:
            key = _key(disk)
            others = [_key(other) for other in by_id[disk.identity.id] if other is not disk]
            if others and (self._is_doubtful(key) or not all(map(self._is_doubtful, others))):
                doubtful.add(key)
                reason = f"{others[0][0]} has the same id"
                disks.append(replace(disk, in_use=disk.in_use or reason))
            else:
                disks.append(disk)
        self._doubtful = doubtful
        return disks

    def _is_doubtful(self, key: _Key) -> bool:
        return key not in self._known or key in self._doubtful


def _key(disk: FoundDisk) -> _Key:
    return disk.identity.node, disk.incarnation, disk.identity.id


def printable(text: str) -> str:
    """A label as an id: what a person could not type or see is an underscore."""
    return "".join(
        character if character.isprintable() and not character.isspace() else "_"
        for character in text.strip()
    )
