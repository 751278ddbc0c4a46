"""Housekeeping: what a volume does by itself, once a second or when it is pressed.

Folding while history runs low, indexes of closed maps, retirement of intents
that nothing needs any more.  A write path that has no room waits here for a
fold, but not for long: the host comes first.
"""

from collections.abc import Callable
from errno import EIO, ENOSPC

from appliance import events
from appliance.cdp import retention
from appliance.cdp.interfaces import Timer
from appliance.cdp.route import Mode
from appliance.cdp.tasks import Cancelled, Completion, Task
from appliance.cdp.volume import Volume
from appliance.errors import EbbtideError

HOUSEKEEPING_SECONDS = 1.0
ROOM_PATIENCE_SECONDS = 5.0
"""Writes wait so long for a fold before they are only tracked."""


class Housekeeping:
    """Of one volume.  `after_tick` is called once a second, after the chores were started."""

    def __init__(self, volume: Volume, after_tick: Callable[[], None]) -> None:
        self._volume = volume
        self._after_tick = after_tick
        self._timer: Timer | None = None
        self._chores: Task[None] | None = None
        self._patience: Timer | None = None
        self._retiring: Completion[None] | None = None
        self._waiting_for_room = False
        self._seen_write = -1

    def start(self) -> None:
        """Keep house from now on."""
        self._tick()

    def stop(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self.drop_chores()

    def drop_chores(self) -> None:
        """The history goes away: nothing is folded, and nobody waits for room."""
        self._stop_waiting()
        if self._chores is not None:
            self._chores.cancel()

    def _tick(self) -> None:
        self._timer = self._volume.post.after(HOUSEKEEPING_SECONDS, self._tick)
        self._do_chores()
        self._after_tick()

    def _do_chores(self) -> None:
        volume = self._volume
        if self._chores is not None and not self._chores.finished:
            return
        if volume.history is None or (not volume.is_journaling and not self._waiting_for_room):
            return
        self._chores = Task(self._keep_house())
        self._chores.when_finished(self._chores_done)

    async def _keep_house(self) -> None:
        volume, history, path = self._volume, self._volume.history, self._volume.path
        assert history is not None
        assert path is not None
        floor = history.chain.floor
        while retention.is_low(history) and await retention.free_some(history, volume.primary):
            self._room_came()
        if history.chain.floor != floor:
            volume.emit(events.WINDOW_SHORTENED, volume=volume.name, write=history.chain.floor)
        await history.write_indexes()
        idle = path.completed_write == self._seen_write
        self._seen_write = path.completed_write
        if idle and volume.log.active and volume.is_journaling:
            await path.retire()

    def _chores_done(self) -> None:
        assert self._chores is not None
        try:
            self._chores.result()
        except Cancelled:
            pass
        except EbbtideError as error:
            assert self._volume.path is not None
            self._volume.path.lose_secondary(OSError(EIO, str(error)))
        self._room_came()

    def crowded(self) -> None:
        """The intents nearly fill their slot: retire some beside the writes."""
        assert self._volume.path is not None
        if self._retiring is None or self._retiring.finished:
            self._retiring = self._volume.path.retire(self._volume.log.enough)

    def no_room(self) -> None:
        """The journal is full up to the reserve: fold at once, and wait for it only so long."""
        self._stop_waiting()
        self._waiting_for_room = True
        self._patience = self._volume.post.after(ROOM_PATIENCE_SECONDS, self._no_patience)
        self._do_chores()

    def _room_came(self) -> None:
        history, path = self._volume.history, self._volume.path
        if not self._waiting_for_room or history is None or path is None:
            return
        if history.segments.free > path.reserve and path.mode is Mode.PAUSED:
            self._stop_waiting()
            path.resume()

    def _stop_waiting(self) -> None:
        self._waiting_for_room = False
        if self._patience is not None:
            self._patience.cancel()

    def _no_patience(self) -> None:
        self._stop_waiting()
        assert self._volume.path is not None
        self._volume.path.lose_secondary(OSError(ENOSPC, "the history is full"))
