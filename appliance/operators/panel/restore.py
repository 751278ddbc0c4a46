"""Back to an earlier moment: which, and the plan of it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from appliance.glass import Key
from appliance.operators.answers import (
    ErrorAnswer,
    RestoreAnswer,
    SnapshotDescription,
    VolumeAnswer,
)
from appliance.operators.panel.deed import Deed, begin
from appliance.operators.panel.progress import JobProgress
from appliance.operators.panel.screen import (
    Choice,
    Choices,
    Face,
    Json,
    Reply,
    Screen,
    refusal,
)
from appliance.operators.panel.text import Lines, clock, fit, moment
from appliance.operators.text import words

STEPS: Final = {
    "1 min ago": ("-1m", 60),
    "10 min ago": ("-10m", 600),
    "1 hour ago": ("-1h", 3600),
    "4 hours ago": ("-4h", 4 * 3600),
    "1 day ago": ("-1d", 86400),
    "1 week ago": ("-1w", 7 * 86400),
    "4 weeks ago": ("-4w", 28 * 86400),
}
"""The words on the glass, the point that they name, and its seconds."""
FIELDS: Final = (86400, 3600, 60, 1)
FINE_MAXIMUM: Final = 100 * 86400 - 1


class _Snapshots(msgspec.Struct, frozen=True):
    """What is read of a timeline."""

    snapshots: list[SnapshotDescription]


def restore(face: Face, volume: VolumeAnswer) -> None:
    """Ask for the moment."""
    entries = (
        Choice("By time", lambda: _by_time(face, volume)),
        Choice("By snapshot", lambda: face.open(FindSnapshots(face, volume))),
    )
    face.open(Choices(face, volume.name, lambda: entries, ""))


def _by_time(face: Face, volume: VolumeAnswer) -> None:
    """The steps that the window holds, when it is asked for, and any other time."""
    entries: list[Choice] = []
    if volume.window is not None:
        oldest = datetime.fromisoformat(volume.window.oldest).timestamp()
        entries = [
            Choice(label, _plan(face, volume, point))
            for label, (point, seconds) in STEPS.items()
            if face.wall - seconds >= oldest
        ]
        entries.append(
            Choice("oldest of all", _plan(face, volume, f"write:{volume.window.oldest_write}"))
        )
        entries.append(Choice("other time...", lambda: face.open(FineTime(face, volume))))
    face.open(Choices(face, "Back to when?", lambda: entries, "no past yet"))


class FineTime(Screen):
    """Days, hours, minutes and seconds back: Up and Down change one, Right and Left go from one to
    the next, Select takes it."""

    def __init__(self, face: Face, volume: VolumeAnswer) -> None:
        super().__init__(face)
        self._volume = volume
        self._field = 2
        self._back = 600

    def lines(self) -> Lines:
        days, rest = divmod(self._back, 86400)
        hours, rest = divmod(rest, 3600)
        fields = (f"{days:02}d", f"{hours:02}h", f"{rest // 60:02}m", f"{rest % 60:02}s")
        first = "".join(
            ("▶" if index == self._field else " ") + field for index, field in enumerate(fields)
        )
        return first, fit(clock(self.face.wall - self._back)[:15].ljust(15) + "↵")

    def press(self, key: Key) -> None:
        match key:
            case Key.UP | Key.DOWN:
                by = FIELDS[self._field] * (1 if key is Key.UP else -1)
                self._back = min(FINE_MAXIMUM, max(1, self._back + by))
            case Key.RIGHT:
                self._field = min(len(FIELDS) - 1, self._field + 1)
            case Key.LEFT if self._field:
                self._field -= 1
            case Key.LEFT:
                self.face.back()
            case Key.SELECT:
                _plan(self.face, self._volume, f"-{self._back}s")()


class FindSnapshots(Screen):
    """Waits for the names, newest first."""

    def __init__(self, face: Face, volume: VolumeAnswer) -> None:
        super().__init__(face)
        self._volume = volume
        face.ask(self, "timeline", {"volume": volume.name}, Reply(self._found, self._refused))

    def lines(self) -> Lines:
        return fit("Snapshots"), fit("reading...")

    def _found(self, answer: Json) -> None:
        names = [snapshot.name for snapshot in msgspec.convert(answer, _Snapshots).snapshots]
        entries = [
            Choice(name, _plan(self.face, self._volume, f"snapshot:{name}"))
            for name in reversed(names)
        ]
        self.face.replace(Choices(self.face, "Snapshots", lambda: entries, "none taken yet"))

    def _refused(self, error: ErrorAnswer) -> None:
        self.face.replace(refusal(self.face, error))


def _plan(face: Face, volume: VolumeAnswer, point: str) -> Callable[[], None]:
    """Show what a restore to `point` would do, and do it after a hold.

    What is done is the plan: its very write, not what the same words mean a minute later.
    """

    def facts(planned: Json) -> Sequence[str]:
        plan = msgspec.convert(planned, RestoreAnswer).plan
        when = f"write {plan.write}" if plan.time is None else moment(plan.time)
        told = [f"{volume.name} back to", when, f"{words.size(plan.bytes)} change"]
        if plan.disconnects_hosts:
            told.append("hosts disconnect")
        if volume.primary is not None and volume.primary.serial:
            told.append(f"on disk ..{volume.primary.serial[-4:]}")
        return told

    def request(planned: Json, _: float) -> tuple[str, dict[str, str | bool]]:
        write = msgspec.convert(planned, RestoreAnswer).plan.write
        return "restore", {"volume": volume.name, "to": f"write:{write}", "yes": True}

    deed = Deed(
        "Restore",
        facts,
        request,
        lambda answer: JobProgress(face, volume.name, answer),
        plan=("restore", {"volume": volume.name, "to": point, "plan": True}),
        hold=True,
    )
    return lambda: begin(face, deed)
