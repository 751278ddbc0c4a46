"""The operator lock: one person at a time changes things, from the plan to its end.

It belongs to a connection.  While it is held, every verb that changes
something is refused to all other connections; it ends when it is given back,
with its connection, when its holder has asked for nothing for `IDLE_SECONDS`,
or by force.  Invariants:

- It is taken only while no other connection is in the midst of a change; so
  nothing changes between a plan and its end but by the holder.  (A job is no
  longer its asker's change once it runs.)
- Who lost it, by force or by being idle, changes nothing more until it has
  said `lock` or `unlock` again: what it was about to confirm is stale.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from appliance.cdp.interfaces import Timer
from appliance.errors import LockLost, OperatorLocked
from appliance.event_log import rfc3339
from appliance.events import LOCK_EXPIRED, LOCK_TAKEN_AWAY, Emit
from appliance.operators.interfaces import Timers
from appliance.wording import printable

IDLE_SECONDS: Final = 300.0
FACE_MAXIMUM: Final = 32
SECOND: Final = 1_000_000_000


@dataclass(slots=True, eq=False)
class Operator:
    """One connection of somebody: `user` by the kernel's word, `face` by the client's own."""

    user: str
    face: str = ""
    requests: int = 0
    """Under way."""
    lost: str = ""
    """How it lost the lock; nothing once it knows."""

    @property
    def actor(self) -> str:
        """Who, and where from."""
        return f"{self.user} at {self.face}" if self.face else self.user

    def appear_at(self, face: str) -> None:
        """Take a face from a client, whatever it says."""
        self.face = printable(face[:FACE_MAXIMUM]).strip()


@dataclass(slots=True, eq=False)
class Change:
    """A request that changes something, until that is `settled`."""

    operator: Operator
    since_ns: int
    settled: bool = False


class OperatorLock:
    """See the module.  `wall_ns` is for people."""

    def __init__(self, timers: Timers, emit: Emit, wall_ns: Callable[[], int]) -> None:
        self._timers = timers
        self._emit = emit
        self._wall_ns = wall_ns
        self._changes: list[Change] = []
        self._idle: Timer | None = None
        self.holder: Operator | None = None
        self.since_ns = 0

    @contextmanager
    def serving(self, operator: Operator, changes: bool) -> Iterator[Change]:
        """Around every request: its operator is not idle, and if it changes something nobody
        takes the lock meanwhile.  Raises OperatorLocked or LockLost."""
        if changes:
            self._check(operator)
        change = Change(operator, self._wall_ns(), settled=not changes)
        self._changes.append(change)
        operator.requests += 1
        self._note_request(operator)
        try:
            yield change
        finally:
            operator.requests -= 1
            self._changes.remove(change)
            self._note_request(operator)

    def take(self, operator: Operator) -> None:
        """Idempotent.  Raises OperatorLocked, also while somebody else is changing something."""
        if self.holder is not None and self.holder is not operator:
            raise _locked(self.holder, self.since_ns)
        for change in self._changes:
            if change.operator is not operator and not change.settled:
                raise _locked(change.operator, change.since_ns)
        operator.lost = ""
        if self.holder is None:
            self.holder, self.since_ns = operator, self._wall_ns()
        self._watch()

    def give(self, operator: Operator, force: bool) -> None:
        """Idempotent.  Raises OperatorLocked if it is another's, unless it is taken by `force`."""
        operator.lost = ""
        holder = self.holder
        if holder is not None and holder is not operator:
            if not force:
                raise _locked(holder, self.since_ns)
            holder.lost = f"{operator.actor} took it away"
            self._emit(LOCK_TAKEN_AWAY, actor=operator.actor, holder=holder.actor)
        self._free()

    def leave(self, operator: Operator) -> None:
        """The connection is gone."""
        if self.holder is operator:
            self._free()

    def _check(self, operator: Operator) -> None:
        if operator.lost:
            raise LockLost(reason=operator.lost)
        if self.holder is not None and self.holder is not operator:
            raise _locked(self.holder, self.since_ns)

    def _free(self) -> None:
        self.holder = None
        self._watch()

    def _note_request(self, operator: Operator) -> None:
        if operator is self.holder:
            self._watch()

    def _watch(self) -> None:
        """Count the time while the holder asks for nothing, and only then."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self.holder is not None and not self.holder.requests:
            self._idle = self._timers.after(IDLE_SECONDS, self._expire)

    def _expire(self) -> None:
        assert self.holder is not None
        self._emit(LOCK_EXPIRED, actor=self.holder.actor, seconds=IDLE_SECONDS)
        self.holder.lost = f"nothing was asked for in {IDLE_SECONDS:.0f} s"
        self._free()


def _locked(operator: Operator, since_ns: int) -> OperatorLocked:
    since = rfc3339(since_ns // SECOND * SECOND).replace(".000000000", "")
    return OperatorLocked(actor=operator.actor, since=since)
