"""Any keys at any times, on contacts that bounce and a plate that is pulled, before a service that
answers late, wrongly or not at all.

What must hold: nothing raises, every glass can be shown, and nothing that
cannot be taken back is asked for unless Select alone was down for the whole
hold on a plate that was in all the while.
"""

import logging
from random import Random
from typing import Any, Final, cast

import msgspec

from appliance.boards import read_board
from appliance.cdp.interfaces import DiskIdentity
from appliance.drivers.front_panel import FrontPanel
from appliance.errors import OperatorLocked, PointSuspect, ServiceUnreachable
from appliance.glass import Glass, Key
from appliance.glyphs import GLYPHS
from appliance.loop import Loop
from appliance.operators.answers import (
    AlertAnswer,
    DiskAnswer,
    DisksAnswer,
    ErrorAnswer,
    ImageAnswer,
    JobDescription,
    LabelAnswer,
    OperatorAnswer,
    StatusAnswer,
    VolumeAnswer,
    WindowAnswer,
)
from appliance.operators.descriptions import describe_disk, describe_volume
from appliance.operators.interfaces import AttachedDisk
from appliance.operators.panel.deed import HOLD_SECONDS
from appliance.operators.panel.fingers import Fingers
from appliance.operators.panel.machine import Ask, PanelMachine, Wish
from appliance.operators.panel.plate import Plate
from appliance.operators.panel.step import PanelStep
from appliance.simulated.front_panel import SimulatedPanel
from tests.operators.fake_appliance import NOON, FakeVolume

Json = dict[str, Any]
READINGS: Final = 25
"""Of the keys, in one turn of a life."""
CUSTOM_MAXIMUM: Final = 8
SLACK_SECONDS: Final = 0.05
"""What debouncing adds at one end and takes at the other."""
BOUNCE_SECONDS: Final = 0.06
"""What is no longer than that between two presses may be taken for bouncing."""
STATES: Final = ("protected", "tracking", "syncing", "restoring", "offline", "recovering", "odd")
MOMENT: Final = "2026-11-22T12:00:00.999999999Z"
NAMES: Final = ("finance", "a", "accounts-of-the-whole-year-2026", "x" * 63)
TEXTS: Final = ("short", "a sentence of many words " * 9, "\u2603 \x07 \\ ~ é", "")
JOB: Final[Json] = {
    "number": 1,
    "volume": "finance",
    "kind": "restore",
    "phase": "copying",
    "bytes_total": 100,
    "bytes_done": 42,
    "bytes_scanned": 0,
    "bytes_different": 0,
    "bytes_copied": 42,
    "eta_seconds": 90.5,
    "started": "2026-11-22T12:00:00Z",
    "ended": None,
    "result": None,
    "error": None,
}
VOLUME: Final = describe_volume(FakeVolume("finance", cast("Loop", None)), [])
PLAN: Final[Json] = {
    "schema": 1,
    "volume": "finance",
    "plan": {
        "point": "-10m",
        "write": 1000,
        "time": "2026-11-22T11:50:00.123456789Z",
        "blocks": 512,
        "bytes": 2 << 20,
        "disconnects_hosts": True,
    },
    "job": None,
}
TO_THE_IDLE_PAGE: Final = (Key.LEFT,) * 6


def live(dice: Random, turns: int) -> dict[str, int]:
    """A life of a panel, of `turns` times half a second or so; see `tests.fuzz`."""
    log = logging.getLogger("ebbtide.panel")
    log.setLevel(logging.ERROR)  # it tells each time that it was pulled
    try:
        fuzz = PanelFuzz(dice)
        for _ in range(turns * READINGS):
            fuzz.turn()
    finally:
        log.setLevel(logging.NOTSET)
    assert not fuzz.unanswered, "a request is waited for that nobody answers"
    return {"readings": turns * READINGS, "restores held for": fuzz.destroyed}


