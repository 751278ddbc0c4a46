"""One life of the NBD server among strangers, in the clear or with TLS; see `tests.fuzz`.

A friend writes and reads, and holds every answer against what it wrote.
Around it strangers come with anything: noise, options, requests, halves of
handshakes, records of others, certificates that do not count.  They are not on
the allow list, so nothing of what they send may reach a disk.  (In a free life
in the clear they are, and only bounds and endurance are held.)

After each act the bounds hold; at the end nothing is left of anybody.
"""

import atexit
import contextlib
import ctypes
import functools
import gc
import logging
import random
import shutil
import ssl
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.cdp.interfaces import DISCARD, WRITE, ZERO
from appliance.config import AllowRule
from appliance.hosts.nbd import credentials, wire
from appliance.hosts.nbd.budget import Budget
from appliance.hosts.nbd.buffers import RING
from appliance.hosts.nbd.credentials import Credentials
from appliance.hosts.nbd.exports import Exports
from appliance.hosts.nbd.guests import AllowList, Guest
from appliance.hosts.nbd.session import Session
from tests.hosts.nbd.authority import Authority
from tests.hosts.nbd.host_words import info_or_go, option, read, request, write
from tests.hosts.nbd.memory_target import CountingPool, MemoryTarget, PlayedSource
from tests.hosts.nbd.played_host import Answer, PlayedHost
from tests.hosts.nbd.secure_host import SecureHost

SIZE: Final = 1 << 20
LIMIT: Final = 64 << 20
STRANGERS: Final = 6


@dataclass(frozen=True)
class Keys:
    """Who can shake hands with the appliance."""

    box: Credentials
    friend: ssl.SSLContext
    older: ssl.SSLContext
    """The friend's, with TLS 1.2."""
    strangers: tuple[ssl.SSLContext, ...]
    """With a name that is not listed, with a foreign certificate, with none."""


