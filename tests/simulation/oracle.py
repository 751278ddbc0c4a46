"""What a volume must hold: every version of every sector, and every point of its past.

The oracle is told of each write as it is numbered, acknowledged, flushed and
journaled, and knows nothing else of the engine.  Contents are *tags*: each
sector of 512 bytes repeats one u64 that names its write and its place, so a
volume of any content is one small array, and a torn or misplaced sector shows.

Rules (DESIGN.md, section 4, rule 5):

* A sector holds a version at or behind the last one that must have survived: a
  flushed one after a power cut, an acknowledged one after a kill.
* What hosts saw once a volume was back in service is what it holds from then on.
* The journal keeps a prefix of its writes.  Each point is the sum of the writes
  up to it; a crash cuts that sequence and never changes it.
* Write numbers only rise.
"""

import bisect
from collections.abc import Callable, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from appliance.cdp.chain import Chain
from appliance.cdp.commit_group import REPAIR
from appliance.cdp.format import Rows
from appliance.cdp.interfaces import SECTOR, HostRequest

Tags = npt.NDArray[np.uint64]

WORDS = SECTOR // 8


class Violation(AssertionError):
    """The engine broke its word."""


class Fate(IntEnum):
    """How far a write has come; later ones survive more."""

    SUBMITTED = 0
    ACKNOWLEDGED = 1
    DURABLE = 2


class Write:
    """One numbered write: `tags` of the sectors from `first` on."""

    __slots__ = ("number", "first", "tags", "fate", "repair", "journaled", "failed")

    def __init__(self, number: int, first: int, tags: Tags, repair: bool) -> None:
        self.number = number
        self.first = first
        self.tags = tags
        self.fate = Fate.SUBMITTED
        self.repair = repair
        self.journaled = False
        self.failed = False

    def tag(self, sector: int) -> int:
        return int(self.tags[sector - self.first])


class State:
    """The content just after a record that ended with this write.

    `covered` sectors of the write were in; `solid` if hosts were protected then.
    """

    __slots__ = ("number", "covered", "tags", "solid")

    def __init__(self, number: int, covered: int, tags: Tags, solid: bool) -> None:
        self.number = number
        self.covered = covered
        self.tags = tags
        self.solid = solid


def tags_of(raw: bytes | memoryview) -> Tags:
    """The tags of whole sectors; Violation if one is torn inside."""
    words = np.frombuffer(raw, np.uint64).reshape(-1, WORDS)
    first: Tags = words[:, 0].copy()
    torn = np.flatnonzero((words != first[:, None]).any(axis=1))
    if len(torn):
        raise Violation(f"sector {int(torn[0])} of the range is torn inside")
    return first


def bytes_of(tags: Tags) -> bytes:
    return np.repeat(tags, WORDS).tobytes()


