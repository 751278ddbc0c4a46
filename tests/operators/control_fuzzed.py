"""The control socket under siege: a real `cdpd` with a volume, and peers that mean it no good.

Peers send garbage, torn and overlong lines, floods, and every verb with wild
arguments, but never the consent; some do not read, some leave in the middle.
Beside them an honest client looks, and a host writes and reads.  One service
stands for all lives, so that what it keeps of each adds up.
"""

import atexit
import contextlib
import ctypes
import hashlib
import json
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from appliance.errors import ServiceBusy
from appliance.events import (
    DISK_WIPED,
    JOB_STARTED,
    RESTORED,
    VOLUME_CREATED,
    VOLUME_RELEASED,
)
from appliance.hosts.nbd import wire
from appliance.operators.control.client import ControlClient, Refused
from appliance.operators.control.messages import REQUEST_MAXIMUM
from appliance.operators.parameters import Parameter
from appliance.operators.verbs import VERBS
from tests.service.nbd_client import NbdClient
from tests.service.service_process import MIB, Service

PEERS: Final = 40
LOOK_EVERY: Final = 8
"""Acts between two looks of the honest."""
PATIENCE_SECONDS: Final = 10.0
"""The longest that an honest client may ever wait, on a machine with other work."""
WARM_LIVES: Final = 40
"""Until then the most that waits at once has been there, and the allocator keeps it."""
GROWTH_BYTES: Final = 16 * MIB
"""What the service may hold more than then."""
MOST_BYTES: Final = 128 * MIB
libc: Final = ctypes.CDLL(None)
LOGS_BYTES: Final = 9 * MIB
"""Both files of the event log, and the line that fills each."""
BLOCK: Final = 4096
SECONDARY: Final = 24 * MIB
DESTROYED: Final = {VOLUME_RELEASED, RESTORED, DISK_WIPED, VOLUME_CREATED}
EVERYTHING: Final = b'{"id":1,"verb":"events","args":{"limit":4096}}\n'
NASTY: Final = (
    *("", " ", "\0", "\x1b[2J", "../../etc/passwd", "%s%n", "ⅷ", "\u202e", "A" * 255, "A" * 3000),
    *("'; --", "-1", "NaN", "finance\n", "--yes", "YES", "{volume}", "\ud7ff", "𝔘" * 200),
)
POINTS: Final = (
    *("-10m", "-1s", "-2s", "now", "write:0", "write:99999999999", "snapshot:s1", "snapshot:s2"),
    *("2026-11-22T10:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "-9999999d"),
)


@dataclass
class Peer:
    """A hostile connection.  Without `reads` it lets the answers pile up."""

    socket: socket.socket
    reads: bool
    unsent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    gone: bool = False

    def pump(self) -> int:
        """Send and receive what goes without waiting; how many answers came."""
        if self.gone:
            return 0
        try:
            if self.unsent:
                del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True
        if not self.reads:
            return 0
        try:
            data = self.socket.recv(1 << 18)
            self.gone = self.gone or not data
            self.received += data
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True
        *lines, rest = self.received.split(b"\n")
        self.received = rest
        for line in lines:
            check_answer(line)
        return len(lines)


def check_answer(line: bytes | bytearray) -> None:
    """Whatever was asked: an object in a line, and nothing that the service did not expect."""
    answer = json.loads(line)
    assert isinstance(answer, dict)
    error = answer.get("error")
    if error is not None:
        assert error["code"] != "EB900", error
        assert error["remedy"], error
        assert "Traceback" not in error["sentence"], error


class Siege:
    """A service in the folder `room`, and the lives against it."""

    def __init__(self, room: Path) -> None:
        self.service = Service(room)
        for name in ("alpha", "beta", "gamma"):
            self.service.disk(name, SECONDARY if name == "beta" else 6 * MIB)
        self._somebody_s = self.service.disks / "gamma.img"
        subprocess.run(["mke2fs", "-q", self._somebody_s], check=True, timeout=20)
        self._theirs = self._digest()
        self.service.start("alpha", "beta", "gamma")
        self.service.protect("finance", "alpha", "beta")
        self._honest = contextlib.ExitStack()
        self._host = self._honest.enter_context(NbdClient(self.service.nbd, "finance"))
        self._contents = bytearray(self._host.size)
        self._looker = self._honest.enter_context(ControlClient(self.service.socket, face="honest"))
        self._fill_history()
        self._fill_events()
        self._seen = self._newest_event()
        self.lives = 0
        self.warm = self.most = 0
        self.slowest = 0.0

    def close(self) -> None:
        self._honest.close()
        self.service.kill()

    def live(self, dice: random.Random, turns: int) -> dict[str, int]:
        """See `tests.fuzz.Live`."""
        peers: list[Peer] = []
        counted = {"acts": 0, "answers": 0, "looks": 0, "host writes": 0}
        try:
            for turn in range(turns):
                self._act(dice, peers)
                counted["acts"] += 1
                counted["answers"] += sum(peer.pump() for peer in peers)
                if turn % LOOK_EVERY == 0:
                    self._look()
                    self._write(dice)
                    counted["looks"] += 1
                    counted["host writes"] += 1
        finally:
            for peer in peers:
                peer.socket.close()
        self._check()
        libc.malloc_trim(0)  # this process is the siege's own: its memory says nothing
        return counted

    # Hostile

    def _act(self, dice: random.Random, peers: list[Peer]) -> None:
        for peer in [peer for peer in peers if peer.gone]:
            peer.socket.close()
            peers.remove(peer)
        if not peers or (len(peers) < PEERS and dice.random() < 0.15):
            peers.append(self._connect(dice))
        peer = dice.choice(peers)
        match dice.randrange(13):
            case 0:
                peer.unsent += dice.randbytes(dice.choice((1, 40, 5000)))
            case 1:
                line = wild_request(dice)
                peer.unsent += line[: dice.randrange(len(line))]
            case 2:
                peer.unsent += b"[" * dice.choice((50, REQUEST_MAXIMUM - 1, REQUEST_MAXIMUM + 1))
            case 3:
                peer.unsent += wild_request(dice) * dice.choice((10, 200))
            case 4:
                self._leave(dice, peer)
            case 5:
                peer.reads = not peer.reads
            case 6:
                peer.unsent += json.dumps({"face": wild_text(dice)}).encode() + b"\n"
            case 7:
                peer.reads = False
                peer.unsent += EVERYTHING * 500
            case _:
                peer.unsent += wild_request(dice)
        del peer.unsent[1 << 20 :]

    def _connect(self, dice: random.Random) -> Peer:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(PATIENCE_SECONDS)
        connected.connect(str(self.service.socket))
        connected.setblocking(False)
        return Peer(connected, reads=dice.random() < 0.8)

    def _leave(self, dice: random.Random, peer: Peer) -> None:
        how = dice.randrange(3)
        with contextlib.suppress(OSError):
            if how == 0:
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == 1:
                peer.socket.shutdown(socket.SHUT_WR)
                return
        peer.socket.close()
        peer.gone = True

    # Honest

    def _look(self) -> None:
        began = time.monotonic()
        (volume,) = self._looker.request("status", {})["volumes"]
        self._waited(began)
        assert volume["service"] == "online"

    def _write(self, dice: random.Random) -> None:
        at = dice.randrange(self._host.size // BLOCK) * BLOCK
        data = dice.randbytes(BLOCK)
        began = time.monotonic()
        self._host.write(at, data)
        self._contents[at : at + BLOCK] = data
        assert self._host.read(at, BLOCK) == data
        self._waited(began)

    def _waited(self, began: float) -> None:
        waited = time.monotonic() - began
        self.slowest = max(self.slowest, waited)
        assert waited < PATIENCE_SECONDS, f"somebody honest waited {waited:.1f} s"

    # What must hold after a life

    def _check(self) -> None:
        with self._newcomer() as newcomer:
            newcomer.request("status", {})
            for event in newcomer.request("events", {"after": self._seen, "limit": 4096})["events"]:
                self._seen = event["number"]
                assert event["code"] not in DESTROYED, event
                assert (event["code"], event["fields"].get("kind")) != (JOB_STARTED, "restore")
        assert self._host.whole() == self._contents, "the volume is not what its host wrote"
        assert self._digest() == self._theirs, "a disk that nobody gave was written"
        self.service.check_log()
        logs = sum(file.stat().st_size for file in (self.service.room / "state").iterdir())
        assert logs < LOGS_BYTES
        self.lives += 1
        resident = self._resident()
        self.most = max(self.most, resident)
        if self.lives == WARM_LIVES:
            self.warm = resident
        assert resident < MOST_BYTES
        if self.warm:
            assert resident < self.warm + GROWTH_BYTES, f"{resident - self.warm} bytes more"

    def _newcomer(self) -> ControlClient:
        """Peers that have gone count until the service has read to their end."""
        began = time.monotonic()
        while True:
            try:
                return ControlClient(self.service.socket, face="honest", seconds=20)
            except Refused as refused:
                if refused.answer.code != ServiceBusy.code:
                    raise
            self._waited(began)
            time.sleep(0.01)  # it tells nobody when there is room

    def _resident(self) -> int:
        assert self.service.process is not None
        statm = Path(f"/proc/{self.service.process.pid}/statm").read_text()
        return int(statm.split()[1]) * 4096

    def _fill_history(self) -> None:
        """More than it holds: from here on the oldest is folded, and only a leak grows."""
        data = bytes(BLOCK)
        for at in range(0, SECONDARY, BLOCK):
            self._host.submit(wire.COMMAND_WRITE, at % self._host.size, BLOCK, data)
            while self._host.in_flight > 32:
                self._host.collect()
        while self._host.in_flight:
            self._host.collect()

    def _fill_events(self) -> None:
        """As many as the service remembers."""
        for _ in range(4096):
            with contextlib.suppress(Refused):
                self._looker.request("job cancel", {"job": 1 << 60})

    def _newest_event(self) -> int:
        (event,) = self._looker.request("events", {"limit": 1})["events"]
        number: int = event["number"]
        return number

    def _digest(self) -> bytes:
        return hashlib.sha256(self._somebody_s.read_bytes()).digest()


def wild_request(dice: random.Random) -> bytes:
    """A line that asks for something, soundly or not; never with consent."""
    destroyers = [verb for verb in VERBS.values() if verb.danger == "destroys"]
    verb = dice.choice(destroyers if dice.random() < 0.4 else list(VERBS.values()))
    name, number = verb.name, dice.choice((1, dice.randrange(1 << 30), "a"))
    args = {
        parameter.name: sound_value(dice, parameter)
        for parameter in verb.parameters
        if parameter.required or dice.random() < 0.3
    }
    request: dict[str, object] = {"id": number, "verb": name, "args": args}
    if dice.random() < 0.5:
        spoil(dice, request, args)
    assert args.get("yes") is not True
    return json.dumps(request).encode() + b"\n"


def spoil(dice: random.Random, request: dict[str, object], args: dict[str, Any]) -> None:
    """Make one thing wrong, or two."""
    for _ in range(dice.choice((1, 1, 2))):
        match dice.randrange(6):
            case 0:
                request["id"] = dice.choice((-(1 << 80), None, "x" * 65, 1.5, []))
            case 1:
                request[dice.choice(("verb", wild_text(dice)))] = wild_text(dice)
            case 2:
                args[wild_text(dice)] = 1
            case 3 if args:
                del args[dice.choice(list(args))]
            case _ if args:
                garbage: tuple[Any, ...] = (
                    None,
                    0,
                    -1,
                    1 << 70,
                    0.5,
                    [],
                    ["x"] * 20,
                    {},
                    {"a": 1},
                    "true",
                    1,
                )
                args[dice.choice(list(args))] = dice.choice((*garbage, wild_text(dice)))
            case _:
                args["yes"] = "true"


def sound_value(dice: random.Random, parameter: Parameter) -> Any:
    """What fits, and may even be there."""
    match parameter.type:
        case "switch":
            return dice.random() < 0.5 and parameter.name != "yes"
        case "whole":
            return dice.choice((0, 1, 2, 3, 50, 4096, 1 << 62))
        case "seconds":
            return dice.choice((0.0, 0.1, 3, 10.0))
        case "choice":
            return dice.choice(parameter.choices)
        case "assignments":
            return dice.choice((["ack=both"], ["ack=primary"], ["throttle=16-max"]))
        case "disks":
            return ["/dev/null"]
        case "lines":
            return ["x" * 16, "█▲" * 8]
        case "name" if parameter.name == "volume":
            return dice.choice(("finance", "finance", "finance", "other"))
        case "name":
            return f"s{dice.randrange(30)}"
        case "text" if parameter.name in ("to", "point"):
            return dice.choice(POINTS)
        case "text":
            return dice.choice(("alpha", "beta", "gamma", "EB602", "finance@snapshot:s1"))


def wild_text(dice: random.Random) -> str:
    return dice.choice(NASTY)


_sieges: list[Siege] = []


def live(dice: random.Random, turns: int) -> dict[str, int]:
    """See `tests.fuzz.Live`; the service stands until the process ends."""
    if not _sieges:
        room = Path(tempfile.mkdtemp(prefix="siege-"))
        _sieges.append(Siege(room))
        atexit.register(_raise_siege, room)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no service is left behind
    return _sieges[0].live(dice, turns)


def _raise_siege(room: Path) -> None:
    siege = _sieges.pop()
    print(
        f"the service: {siege.warm // MIB} MiB resident after life {WARM_LIVES}, at most"
        f" {siege.most // MIB}; somebody honest waited {siege.slowest * 1000:.0f} ms at most"
    )
    siege.close()
    shutil.rmtree(room)
