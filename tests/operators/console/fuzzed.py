"""A life of the console under whatever may come in: any bytes, commands and near misses, at any
speed, with a service that answers late, refuses or is away.

What must hold: nothing is raised; only plain ASCII leaves, never a password
nor a trace; what waits is bounded; nobody is let in without the password; and
nothing is asked for with consent unless exactly the shown words came in as one
line, after their prompt had left.
"""

import random
import re
from typing import Final

from appliance.operators.console.conversation import Note
from appliance.operators.console.display import OUTPUT_FULL, OUTPUT_MOST
from appliance.operators.console.machine import AHEAD_MAXIMUM, Abandon
from appliance.operators.console.menu import GROUPS
from appliance.operators.console.typed import HERE, OWN
from tests.operators.console.line_rig import PASSWORD, PLAIN
from tests.operators.console.played import SERIAL, WORDS, PlayedConsole, PlayedLockout, job

PROMPT: Final = re.compile(r"Type ([A-Z-]+ \S+) to do it, 0 to go back: ")
NOISY: Final = ("EB615: ", "ERR EB615")
"""How lines begin that tell of noise, behind which a question is only repeated."""
SLOW_READ: Final = 200
WORDS_TYPED: Final = [
    *HERE,
    *OWN,
    *(str(number) for number in range(12)),
    *(f"{verb} finance" for verb in ("release", "give-up", "sync", "timeline", "status")),
    "restore finance --to -10m",
    "restore finance --to -10m --wait",
    "restore finance --to -1d --force",
    "protect new --primary a --secondary b",
    "job wait 2",
    "events --all",
    "help restore",
    "set finance ack=both",
    "finance",
    "y",
    "yes",
    "--yes",
    "restore finance --to -10m --yes",
    "release finance --yes",
]
NEAR_MISSES: Final = [
    WORDS.lower(),
    WORDS + " ",
    WORDS + "x",
    WORDS[:-1],
    "RESTORE",
    f"restore {SERIAL}",
    f"RESTORE  {SERIAL[-4:]}",
]
CONTROLS: Final = b"\x03\x04\x0c\x15\x08\x7f\r\n\x00\x1b\x11\x13\t\xff"


