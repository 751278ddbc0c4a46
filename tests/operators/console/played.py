"""A console with nothing real around it: a service of canned answers, a password in the clear."""

import re
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from appliance.errors import (
    NeedsConsent,
    OperatorLocked,
    PasswordUnfit,
    PointOutsideWindow,
    ServiceUnreachable,
)
from appliance.operators.access.lockout import Lockout
from appliance.operators.access.passwords import SHORTEST, PasswordState
from appliance.operators.answers import (
    AlertAnswer,
    DiskAnswer,
    ErrorAnswer,
    HistoryAnswer,
    LabelAnswer,
    VolumeAnswer,
    WindowAnswer,
)
from appliance.operators.console.conversation import Manner, Note
from appliance.operators.console.machine import Abandon, Console, Errand
from appliance.operators.console.session import make_session
from appliance.operators.control.client import Refused
from tests.operators.console.line_rig import PASSWORD

Json = dict[str, Any]
SERIAL = "WD-77X7Q9"
WORDS = "RESTORE X7Q9"
"""What confirms a restore of the played volume."""
HOLDER = "root at console ttyS9"
CTRL_C, CTRL_D, CTRL_L, CTRL_U = "\x03", "\x04", "\x0c", "\x15"
MIB = 1 << 20


def job(number: int, kind: str, result: str | None = "done") -> Json:
    return {
        "number": number,
        "volume": "finance",
        "kind": kind,
        "phase": "copying" if result is None else "done",
        "bytes_total": 4 * MIB,
        "bytes_done": 4 * MIB if result else MIB,
        "bytes_scanned": 0,
        "bytes_different": 0,
        "bytes_copied": 4 * MIB if result else MIB,
        "eta_seconds": None if result else 3.0,
        "started": "2026-11-22T12:00:00.000000000Z",
        "ended": "2026-11-22T12:00:05.000000000Z" if result else None,
        "result": result,
        "error": None,
    }


def refused(error: Exception) -> Refused:
    return Refused(ErrorAnswer.of(error))


class PlayedService:
    """Answers like `cdpd` with a volume `finance`; every request stands in `asked`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Json]] = []
        self.events = 3
        self.locked = False
        self.away = False

    def answer(self, verb: str, arguments: Json) -> Json | Exception:
        self.asked.append((verb, arguments))
        if self.away:
            return ServiceUnreachable(socket="control.sock", reason="connection refused")
        answers: dict[str, Callable[[Json], Json | Exception]] = {
            "status": lambda _: {"operator": None, "volumes": [self._volume()]},
            "timeline": lambda _: self._timeline(),
            "disks": lambda _: {"disks": [self._disk(name) for name in "abps"]},
            "lock": lambda _: self._lock(),
            "unlock": lambda _: {"operator": None},
            "restore": self._restore,
            "release": lambda given: self._consent(given, {"volume": "finance"}),
            "give-up": lambda given: self._consent(given, {"volume": "finance"}),
            "protect": lambda given: self._consent(given, self._started("baseline")),
            "snapshot": lambda given: {
                "volume": "finance",
                "done": "taken",
                "snapshot": self._snapshot(given["name"]),
            },
            "sync": lambda _: self._started("resync"),
            "view create": lambda given: {"view": self._view(given["point"])},
            "view list": lambda _: {"views": [self._view("-10m")]},
            "view drop": lambda given: {"dropped": given["view"]},
            "set": lambda _: {"volume": "finance", "settings": {"ack": "both"}},
            "job list": lambda _: {"jobs": [job(1, "resync"), job(2, "verify", None)]},
            "job wait": lambda _: {"job": job(2, "verify")},
            "job cancel": lambda _: {"job": job(2, "verify", "cancelled")},
            "job pause": lambda _: {"job": job(2, "verify", None)},
            "events": lambda _: {"events": [self._event(n) for n in range(self.events)]},
            "panel": lambda _: {
                "lines": ["finance      ███", "protected  ▲▼   "],
                "backlight": "green",
            },
        }
        return answers[verb](arguments)

    def _volume(self) -> Json:
        volume = VolumeAnswer(
            name="finance",
            state="protected",
            service="online",
            protection="protected",
            size=64 * MIB,
            write_number=1200,
            primary=LabelAnswer("p", "/dev/sdp", SERIAL),
            secondary=LabelAnswer("s", "/dev/sds", "SN-s"),
            dirty_regions=0,
            dirty_bytes=0,
            window=self._window(),
            history=HistoryAnswer(128 * MIB, 32 * MIB),
            job=None,
            last_job=None,
            gaps=0,
            suspect_maps=0,
            alerts=[AlertAnswer("EV202", "the secondary is away")],
        )
        told: Json = msgspec.to_builtins(volume)
        return told

    def _window(self) -> WindowAnswer:
        return WindowAnswer(
            oldest="2026-11-22T11:40:00.000000000Z",
            newest="2026-11-22T12:00:00.000000000Z",
            oldest_write=1,
            newest_write=1200,
        )

    def _timeline(self) -> Json:
        return {
            "volume": "finance",
            "window": msgspec.to_builtins(self._window()),
            "maps": [],
            "snapshots": [self._snapshot("before-upgrade")],
            "gaps": [],
        }

    def _snapshot(self, name: str) -> Json:
        return {"name": name, "write": 450, "time": "2026-11-22T11:48:00.0Z", "pinned": True}

    def _disk(self, name: str) -> Json:
        disk = DiskAnswer(
            id=name,
            node=f"/dev/sd{name}",
            serial=SERIAL,
            model="Model \x1b[31m 9é",
            wwn="",
            size=64 * MIB,
            logical_block=512,
            physical_block=4096,
            direct=True,
            role="",
            volume=None,
            state="free",
            health="failing",
            health_reason="worn out – 99 %",
            temperature=41,
        )
        told: Json = msgspec.to_builtins(disk)
        return told

    def _event(self, number: int) -> Json:
        return {
            "time": "2026-11-22T12:00:00.0Z",
            "code": "EV301",
            "severity": "info",
            "text": f"thing {number} happened to {'x' * (number % 10)}",
        }

    def _view(self, point: str) -> Json:
        return {
            "name": f"finance@{point}",
            "volume": "finance",
            "point": point,
            "write": 1000,
            "time": None,
        }

    def _lock(self) -> Json | Exception:
        if self.locked:
            return refused(OperatorLocked(actor=HOLDER, since="2026-11-22T12:00:00Z"))
        return {"operator": {"actor": "root", "since": "2026-11-22T12:00:00Z"}}

    def _started(self, kind: str) -> Json:
        return {"volume": "finance", "job": job(3, kind, None)}

    def _consent(self, given: Json, answer: Json) -> Json | Exception:
        if not given.get("yes"):
            return refused(NeedsConsent(consequence="the past of finance would be lost"))
        return answer

    def _restore(self, given: Json) -> Json | Exception:
        if given["to"] == "-1d":
            return refused(PointOutsideWindow(point="-1d", oldest=1, newest=1200))
        plan = {
            "point": given["to"],
            "write": 1000,
            "time": "2026-11-22T11:50:00.0Z",
            "blocks": 512,
            "bytes": 2 * MIB,
            "disconnects_hosts": True,
        }
        return {
            "volume": "finance",
            "plan": plan,
            "job": job(3, "restore") if given.get("yes") else None,
        }


class PlayedPasswords:
    """The password in the clear."""

    fixed = False

    def __init__(self, password: str | None = PASSWORD) -> None:
        self.password = password
        self.damaged = False

    @property
    def state(self) -> PasswordState:
        if self.damaged:
            return PasswordState.DAMAGED
        return PasswordState.UNSET if self.password is None else PasswordState.SET

    def is_right(self, password: str) -> bool:
        return password == self.password and not self.damaged

    def change(self, password: str) -> None:
        if len(password) < SHORTEST:
            raise PasswordUnfit(reason="it is short")
        self.password = password


class PlayedLockout(Lockout):
    """Kept in memory: a fuzzer has no time for a disk."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))

    def _read(self) -> int:
        return 0

    def _write(self) -> None:
        pass