@functools.cache
def keys() -> Keys:
    """Made once for all lives."""
    place = Path(tempfile.mkdtemp(prefix="ebbtide-fuzz-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    ours, theirs = Authority(place / "ours"), Authority(place / "theirs")
    friend = ours.host("db1.example")
    older = friend.context()
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    return Keys(
        credentials.load(ours.appliance()),
        friend.context(),
        older,
        (
            ours.host("db2.example").context(),
            theirs.host("db1.example", trusts=ours).context(),
            ours.host().context(),
        ),
    )


class _Errors(logging.Handler):
    """No input may cause an error of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage())


@dataclass
class World:
    """An appliance in memory, and who is connected to it."""

    dice: random.Random
    secure: bool
    free: bool
    target: MemoryTarget = field(default_factory=lambda: MemoryTarget(SIZE))
    pool: CountingPool = field(default_factory=CountingPool)
    overheard: bytes = b""
    """What the friend has said last, as it was on the wire."""
    strangers: list[PlayedHost] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.source = PlayedSource(("finance", self.target))
        self.exports = Exports(self.source)
        self.budget = Budget(lambda: None, LIMIT)
        self.model = bytearray(SIZE)
        self.friend = self.host(self.dice.choice([keys().friend, keys().older]), Guest())
        self.enter()

    def host(self, context: ssl.SSLContext, guest: Guest) -> PlayedHost:
        if self.secure:
            allow = AllowList([AllowRule(name="db1.example")])
            return SecureHost(
                self.exports,
                self.budget,
                self.pool,
                credentials=keys().box,
                context=context,
                allow=allow,
                split=self.dice.choice([1 << 30, 1 << 14, 1000]),
            )
        host = PlayedHost(self.exports, self.budget, self.pool)
        host.session.close()
        host.session = Session(self.exports, self.budget, self.pool, host._roused, guest)
        host.channel = host.session
        return host

    def enter(self) -> None:
        """The friend comes, or comes again."""
        if isinstance(self.friend, SecureHost):
            self.friend.start_tls()
            self.friend.shake_hands()
        else:
            self.friend.greet()
        self.friend.tell(info_or_go(wire.OPTION_GO, "finance"))
        assert self.friend.replies(wire.OPTION_GO)[-1] == (wire.REPLY_ACK, b"")

    # What the friend does

    def friend_writes(self) -> None:
        start = self.dice.randrange(SIZE // 512) * 512
        length = min(SIZE - start, self.dice.choice([512, 4096, 70_144, 300_032]))
        data = self.dice.randbytes(length)
        self.friend.tell(write(start, data, cookie=7))
        self.target.deliver()
        if not self.free:
            self.model[start : start + length] = data
        assert self.friend.answers() == [(7, Answer())]
        self.overheard = write(start, data)

    def friend_reads(self) -> None:
        start = self.dice.randrange(SIZE // 512) * 512
        length = min(SIZE - start, self.dice.choice([512, 4096, 70_144, 300_032]))
        self.friend.reads[8] = length
        self.friend.tell(read(start, length, cookie=8))
        self.target.deliver()
        ((cookie, answer),) = self.friend.answers()
        assert (cookie, answer.error) == (8, 0)
        if not self.free:
            assert answer.data == self.model[start : start + length]

    def friend_comes_again(self) -> None:
        """It had asked for something, and was in the middle of a write that never counts."""
        self.friend.tell(read(0, 70_144))
        self.friend.tell(write(0, self.dice.randbytes(300_032))[: self.dice.randrange(300_000)])
        self.friend.channel.close()
        self.target.deliver()
        self.friend = self.host(self.dice.choice([keys().friend, keys().older]), Guest())
        self.enter()

    # What strangers do

    def stranger_comes(self) -> None:
        if len(self.strangers) == STRANGERS:
            self.strangers.pop(self.dice.randrange(STRANGERS)).channel.close()
        guest = Guest() if self.free else Guest(frozenset())
        host = self.host(self.dice.choice(keys().strangers), guest)
        self.strangers.append(host)
        if self.dice.random() < 0.8:
            host.greet(self.dice.choice([3, 3, 3, 1, 0]))
        if isinstance(host, SecureHost) and self.dice.random() < 0.6:
            host.tell(option(wire.OPTION_STARTTLS))
            host.settle()
            host.said.clear()
            if self.dice.random() < 0.7 and not host.channel.over:
                with contextlib.suppress(ssl.SSLError):
                    host.shake_hands()
                    self.counts["hands shaken"] += 1

    def stranger_speaks(self) -> None:
        if not self.strangers:
            return
        host = self.dice.choice(self.strangers)
        data = bytearray(self.dice.choice(_UTTERANCES)(self.dice, self.overheard))
        for _ in range(self.dice.choice([0, 0, 0, 1, 3])):
            if data:
                data[self.dice.randrange(len(data))] = self.dice.randrange(256)
        if self.dice.random() < 0.2:
            del data[self.dice.randrange(len(data) + 1) :]
        if host.channel.over:
            return
        if isinstance(host, SecureHost) and host.secure and self.dice.random() < 0.3:
            host.secure = False  # from now on in the clear, or records of its own making
        try:
            host.tell(bytes(data))
            host.settle(self.dice.choice([1 << 30, 1000]))
        except ssl.SSLError:
            self.counts["alerts"] += 1
        host.said.clear()

    def stranger_goes(self) -> None:
        if self.strangers:
            self.strangers.pop(self.dice.randrange(len(self.strangers))).channel.close()

    def hosts_are_sent_away(self) -> None:
        """As for a restore."""
        emptied = self.exports.disconnect("finance", "a restore")
        for host in (self.friend, *self.strangers):
            with contextlib.suppress(ssl.SSLError):
                host.settle()
        self.target.deliver()
        for host in (self.friend, *self.strangers):
            if host.session.closed or not host.channel.over:
                continue
            host.channel.close()
        self.friend.channel.close()
        for host in self.strangers:
            host.channel.close()
        self.strangers.clear()
        assert emptied.finished
        self.exports.admit("finance")
        self.friend = self.host(self.dice.choice([keys().friend, keys().older]), Guest())
        self.enter()

    def check(self) -> None:
        assert self.budget.used <= LIMIT
        assert self.pool.out <= LIMIT + RING * (STRANGERS + 1)
        if not self.free:
            assert self.target.bytes == self.model, "a stranger has changed a disk"

    def end(self) -> None:
        for host in (self.friend, *self.strangers):
            host.channel.close()
        self.target.deliver()
        assert self.budget.used == 0
        assert self.pool.out == 0
        assert self.target.pool.out == 0
        assert self.source.connected["finance"] == 0


def _requests(dice: random.Random, _overheard: bytes) -> bytes:
    said = b""
    for _ in range(dice.randrange(4)):
        offset, length = dice.randrange(2 * SIZE), dice.choice([0, 512, 4096, 1 << 20, 1 << 31])
        payload = bytes(dice.choice([0, 512, 4096]))
        flags = dice.choice([0, 0, 1, 4, 255])
        said += request(dice.randrange(10), offset, length, flags=flags, payload=payload)
    return said


def _options(dice: random.Random, _overheard: bytes) -> bytes:
    said = b""
    for _ in range(dice.randrange(4)):
        said += dice.choice(
            [
                option(dice.randrange(12), dice.randbytes(dice.randrange(40))),
                option(wire.OPTION_LIST),
                option(wire.OPTION_STRUCTURED_REPLY),
                option(wire.OPTION_STARTTLS),
                info_or_go(wire.OPTION_INFO, dice.choice(["finance", "", "finance@-1s", "no"])),
                info_or_go(wire.OPTION_GO, "finance"),
                option(wire.OPTION_EXPORT_NAME, b"finance"),
                wire.OPTION.pack(wire.OPTION_MAGIC, dice.randrange(12), dice.randrange(1 << 32)),
            ]
        )
    return said


def _records(dice: random.Random, _overheard: bytes) -> bytes:
    """What looks like TLS."""
    kind, length = dice.choice([20, 21, 22, 23, 24]), dice.choice([0, 1, 2, 40, 512, 16384, 65535])
    head = bytes([kind, 3, dice.choice([1, 3, 4])]) + length.to_bytes(2, "big")
    return head + dice.randbytes(min(length, dice.choice([length, 10])))


_UTTERANCES: Final[tuple[Callable[[random.Random, bytes], bytes], ...]] = (
    lambda dice, _: dice.randbytes(dice.choice([1, 28, 300, 70_000])),
    lambda _, overheard: overheard,
    lambda dice, _: (
        info_or_go(wire.OPTION_GO, "finance") + write(0, bytes(512)) * dice.randrange(9)
    ),
    _requests,
    _options,
    _records,
)


def live(dice: random.Random, turns: int) -> dict[str, int]:
    """One life of `turns` acts; raises AssertionError for what must not be."""
    counted = _live(dice, turns)
    # What the allocator keeps for the next life is no leak.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return counted


def _live(dice: random.Random, turns: int) -> dict[str, int]:
    errors = _Errors(logging.ERROR)
    logger = logging.getLogger("appliance")
    logger.addHandler(errors)
    secure = dice.random() < 0.6
    try:
        world = World(dice, secure, free=not secure and dice.random() < 0.5)
        acts = (
            (world.friend_writes, 10),
            (world.friend_reads, 10),
            (world.stranger_speaks, 40),
            (world.stranger_comes, 8),
            (world.stranger_goes, 3),
            (world.friend_comes_again, 1),
            (world.hosts_are_sent_away, 1),
        )
        for act in dice.choices([act for act, _ in acts], [odds for _, odds in acts], k=turns):
            act()
            world.counts[act.__name__.replace("_", " ")] += 1
            world.check()
        world.end()
    finally:
        logger.removeHandler(errors)
    changed = sum(world.target.submitted[kind] for kind in (WRITE, ZERO, DISCARD))
    return {"acts": turns, "changes": changed, **world.counts}
