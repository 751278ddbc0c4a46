"""The way of a write: batch → number → intent → primary ∥ journal → ack → present delta map.

One *commit group* per volume is in flight while the next gathers.  Payload is
copied once, into the group's memory, where it lies as the journal's record
wants it; both legs are written from that one copy.

Invariants (DESIGN.md section 4), and where they are held:

* Intent first: `_issue` runs only when the intent of every region of the group
  is durable (`_start`).
* One order: write numbers are given in the order of arrival; of two overlapping
  writes of a group the later one is issued to the primary in a later wave
  (`_waves`), and groups follow each other.
* Retire late: `completed_write` advances only when both legs of everything up
  to it have completed; `stable_write` only to what was completed when a flush
  of both disks was submitted.  Intents retire by `stable_write`.
* Acknowledge by policy: under BOTH after both legs; under PRIMARY after the
  primary's, while the journal lags in bounded memory.  What a lost secondary
  still owed is acknowledged only after tracking is durable (`resume`).
"""

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from errno import EIO
from typing import Final, NamedTuple

from appliance.cdp.delta_map import DeltaMap
from appliance.cdp.dirty_region_log import CEILING_STEP, DirtyRegionLog
from appliance.cdp.format import ENTRY_BYTES, PAGE, RECORD_ENTRIES, ZEROS, crc32c
from appliance.cdp.interfaces import (
    FLUSH,
    SECTOR,
    WRITE,
    ZERO,
    Data,
    Disk,
    DiskRequest,
    HostRequest,
    Post,
)
from appliance.cdp.journal import HEADROOM, Journal, location_of
from appliance.cdp.memory import Buffer, BufferPool
from appliance.cdp.tasks import Completion, Task
from appliance.errors import EbbtideError

REPAIR: Final = 16
"""A HostRequest of the appliance itself: data of the primary that the secondary lacks.
It is numbered and journaled, and has no primary leg."""

GROUP_MEMORY: Final = 4 << 20
LAG: Final = 64 << 20
"""Payload that the journal may be behind the primary under PRIMARY."""


class Ack(IntEnum):
    """When a host's write is acknowledged."""

    BOTH = 0
    PRIMARY = 1


class Mode(IntEnum):
    """Where writes go."""

    JOURNALING = 0
    PAUSED = 1
    """Nothing starts: tracking is being made durable, or the journal has no room."""
    TRACKING = 2
    """To the primary only; the regions are marked out of sync first."""


class Piece(NamedTuple):
    """A host's write, or as much of it as a group takes; `at` is -1 for zeros."""

    request: HostRequest
    kind: int
    offset: int
    length: int
    at: int


class Group:
    """Writes that are committed together; `span` bounds the regions they touch."""

    __slots__ = (
        "buffer",
        "used",
        "entries",
        "span",
        "pieces",
        "last_write",
        "mid_write",
        "payload",
        "delta_map",
        "waves",
        "primary_legs",
        "primary_done",
        "journal_done",
        "journal_failed",
        "acknowledged",
        "failed",
    )

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.used = HEADROOM
        self.entries = 0
        self.span = 0
        self.pieces: list[Piece] = []
        self.last_write = 0
        self.mid_write = False
        """The last write goes on in the next group."""
        self.payload = 0
        self.delta_map: DeltaMap | None = None
        """Where its record is."""
        self.waves: list[list[DiskRequest]] = []
        self.primary_legs = 0
        self.primary_done = False
        self.journal_done = False
        self.journal_failed = False
        self.acknowledged = False
        self.failed: list[DiskRequest] = []