class Life:
    """One console, and what was seen of it."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.console = PlayedConsole(PlayedLockout())
        self.console.holding = True
        self.seen = bytearray()
        """The end of what was taken."""
        self.logins = self.consents = self.requests = self.bytes = 0
        self.allowed_consent = ""

    def act(self) -> None:
        """One thing of chance, and the checks behind it."""
        dice, console = self.dice, self.console
        match dice.randrange(20):
            case 0 | 1:
                self.feed(dice.randbytes(dice.randrange(1, 40)))
            case 2:
                self.feed(bytes(dice.choices(CONTROLS, k=dice.randrange(1, 4))))
            case 3:
                self.feed(dice.choice(NEAR_MISSES).encode() + b"\r")
            case 4 | 5 | 6 | 7:
                end = dice.choice([b"\r", b"\n", b"\r\n", b""])
                self.feed(dice.choice(WORDS_TYPED).encode() + end)
            case 8 | 9:
                self.walk()
            case 10 | 11:
                self.log_in()
            case 12:
                self.dice.choice([self.confirm, self.hurry])()
            case 13 | 14 | 15:
                self.answer()
            case 16:
                console.now += dice.choice([0.01, 1, 5, 70, 700, 3600])
                console.machine.tick(console.now)
            case 17 if console.waiting:
                state = job(2, "verify", None) | {"bytes_done": dice.randrange(1 << 22)}
                console.machine.progressed(console.waiting[0].number, state, console.now)
            case 18 if dice.random() < 0.1:
                console.machine.hang_up()
                console.machine.connect(console.now)
            case 19 if dice.random() < 0.2:
                self.feed(dice.randbytes(16) * 200)
            case _:
                self.take(dice.choice([1, 16, SLOW_READ, 10_000]))
        self.check()

    def feed(self, data: bytes) -> None:
        """Bytes that must not amount to a confirmation, which `confirm` alone types."""
        self.bytes += len(data)
        self.console.machine.feed(data, self.console.now)

    def walk(self) -> None:
        """Through the menu, as a person does."""
        group = self.dice.choice([*GROUPS, GROUPS[-1], GROUPS[-1], GROUPS[-1]])
        item = self.dice.choice(group.items)
        self.feed(b"menu\r")
        for line in (str(group.number), str(item.number), "1", self.dice.choice("12345")):
            self.feed(line.encode() + b"\r")
            self.settle()
        self.nearly_confirm()
        if self.dice.random() < 0.3:
            self.confirm()

    def log_in(self) -> None:
        self.settle()
        if self.seen.endswith(b"Password: ") and not self.console.manner.logged_in:
            right = self.dice.random() < 0.9
            self.feed(b"\x15" + (PASSWORD if right else "no " + PASSWORD[3:]).encode() + b"\r")
            self.logins += right

    def nearly_confirm(self) -> None:
        """What is almost the words, behind their prompt."""
        words = self.asked_for()
        if words and self.dice.random() < 0.5:
            near = [words.lower(), words + " ", " " + words, words[:-1], words + "x", "0"]
            self.feed(self.dice.choice(near).encode() + b"\r")
            self.orders()

    def hurry(self) -> None:
        """The very words, before their prompt has left."""
        self.settle()
        self.feed(b"\x15restore finance --to -10m\r")
        self.orders()
        for _ in range(self.dice.randrange(5)):
            if self.console.waiting:
                self.console.reply()
                self.orders()
            self.take(self.dice.choice([0, 0, 16, 100]))
        self.confirm()

    def confirm(self) -> None:
        """The very words: behind their prompt they count, and ahead of it they do not."""
        words = self.asked_for()
        if words:
            # What chance has typed behind the prompt would go before it.
            self.feed(b"\x15")
            self.take(10_000)
            self.allowed_consent = words.partition(" ")[0].lower()
        self.feed((words or WORDS).encode() + b"\r")
        self.orders()
        self.allowed_consent = ""

    def asked_for(self) -> str:
        """The words that confirm what the line asks now; nothing unless their prompt was taken."""
        text = self.seen.decode()
        prompts = list(PROMPT.finditer(text))
        if not prompts:
            return ""
        _, *behind = text[prompts[-1].end() :].split("\r\n")
        whole, part = behind[:-1], behind[-1] if behind else ""
        if not all(line.startswith(NOISY) for line in whole):
            return ""
        begun = any(one.startswith(part) for one in (*NOISY, prompts[-1][0], "\r"))
        return prompts[-1][1] if begun or part.startswith(NOISY) else ""

    def settle(self) -> None:
        """Everything answered and taken."""
        for _ in range(50):
            self.orders()
            while self.console.waiting:
                self.console.reply()
                self.orders()
            self.take(10_000)
            if not self.console.machine.orders and not self.console.machine.waits_for_room:
                return

    def answer(self) -> None:
        console = self.console
        console.service.away = self.dice.random() < 0.05
        console.service.locked = self.dice.random() < 0.05
        console.service.events = self.dice.choice([0, 3, 50, 3000])
        if console.waiting:
            console.reply()

    def take(self, most: int) -> None:
        data = self.console.machine.take(most)
        assert PLAIN.fullmatch(data), data
        self.seen += data
        assert PASSWORD.encode() not in self.seen[-len(data) - 20 :]
        assert b"Traceback" not in self.seen[-len(data) - 20 :]
        del self.seen[:-4096]

    def orders(self) -> None:
        """What the machine wants done, as the process would do it."""
        console = self.console
        while console.machine.orders:
            order = console.machine.orders.popleft()
            if isinstance(order, Abandon):
                console.waiting.clear()
                continue
            if isinstance(order, Note):
                continue
            console.waiting.append(order)
            self.requests += 1
            if order.arguments.get("yes"):
                assert order.verb == self.allowed_consent, f"{order} was not confirmed"
                self.allowed_consent = ""
                self.consents += 1

    def check(self) -> None:
        machine = self.console.machine
        self.orders()
        assert len(self.console.waiting) <= 1
        assert machine._display.waiting <= OUTPUT_MOST + OUTPUT_FULL
        assert len(machine._ahead) <= AHEAD_MAXIMUM
        assert self.logins or not self.console.manner.logged_in


def live(dice: random.Random, turns: int) -> dict[str, int]:
    """A life; see `tests.fuzz`."""
    life = Life(dice)
    for _ in range(turns):
        life.act()
    return {
        "acts": turns,
        "bytes": life.bytes,
        "requests": life.requests,
        "logins": life.logins,
        "confirmed": life.consents,
    }