class PlayedConsole:
    """The machine with a played world; `now` is its clock.  Requests are answered at once, unless
    `holding`: then they wait in `waiting`."""

    def __init__(self, lockout: Lockout, password: str | None = PASSWORD) -> None:
        self.passwords = PlayedPasswords(password)
        self.lockout = lockout
        self.service = PlayedService()
        self.manner = Manner()
        self.machine = Console(
            make_session(self.passwords, self.lockout, "Ebbtide on box", self.manner),
            self.manner,
            idle_seconds=600,
        )
        self.now = 1000.0
        self.holding = False
        self.waiting: deque[Errand] = deque()
        self.abandoned = 0
        self.notes: list[Note] = []
        self.machine.connect(self.now)

    def type(self, text: str | bytes) -> str:
        """Bytes from the line, and what comes back when all is taken at once."""
        data = text if isinstance(text, bytes) else text.encode("ascii")
        self.machine.feed(data, self.now)
        return self.read()

    def line(self, text: str) -> str:
        return self.type(text + "\r")

    def wait(self, seconds: float) -> str:
        """Time goes by."""
        self.now += seconds
        self.machine.tick(self.now)
        return self.read()

    def read(self) -> str:
        """Everything that is ready, as text."""
        taken = bytearray()
        while True:
            data = self.machine.take(100)
            taken += data
            if not self.settle() and not data:
                return taken.decode("ascii")

    def settle(self) -> bool:
        """Do what the machine wants done; was there anything?"""
        orders = self.machine.orders
        done = bool(orders)
        while orders:
            order = orders.popleft()
            if isinstance(order, Abandon):
                self.abandoned += 1
                self.waiting.clear()
            elif isinstance(order, Note):
                self.notes.append(order)
            else:
                self.waiting.append(order)
        if not self.holding:
            while self.waiting:
                self.reply()
        return done

    def reply(self) -> None:
        """Answer the request that waits longest."""
        request = self.waiting.popleft()
        answer = self.service.answer(request.verb, dict(request.arguments))
        self.machine.answered(request.number, answer, self.now)

    def log_in(self) -> str:
        return self.line(PASSWORD)


def ending(text: str) -> str:
    """The line with which the last answer ended."""
    return re.findall(r"^(OK|ERR EB\d{3})\r$", text, re.MULTILINE)[-1]  # type: ignore[no-any-return]