class PanelFuzz:
    """One panel, driven by `dice` for as long as `turn` is called.  `destroyed` counts what was
    asked for that cannot be taken back."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        board = read_board("lcd-plate")
        self._part = SimulatedPanel(board)
        self._machine = PanelMachine(_Tries() if dice.random() < 0.3 else None)
        self._fingers = Fingers()
        self._step = PanelStep(
            self._machine, Plate(FrontPanel(self._part, board, self._part.sleep)), self._fingers
        )
        self._now = dice.uniform(0, 1e6)
        self._wall = NOON / 1e9
        self._plugged = True
        self._down: set[Key] = set()
        self._pressed_since: float | None = None
        """Since when Select alone is down, as fingers know it."""
        self._broken: tuple[float, float | None] = 0.0, None
        """When something else than Select alone was down, and what was before."""
        self._planned: list[tuple[Key, float]] = []
        self._late: list[Wish] = []
        self.destroyed = 0

    def turn(self) -> None:
        """One reading of the keys, and whatever comes between two."""
        dice = self._dice
        stalled = dice.random() < 0.001
        passed = dice.uniform(0.6, 90) if stalled else dice.uniform(0.01, 0.03)
        self._now += passed
        self._wall += dice.choice((passed, passed, passed, -3600, 1e6)) if stalled else passed
        if stalled:
            self._pressed_since, self._broken = None, (0.0, None)
        self._move_fingers()
        if dice.random() < (0.001 if self._plugged else 0.01):
            self._plug(not self._plugged)
        if dice.random() < 0.002:
            # While Select may be down, only one that breaks off for sure: a reading is lost.
            up = self._pressed_since is None and self._now - self._broken[0] > BOUNCE_SECONDS
            after = dice.randrange(40) if up else 0
            self._part.nak(dice.randrange(1, 3), after=after)
            self._pressed_since, self._broken = None, (0.0, None)
        _check(self._step.turn(self._now, self._wall))
        for wish in self._machine.wishes():
            self._judge(wish)
            self._late.append(wish)
        if self._late and dice.random() < 0.3:
            self._answer(self._late.pop(0))
        if dice.random() < 0.02:
            self._tell()

    @property
    def unanswered(self) -> bool:
        """More is waited for than was asked: it would grow for ever."""
        return len(self._machine._waiting) > len(self._late)

    # Fingers

    def _move_fingers(self) -> None:
        dice = self._dice
        if not self._planned and dice.random() < 0.05:
            if dice.random() < 0.4:
                selects = (Key.SELECT,) * dice.randrange(4, 7)
                self._planned = [
                    (key, dice.uniform(0.06, 0.2)) for key in (*TO_THE_IDLE_PAGE, *selects)
                ]
                self._planned.append((Key.SELECT, dice.uniform(1.0, 5.0)))
            else:
                self._planned = [(dice.choice(list(Key)), dice.uniform(0.01, 1.5))]
        if self._planned:
            key, left = self._planned[0]
            if key not in self._down and left > 0:
                self._set({key})
            self._planned[0] = key, left - 0.02
            if left <= 0:
                self._set(set())
                if left <= -0.15:
                    self._planned.pop(0)
        if dice.random() < 0.002:
            self._set({key for key in Key if dice.random() < 0.4})
        elif dice.random() < 0.01 and not self._down:
            self._bounce()

    def _bounce(self) -> None:
        key = self._dice.choice(list(Key))
        self._part.press(key)
        self._step.turn(self._now, self._wall)
        self._now += 0.01
        self._part.release(key)

    def _set(self, down: set[Key]) -> None:
        if down == self._down:
            return
        for key in Key:
            if key in down:
                self._part.press(key)
            else:
                self._part.release(key)
        self._down = down
        if down != {Key.SELECT}:
            self._broken = self._now, self._pressed_since
            self._pressed_since = None
        elif self._plugged:
            at, since = self._broken
            bounced = since is not None and self._now - at < BOUNCE_SECONDS
            self._pressed_since = since if bounced else self._now

    def _plug(self, plugged: bool) -> None:
        self._plugged = plugged
        if plugged:
            self._part.plug(eight_bits=self._dice.random() < 0.5)
        else:
            self._part.unplug()
        self._pressed_since, self._broken = None, (0.0, None)

    # The service

    def _judge(self, wish: Wish) -> None:
        if not isinstance(wish, Ask) or not wish.arguments.get("yes"):
            return
        assert wish.verb == "restore"
        assert wish.arguments["to"] == "write:1000"
        since = self._pressed_since
        if since is None and self._now - self._broken[0] < BOUNCE_SECONDS:
            since = self._broken[1]  # let go at the very end, which may yet be a bounce
        assert since is not None, "nobody held Select"
        held = self._now - since
        assert held >= HOLD_SECONDS - SLACK_SECONDS, f"held for {held} s only"
        self.destroyed += 1

    def _answer(self, wish: Wish) -> None:
        dice = self._dice
        if not isinstance(wish, Ask):
            self._machine.checked(wish.number, dice.random() < 0.7)
        elif dice.random() < 0.15:
            errors = (
                ServiceUnreachable(socket="s", reason="it closed the connection"),
                OperatorLocked(actor="root at console", since="2026-11-22T12:00:00Z"),
                PointSuspect(point="-10m", from_write=1, until=9),
            )
            self._machine.refused(wish.number, ErrorAnswer.of(dice.choice(errors)))
        else:
            self._machine.answered(wish.number, self._answer_to(wish))

    def _answer_to(self, ask: Ask) -> Json:
        match ask.verb:
            case "restore" if ask.arguments.get("plan"):
                return PLAN
            case "restore":
                return PLAN | {"job": JOB}
            case "sync":
                return {"schema": 1, "volume": "finance", "job": self._dice.choice((JOB, None))}
            case "timeline":
                return {"schema": 1, "snapshots": [_snapshot(name) for name in NAMES]}
            case "snapshot":
                return {
                    "schema": 1,
                    "volume": "finance",
                    "done": "taken",
                    "snapshot": _snapshot(str(ask.arguments["name"])),
                }
            case _:
                return {"schema": 1, "operator": None}

    def _tell(self) -> None:
        dice = self._dice
        if dice.random() < 0.02:
            self._machine.lose_service()
            return
        operator = OperatorAnswer(dice.choice(TEXTS), MOMENT)
        status = StatusAnswer(
            volumes=[self._volume(name) for name in NAMES if dice.random() < 0.6],
            operator=dice.choice((None, None, operator)),
            image=ImageAnswer("1", "b", "A", True, [AlertAnswer("EV924", dice.choice(TEXTS))])
            if dice.random() < 0.2
            else None,
        )
        disks = [_disk(text) for text in TEXTS if dice.random() < 0.9]
        self._machine.hear(status, DisksAnswer(disks=disks))

    def _volume(self, name: str) -> VolumeAnswer:
        dice = self._dice
        job = msgspec.convert(JOB, JobDescription)
        ended = msgspec.structs.replace(job, result=dice.choice((None, "done", "failed")))
        window = WindowAnswer("2026-11-20T12:00:00Z", MOMENT, 1000, 2000)
        return msgspec.structs.replace(
            VOLUME,
            name=name,
            state=dice.choice(STATES),
            primary=dice.choice((None, LabelAnswer("p", "/dev/sda", "é" * 40))),
            secondary=None,
            window=dice.choice((None, window, window)),
            job=dice.choice((None, job)),
            last_job=dice.choice((None, ended)),
            alerts=[
                AlertAnswer(dice.choice(("EV202", "EV411", "XX1")), text)
                for text in TEXTS
                if dice.random() < 0.3
            ],
        )


class _Tries:
    """Never makes wait."""

    seconds = 0.0

    def count(self) -> None:
        pass

    def clear(self) -> None:
        pass


def _snapshot(name: str) -> Json:
    return {"name": name, "write": 1000, "time": "2026-11-22T12:00:00Z", "pinned": False}


def _disk(text: str) -> DiskAnswer:
    attached = AttachedDisk(
        DiskIdentity(text or "-", text, text, text), 1, 512, 512, True, "primary", "finance", text
    )
    told = describe_disk(attached)
    return msgspec.structs.replace(told, health="failing", health_reason=text)


def _check(glass: Glass) -> None:
    shown = set("".join(glass.lines))
    assert all(" " <= character <= "~" or character in GLYPHS for character in shown), glass
    assert len(shown & GLYPHS.keys()) <= CUSTOM_MAXIMUM, glass