class WritePath:
    """The writes and flushes of one volume.

    The volume sets the `on_…` hooks and answers them with `track`, `resume`
    and `retire`.  While `mode` is PAUSED, writes gather and nothing starts.
    """

    def __init__(
        self,
        primary: Disk,
        region_log: DirtyRegionLog,
        region_size: int,
        next_write: int,
        group_memory: int,
        align: int,
        post: Post,
        pool: BufferPool,
        next_order: Callable[[], int],
    ) -> None:
        self.primary = primary
        self.secondary: Disk | None = None
        self.journal: Journal | None = None
        self.mode = Mode.PAUSED
        self.ack = Ack.BOTH
        self.reserve = 0
        """Segments that host writes leave alone."""
        self.next_write = next_write
        self.completed_write = next_write - 1
        self.stable_write = next_write - 1
        self.on_secondary_error: Callable[[OSError], None] = lambda error: None
        self.on_primary_error: Callable[[OSError, int, int], None] = lambda error, at, size: None
        """Error, and the bytes concerned; none where it is not about data."""
        self.on_no_room: Callable[[], None] = lambda: None
        self.on_crowded: Callable[[], None] = lambda: None
        self._log = region_log
        self._region_size = region_size
        self._group_memory = group_memory
        self._align = align
        self._post = post
        self._pool = pool
        self._next_order = next_order
        self._queue: deque[Group] = deque()
        self._starting: Group | None = None
        """Its intent is being made durable, or it waits for resume()."""
        self._issued: deque[Group] = deque()
        """Issued and not complete on both legs, in order."""
        self._lag = 0
        self._lost = False
        """The secondary has failed, and tracking is not durable yet."""
        self._posted = False
        self._retiring = False
        self._locks: list[tuple[int, int]] = []
        self._blocked: list[tuple[HostRequest, bytes | None]] = []
        self._drained: list[Completion[None]] = []
        self._barriers: list[tuple[int, Completion[None]]] = []
        """What waits for all writes up to a number to be complete on both legs."""
        self._flush_waiters: list[Callable[[bool], None]] = []
        self._flushing = False
        self._held_flushes: list[Callable[[bool], None]] = []
        self._flush_failures = 0
        self._failures_told: dict[object, int] = {}

    # Gathering

    def write(self, request: HostRequest, inside_lock: bool = False) -> None:
        """Take a WRITE, ZERO or REPAIR; its data is copied before this returns.

        `inside_lock`: from whoever holds the lock of these bytes.
        """
        if self._locks and not inside_lock and self._is_locked(request):
            kept = None if request.data is None else bytes(request.data)
            self._blocked.append((request, kept))
            return
        request.number = self.next_write
        self.next_write += 1
        length = request.length
        data = request.data
        if data is None:
            request.parts = 1
            group = self._group_for(0, 1, length // self._region_size + 2)
            group.pieces.append(Piece(request, ZERO, request.offset, length, -1))
        elif length <= ENTRY_BYTES and length <= self._group_memory - HEADROOM:
            request.parts = 1
            self._gather(request, request.offset, length, data)
        else:
            step = min(self._group_memory - HEADROOM, 1 << 20)
            request.parts = -(-length // step)
            for at in range(0, length, step):
                part = data[at : at + step]
                self._gather(request, request.offset + at, len(part), part)
        if not self._posted:
            self._posted = True
            self._post.post(self._start_next)

    def _gather(self, request: HostRequest, offset: int, length: int, data: Data) -> None:
        entries = -(-length // ENTRY_BYTES)
        group = self._group_for(length, entries, length // self._region_size + 2)
        at = group.used
        group.buffer.view[at : at + length] = data
        group.used = at + -(-length // self._align) * self._align
        group.pieces.append(Piece(request, request.kind, offset, length, at))

    def _group_for(self, length: int, entries: int, span: int) -> Group:
        """The group that gathers, with room for so much more."""
        if self._queue:
            group = self._queue[-1]
            if (
                group.used + length <= self._group_memory
                and group.entries + entries <= RECORD_ENTRIES
                and group.span + span <= self._log.capacity // 2
            ):
                group.entries += entries
                group.span += span
                return group
        group = Group(self._pool.get(self._group_memory))
        group.entries = entries
        group.span = span
        self._queue.append(group)
        return group

    # Starting: one group at a time

    def _start_next(self) -> None:
        self._posted = False
        if self._drained:
            self._tell_drained()
        if self.mode == Mode.PAUSED or self._starting is not None or self._retiring:
            return
        if not self._queue or (self._issued and not self._issued[-1].acknowledged):
            return
        group = self._queue[0]
        group.payload = -(-(group.used - HEADROOM) // PAGE) * PAGE
        if self.mode == Mode.JOURNALING:
            assert self.journal is not None
            if self._lag > LAG:
                return  # goes on when a journal leg completes
            if not self.journal.has_room(group.payload, self.reserve):
                self.mode = Mode.PAUSED
                self.on_no_room()
                return
        self._queue.popleft()
        last = group.pieces[-1].request
        group.last_write = last.number
        group.mid_write = bool(self._queue) and self._queue[0].pieces[0].request is last
        self._starting = group
        self._start(group)

    def _start(self, group: Group) -> None:
        """Make the intent durable, or the regions known as out of sync; then issue."""
        rising = self.next_write + CEILING_STEP // 2 > self._log.ceiling
        if rising:
            self._log.ceiling = self.next_write + CEILING_STEP
        if self.mode == Mode.TRACKING:
            if rising:
                self._log.write_slot(lambda error: self._numbers_reserved(group, error))
                return
            regions = self._regions(group)
            if all(self._log.is_out_of_sync(region) for region in regions):
                self._issue(group)
            else:
                marked = Task(self._log.set_out_of_sync(regions))
                marked.when_finished(lambda: self._marked(group, marked))
            return
        active = self._log.active
        known = len(active)
        for region in self._regions(group):
            active[region] = group.last_write
        if len(active) > self._log.capacity:
            # Everything before this group is complete, so a flush of both retires it.
            self.flush_both(lambda ok: self._start_after_retirement(group, ok))
            return
        if len(active) == known and not rising:
            self._issue(group)
            return
        self._log.write_slot(lambda error: self._intent_written(group, error))

    def _regions(self, group: Group) -> set[int]:
        size = self._region_size
        regions = set()
        for _, kind, offset, length, _ in group.pieces:
            if kind != REPAIR:
                first, last = offset // size, (offset + length - 1) // size
                if first == last:
                    regions.add(first)
                else:
                    regions.update(range(first, last + 1))
        return regions

    def _start_after_retirement(self, group: Group, ok: bool) -> None:
        if self._starting is not group:
            return
        if ok and self._journals:
            self._log.retire(self.stable_write, self._log.enough)
            if len(self._log.active) > self._log.capacity:
                # Under PRIMARY, what lags holds its regions: try again behind it.
                self._post.after(0.001, lambda: self._start_after_retirement(group, True))
                return
            self._log.write_slot(lambda error: self._intent_written(group, error))
        elif not ok:
            self._refuse(group)

    def _numbers_reserved(self, group: Group, error: OSError | None) -> None:
        if error is None and self._starting is group:
            self._start(group)
        else:
            self._intent_written(group, error)

    @property
    def _journals(self) -> bool:
        """Does what has been started go to both disks?  Also while PAUSED for another reason."""
        return self.journal is not None and not self._lost

    def _intent_written(self, group: Group, error: OSError | None) -> None:
        if error is not None:
            self.on_primary_error(error, 0, 0)
        if self._starting is not group:
            return  # track() has started it again meanwhile
        if error is not None:
            self._refuse(group)
        elif self._journals:
            self._issue(group)
            if self._log.crowded:
                self.on_crowded()

    def _marked(self, group: Group, marked: Task[None]) -> None:
        if self._starting is not group:
            return
        try:
            marked.result()
        except EbbtideError:
            self._refuse(group)
            return
        self._issue(group)

    def _refuse(self, group: Group) -> None:
        """The primary took no intent: nothing of the group was issued."""
        self._starting = None
        group.last_write = group.pieces[-1].request.number
        for piece in group.pieces:
            piece.request.error = EIO
        group.primary_done = group.journal_done = True
        self._issued.append(group)
        self._settle(group)

    # Issuing both legs

    def _issue(self, group: Group) -> None:
        self._starting = None
        self._issued.append(group)
        legs = [
            DiskRequest(kind, offset, length, group.buffer, at, self._primary_leg_done, owner=group)
            if kind == WRITE
            else DiskRequest(ZERO, offset, length, None, 0, self._primary_leg_done, owner=group)
            for _, kind, offset, length, at in group.pieces
            if kind != REPAIR
        ]
        group.waves = _waves(legs)
        if group.waves:
            self._issue_wave(group)
        else:
            group.primary_done = True
        if self._journals:
            # Second: the record is packed and sealed while the primary is at work.
            self._issue_journal_leg(group)
        else:
            group.journal_done = True
            for piece in group.pieces:
                if piece.kind == REPAIR:
                    piece.request.error = EIO
        if group.primary_done:
            self._settle(group)

    def _issue_wave(self, group: Group) -> None:
        wave = group.waves.pop(0)
        group.primary_legs = len(wave)
        self.primary.submit(wave)

    def _issue_journal_leg(self, group: Group) -> None:
        journal, secondary = self.journal, self.secondary
        assert journal is not None and secondary is not None
        offset, begin = journal.place(group.payload)
        record = offset + PAGE - begin
        memory = group.buffer.array
        entries: list[tuple[int, int, int, int, int]] = []
        for request, _, start, length, at in group.pieces:
            number = request.number
            if at < 0:
                entries.append((start // SECTOR, ZEROS, number, length // SECTOR, 0))
            elif length <= ENTRY_BYTES:
                crc = crc32c(memory[at : at + length])
                location = location_of(record, at)
                entries.append((start // SECTOR, location, number, length // SECTOR, crc))
            else:
                for done in range(0, length, ENTRY_BYTES):
                    size = min(ENTRY_BYTES, length - done)
                    crc = crc32c(memory[at + done : at + done + size])
                    location = location_of(record, at + done)
                    sector = (start + done) // SECTOR
                    entries.append((sector, location, number, size // SECTOR, crc))
        group.delta_map = journal.seal(
            group.buffer.view,
            entries,
            group.payload,
            self._next_order(),
            begin == 0,
            group.mid_write,
        )
        self._lag += group.payload
        secondary.submit(
            [
                DiskRequest(
                    WRITE,
                    offset,
                    HEADROOM - begin + group.payload,
                    group.buffer,
                    begin,
                    self._journal_leg_done,
                    owner=group,
                )
            ]
        )

    def _primary_leg_done(self, leg: DiskRequest) -> None:
        group = leg.owner
        assert isinstance(group, Group)
        if leg.error is not None:
            group.failed.append(leg)
        group.primary_legs -= 1
        if not group.primary_legs:
            if group.waves:
                self._issue_wave(group)
            else:
                group.primary_done = True
                self._settle(group)

    def _journal_leg_done(self, leg: DiskRequest) -> None:
        group = leg.owner
        assert isinstance(group, Group)
        if group.journal_done:
            return  # given up by track(); the disk answers late
        self._lag -= group.payload
        group.journal_done = True
        if leg.error is None:
            assert group.delta_map is not None
            group.delta_map.in_flight -= 1
        else:
            group.journal_failed = True
            self.lose_secondary(leg.error)
        self._settle(group)

    def lose_secondary(self, error: OSError) -> None:
        """The secondary failed here or elsewhere: pause, and tell the volume."""
        if self._journals:
            self._lost = True
            self.mode = Mode.PAUSED
            self.on_secondary_error(error)

    # Acknowledging

    def _settle(self, group: Group) -> None:
        """Acknowledge what the policy allows, advance behind what is complete, go on."""
        if group.primary_done and not group.acknowledged:
            if self.ack == Ack.PRIMARY or (
                group.journal_done and not (group.journal_failed and self._lost)
            ):
                self._acknowledge(group)
        issued = self._issued
        while issued and issued[0].acknowledged and issued[0].journal_done:
            complete = issued[0]
            if complete.journal_failed and self._lost:
                break
            issued.popleft()
            self.completed_write = complete.last_write - complete.mid_write
            complete.buffer.release()
        if self._barriers and self._barriers[0][0] <= self.completed_write:
            self._lift_barriers()
        self.wake()

    def _lift_barriers(self) -> None:
        barriers, self._barriers = self._barriers, []
        for number, barrier in barriers:
            if number <= self.completed_write:
                barrier.succeed(None)
            else:
                self._barriers.append((number, barrier))

    def _acknowledge(self, group: Group) -> None:
        group.acknowledged = True
        if group.failed:
            self._blame(group)
        durable: list[HostRequest] = []
        for piece in group.pieces:
            request = piece.request
            request.parts -= 1
            if not request.parts:
                if request.fua and not request.error:
                    durable.append(request)
                else:
                    request.done(request)
        if durable:
            self.flush(lambda ok: _finish(durable, ok))

    def _blame(self, group: Group) -> None:
        """The hosts whose data did not reach the primary hear so."""
        for leg in group.failed:
            for piece in group.pieces:
                if (
                    piece.offset < leg.offset + leg.length
                    and leg.offset < piece.offset + piece.length
                ):
                    piece.request.error = EIO
            assert leg.error is not None
            self.on_primary_error(leg.error, leg.offset, leg.length)

    # Flushing

    def flush_request(self, request: HostRequest) -> None:
        """A host's FLUSH; after a failed one, every connection's next fails too."""
        told = self._failures_told.get(request.host, 0)
        if self._flush_failures > told:
            self._failures_told[request.host] = self._flush_failures
            request.error = EIO
            self._post.post(lambda: request.done(request))
            return
        self.flush(lambda ok: self._answer_flush(request, ok))

    def _answer_flush(self, request: HostRequest, ok: bool) -> None:
        if not ok:
            self._failures_told[request.host] = self._flush_failures
        _finish([request], ok)

    def flush(self, done: Callable[[bool], None]) -> None:
        """Make everything acknowledged before durable, as the policy means it."""
        self._flush_waiters.append(done)
        if not self._flushing:
            self._submit_flush(also_journal=self.ack == Ack.BOTH)

    def flush_both(self, done: Callable[[bool], None]) -> None:
        """Make everything complete on both disks durable, whatever the policy."""
        waiter = _BothWaiter(done)
        self._flush_waiters.append(waiter)
        if not self._flushing:
            self._submit_flush(also_journal=True)

    def _submit_flush(self, also_journal: bool) -> None:
        waiters, self._flush_waiters = self._flush_waiters, []
        disks = [self.primary]
        if also_journal and self.mode != Mode.TRACKING and self.secondary is not None:
            disks.append(self.secondary)
        flush = _Flush(waiters, self.completed_write, len(disks))
        self._flushing = True
        for disk in disks:
            disk.submit([DiskRequest(FLUSH, 0, 0, None, 0, self._flushed, owner=(flush, disk))])

    def _flushed(self, request: DiskRequest) -> None:
        owner = request.owner
        assert isinstance(owner, tuple)
        flush, disk = owner
        flush.pending -= 1
        if request.error is not None:
            if disk is self.primary:
                flush.primary_failed = True
                self._flush_failures += 1
                self.on_primary_error(request.error, 0, 0)
            else:
                flush.journal_failed = True
                self.lose_secondary(request.error)
        if flush.pending:
            return
        self._flushing = False
        if flush.disks == 2 and not flush.primary_failed and not flush.journal_failed:
            self.stable_write = max(self.stable_write, flush.completed_write)
        if self._flush_waiters:
            both = self.ack == Ack.BOTH or any(
                isinstance(waiter, _BothWaiter) for waiter in self._flush_waiters
            )
            self._submit_flush(also_journal=both)
        if flush.journal_failed and not flush.primary_failed and self._lost:
            self._held_flushes += flush.waiters  # answered once tracking is durable
            return
        for waiter in flush.waiters:
            waiter(not flush.primary_failed)

    # What the volume asks for

    def start_journaling(self, secondary: Disk, journal: Journal) -> None:
        """Both legs from now on; the path is PAUSED or TRACKING, and drained."""
        self.secondary, self.journal = secondary, journal
        self.stable_write = self.completed_write
        self.mode = Mode.JOURNALING
        self.wake()

    def pause(self) -> None:
        """Start no further group."""
        self.mode = Mode.PAUSED

    def resume(self) -> None:
        """Go on journaling: there is room again.  A lost secondary keeps it paused."""
        if not self._journals:
            return
        self.mode = Mode.JOURNALING
        self.wake()

    def track(self) -> None:
        """Go on without the secondary; everything unsettled is durably marked out of sync."""
        self.mode = Mode.TRACKING
        self._lost = False
        self.journal = self.secondary = None
        held, self._held_flushes = self._held_flushes, []
        for waiter in held:
            waiter(True)
        for group in list(self._issued):
            if not group.journal_done:
                group.journal_done = True  # its disk is fenced; its memory stays pinned
                self._lag -= group.payload
            self._settle(group)
        starting = self._starting
        if starting is not None:
            self._start(starting)
        self.wake()

    def wake(self) -> None:
        if not self._posted:
            self._posted = True
            self._post.post(self._start_next)

    def retire(self, keep: int = 0) -> Completion[None]:
        """Flush both disks and drop the intents that this settles; write that down if idle."""
        finished: Completion[None] = Completion()

        def flushed(ok: bool) -> None:
            if ok and self.mode == Mode.JOURNALING:
                self._log.retire(self.stable_write, keep)
                if not (self._starting or self._issued or self._queue or self._retiring):
                    self._retiring = True
                    self._log.write_slot(written)
                    return
            finished.succeed(None)

        def written(error: OSError | None) -> None:
            self._retiring = False
            if error is not None:
                self.on_primary_error(error, 0, 0)
            self.wake()
            finished.succeed(None)

        self.flush_both(flushed)
        return finished

    def drain(self) -> Completion[None]:
        """Finishes when nothing is in flight; while PAUSED, what has gathered stays."""
        completion: Completion[None] = Completion()
        self._drained.append(completion)
        self.wake()
        return completion

    def _tell_drained(self) -> None:
        waiting = self._queue and self.mode != Mode.PAUSED
        if not (waiting or self._starting or self._issued or self._retiring):
            drained, self._drained = self._drained, []
            for completion in drained:
                completion.succeed(None)

    def abandon(self) -> None:
        """The primary is lost: everything that has not been issued fails, and all that comes."""
        self.mode = Mode.PAUSED
        queue, self._queue = self._queue, deque()
        starting, self._starting = self._starting, None
        for group in [starting, *queue] if starting else queue:
            self._refuse(group)
        for request, _ in self._blocked:
            request.error = EIO
            request.done(request)
        self._blocked = []

    def unsettled_regions(self) -> set[int]:
        """Regions of writes that are not complete on both disks."""
        return {region for group in self._issued for region in self._regions(group)}

    async def lock(self, offset: int, length: int) -> None:
        """Host writes to these bytes wait from now on; those under way are over on return."""
        self._locks.append((offset, offset + length))
        if self.completed_write < self.next_write - 1:
            barrier: Completion[None] = Completion()
            self._barriers.append((self.next_write - 1, barrier))
            try:
                await barrier
            except BaseException:
                self.unlock(offset, length)
                raise

    def unlock(self, offset: int, length: int) -> None:
        """The writes that waited go on, in their order."""
        self._locks.remove((offset, offset + length))
        blocked, self._blocked = self._blocked, []
        for request, data in blocked:
            request.data = data
            self.write(request)

    def _is_locked(self, request: HostRequest) -> bool:
        end = request.offset + request.length
        return any(first < end and request.offset < last for first, last in self._locks)


class _BothWaiter:
    """Someone who needs both disks flushed, whatever the policy."""

    def __init__(self, done: Callable[[bool], None]) -> None:
        self._done = done

    def __call__(self, ok: bool) -> None:
        self._done(ok)


class _Flush:
    """A flush under way."""

    __slots__ = (
        "waiters",
        "completed_write",
        "disks",
        "pending",
        "primary_failed",
        "journal_failed",
    )

    def __init__(
        self, waiters: list[Callable[[bool], None]], completed_write: int, disks: int
    ) -> None:
        self.waiters = waiters
        self.completed_write = completed_write
        self.disks = self.pending = disks
        self.primary_failed = False
        self.journal_failed = False


def _finish(requests: list[HostRequest], ok: bool) -> None:
    for request in requests:
        if not ok:
            request.error = EIO
        request.done(request)


def _waves(legs: list[DiskRequest]) -> list[list[DiskRequest]]:
    """Legs that overlap, into waves that follow each other; neighbours are joined first."""
    if len(legs) <= 1:
        return [legs] if legs else []
    joined = [legs[0]]
    for leg in legs[1:]:
        last = joined[-1]
        if (
            leg.offset == last.offset + last.length
            and leg.start == last.start + last.length
            and leg.kind == last.kind == WRITE
        ):
            last.length += leg.length
        else:
            joined.append(leg)
    spans = sorted((leg.offset, leg.offset + leg.length) for leg in joined)
    end = 0
    for first, last_byte in spans:
        if first < end:
            break
        end = last_byte
    else:
        return [joined]
    waves: list[list[DiskRequest]] = [[]]
    for leg in joined:
        first, after = leg.offset, leg.offset + leg.length
        if any(first < other.offset + other.length and other.offset < after for other in waves[-1]):
            waves.append([])
        waves[-1].append(leg)
    return waves