class Oracle:
    """Of one volume, over all its lives."""

    def __init__(self, contents: Tags) -> None:
        self.sectors = len(contents)
        self.head = contents.copy()
        """Every write applied in its order."""
        self.highest = 0
        """The highest write number ever handed out."""
        self._used = 0
        """The highest that reached a disk or was acknowledged."""
        self.journaled_flush = 0
        """The journal was told durable up to here."""
        self.journaled_ack = 0
        """Acknowledged under `both` up to here."""
        self.restoring: tuple[int, int] | None = None
        """What the last checkpoint that was read said of a restore."""
        self.protected: Callable[[], bool] = lambda: False
        self.survives = Fate.ACKNOWLEDGED
        """The least that has survived since hosts last looked."""
        self._ancient = Write(0, 0, contents.copy(), False)
        self._ancient.fate = Fate.DURABLE
        self._versions: list[list[Write]] = [[self._ancient] for _ in range(self.sectors)]
        self._since: list[Write] = []
        self._volatile: dict[Write, None] = {}
        self._reading: list[tuple[int, list[int]]] = []
        """Reads under way: their first sectors, and what `read_begins` gave."""
        self._by_number: dict[int, Write] = {}
        self._states: list[State] = []
        self._journal: Tags | None = None
        self._unseen = 0
        """Lives that ended since hosts last looked."""
        self._seen_at = 0
        """The highest write number handed out by then."""
        self._unknown = False
        """Nobody can say what the newest point is, until hosts look again."""
        self._journal_survives = Fate.ACKNOWLEDGED

    # What the engine does, as it is watched

    def numbered(self, request: HostRequest, data: bytes | None) -> None:
        """The engine gave a write its number."""
        number = request.number
        if number <= self._used:
            raise Violation(f"write number {number} again, {self._used} has been used")
        self.highest = max(self.highest, number)
        first, count = request.offset // SECTOR, request.length // SECTOR
        tags = np.zeros(count, np.uint64) if data is None else tags_of(data)
        write = Write(number, first, tags, request.kind == REPAIR)
        self._by_number[number] = write
        if not write.repair:
            self._since.append(write)
            self.head[first : first + count] = tags
            for versions in self._versions[first : first + count]:
                versions.append(write)
        answer, fua = request.done, request.fua

        def done(finished: HostRequest) -> None:
            if not finished.error and not write.repair:
                self._acknowledged(write, fua)
            write.failed = bool(finished.error)
            answer(finished)

        request.done = done

    def _acknowledged(self, write: Write, fua: bool) -> None:
        self._used = max(self._used, write.number)
        write.fate = Fate.DURABLE if fua else Fate.ACKNOWLEDGED
        if not fua:
            self._volatile[write] = None

    def sealed(self, entries: Sequence[tuple[int, int, int, int, int]]) -> None:
        """A record of these entries is on its way to the journal."""
        if self._unknown:
            self._used = max(self._used, entries[-1][2])
            return
        if self._journal is None:
            self._journal = self._tracked_before(entries[0][0], entries[0][2])
        journal = self._journal
        for at, (start, _, number, length, _) in enumerate(entries):
            write = self._by_number[number]
            journal[start : start + length] = write.tags[
                start - write.first : start - write.first + length
            ]
            write.journaled = True
            self._used = max(self._used, number)
            covered = length
            if self._states and self._states[-1].number == number:
                covered += self._states[-1].covered
            if at and entries[at - 1][2] == number:
                self._states.pop()
            whole = covered == len(write.tags)
            solid = whole and self.protected() and not write.repair
            self._states.append(State(number, covered, journal.copy(), solid))

    def read_back(self, chain: Chain, newest: Rows | None) -> None:
        """The engine read the secondary's history: a prefix of what it was given.

        `newest` are the entries of its newest map, if there is one.
        """
        prefix = chain.newest_write
        self._journal = None
        for write in self._by_number.values():
            if write.number > prefix:
                write.journaled = False
        if not chain.baseline_whole:
            self._states.clear()
            return
        if prefix < self.journaled_flush:
            raise Violation(
                f"the journal reads to write {prefix}, {self.journaled_flush} was flushed"
            )
        if self._journal_survives is Fate.ACKNOWLEDGED and prefix < self.journaled_ack:
            raise Violation(
                f"the journal reads to write {prefix}, {self.journaled_ack} was acknowledged"
            )
        self.journaled_ack = min(self.journaled_ack, prefix)
        self._journal_survives = Fate.ACKNOWLEDGED
        if not self._states or self._states[0].number > prefix:
            if self._unseen > 1 or self._seen_at > chain.floor:
                self._states.clear()
                self._unknown = True  # nobody has seen what the baseline copied, or only later
                return
            self._states = [State(chain.floor, 0, self._in_order(chain.floor), False)]
        covered = -1
        if newest is not None:
            covered = int(newest["length"][newest["write"] == prefix].sum())
        while self._states and (
            self._states[-1].number > prefix
            or (self._states[-1].number == prefix and 0 <= covered < self._states[-1].covered)
        ):
            self._states.pop()
        if self._states:
            self._journal = self._states[-1].tags.copy()

    def _tracked_before(self, start: int, number: int) -> Tags:
        """The primary's content in the middle of a write: its sectors before `start` are there."""
        tags = self._in_order(number - 1)
        write = self._by_number[number]
        tags[write.first : start] = write.tags[: start - write.first]
        return tags

    def _in_order(self, number: int) -> Tags:
        """What was last seen, and all writes since up to a number."""
        tags = self._ancient.tags.copy()
        for write in self._since:
            if write.number <= number and not write.failed:
                tags[write.first : write.first + len(write.tags)] = write.tags
        return tags

    # What hosts do

    def flush_begins(self) -> list[Write]:
        """The writes that a FLUSH submitted now covers."""
        return list(self._volatile)

    def flush_ends(self, covered: list[Write], journaled: bool) -> None:
        """It succeeded."""
        for write in covered:
            write.fate = Fate.DURABLE
            self._volatile.pop(write, None)
            if journaled and write.journaled:
                self.journaled_flush = max(self.journaled_flush, write.number)

    def acknowledged_by_both(self, number: int) -> None:
        """The host's write was acknowledged by both disks."""
        if self._by_number[number].journaled:
            self.journaled_ack = max(self.journaled_ack, number)

    def read_begins(self, first: int, count: int) -> list[int]:
        """For each sector, from which of its versions on a READ submitted now may answer."""
        least = self._least_acknowledged(first, count)
        self._reading.append((first, least))
        return least

    def _least_acknowledged(self, first: int, count: int) -> list[int]:
        return [
            self._least(versions, Fate.ACKNOWLEDGED)
            for versions in self._versions[first : first + count]
        ]

    def read_ends(self, first: int, least: list[int], tags: Tags) -> None:
        """It answered."""
        self._reading = [read for read in self._reading if read[1] is not least]
        for at, tag in enumerate(tags.tolist()):
            versions = self._versions[first + at][least[at] :]
            if all(write.tag(first + at) != tag for write in versions):
                raise Violation(self._wrong("a read", first + at, tag, versions))

    @staticmethod
    def _least(versions: list[Write], fate: Fate) -> int:
        for at in range(len(versions) - 1, -1, -1):
            if versions[at].fate >= fate:
                return at
        return 0

    def _wrong(self, what: str, sector: int, tag: int, versions: list[Write]) -> str:
        allowed = ", ".join(
            f"{write.tag(sector):#x} (write {write.number}, {write.fate.name.lower()})"
            for write in versions
        )
        writer = next(
            (
                write.number
                for write in self._by_number.values()
                if write.first <= sector < write.first + len(write.tags)
                and write.tag(sector) == tag
            ),
            None,
        )
        return f"{what}: sector {sector} answers {tag:#x} (write {writer}), not {allowed}"

    # How lives end and begin

    def power_lost(self) -> None:
        self.survives = self._journal_survives = Fate.DURABLE
        self._unseen += 1

    def secondary_lost_power(self) -> None:
        self._journal_survives = Fate.DURABLE

    def killed(self) -> None:
        self._unseen += 1

    def cache_lost(self) -> None:
        """The primary failed a flush, and may have lost what was not flushed before."""
        for write in self._volatile:
            write.fate = Fate.SUBMITTED
        self._volatile.clear()
        for first, least in self._reading:
            least[:] = self._least_acknowledged(first, len(least))

    def observe(self, tags: Tags) -> None:
        """What hosts read after a start; from now on the volume holds this."""
        for sector in np.flatnonzero(tags != self.head).tolist():
            versions = self._versions[sector]
            allowed = versions[self._least(versions, self.survives) :]
            if all(write.tag(sector) != int(tags[sector]) for write in allowed):
                raise Violation(self._wrong("recovery", sector, int(tags[sector]), allowed))
        self._ancient = Write(0, 0, tags.copy(), False)
        self._ancient.fate = Fate.DURABLE
        self._versions = [[self._ancient] for _ in range(self.sectors)]
        self._since.clear()
        self._volatile.clear()
        self._reading.clear()
        self.head = tags.copy()
        self.survives = Fate.ACKNOWLEDGED
        self._unseen = 0
        self._seen_at = self.highest
        if self._unknown:
            self._unknown = False
            self._states = [State(self._used, 0, tags.copy(), False)]
            self._journal = tags.copy()

    # The past

    def at(self, number: int) -> list[Tags]:
        """What a point may hold: none if unknown, several if its write was cut by a crash."""
        index = bisect.bisect_right(self._states, number, key=lambda state: state.number)
        if not index:
            return []
        newest = self._states[index - 1].number
        return [self._states[index - 1].tags] if newest <= number else []

    def numbers(self, least: int, most: int) -> list[int]:
        """The numbers of all states known in a stretch."""
        return [state.number for state in self._states if least <= state.number <= most]

    def solid_numbers(self, least: int, most: int) -> list[int]:
        """Those that must be restorable, as long as the floor is not above them."""
        return [
            state.number for state in self._states if state.solid and least <= state.number <= most
        ]

    def forget_below(self, number: int) -> None:
        """The floor is there: keep one state at or below it."""
        index = bisect.bisect_right(self._states, number, key=lambda state: state.number)
        del self._states[: max(0, index - 1)]
