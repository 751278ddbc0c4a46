"""A host that remembers: every write it sent, which were acknowledged, and what must follow.

Write numbers are given in the order of arrival, so that on one connection, and
with the volume's write number known before the first write, the host knows the
number of each.  A *life* is what happens between two starts of the service.
"""

import contextlib
import errno
import random
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliance.hosts.nbd import wire
from tests.service.nbd_client import NbdClient, Reply

SECTOR = 512
Image = NDArray[np.uint8]
LENGTHS = (512, 512, 1024, 4096, 4096, 4096, 8192, 12288, 32768, 65536)


@dataclass(slots=True, eq=False)
class Write:
    """`data` is None for zeros; `outcome` is None until answered, then an errno."""

    number: int
    offset: int
    length: int
    data: bytes | None
    outcome: int | None = None

    @property
    def acknowledged(self) -> bool:
        return self.outcome == 0

    def into(self, image: Image) -> None:
        end = self.offset + self.length
        image[self.offset : end] = 0 if self.data is None else np.frombuffer(self.data, np.uint8)


@dataclass(eq=False)
class Life:
    """`first` is the volume's write number at its start, `image` the volume then."""

    first: int
    image: Image
    writes: list[Write] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.first + len(self.writes)

    @property
    def acknowledged(self) -> int:
        """The highest number that was acknowledged."""
        return max((w.number for w in self.writes if w.acknowledged), default=self.first)

    def at(self, number: int) -> Image:
        """The volume just after a write."""
        image = self.image.copy()
        for write in self.writes[: number - self.first]:
            write.into(image)
        return image

    def check_survived(self, found: Image) -> None:
        """Every acknowledged write is there; of the others, each sector is old or new."""
        sectors = len(found) // SECTOR
        newest = np.zeros(sectors, np.int64)
        expected = self.image.copy()
        for write in self.writes:
            if write.acknowledged:
                write.into(expected)
                newest[_sectors(write)] = write.number
        shape = (sectors, SECTOR)
        right = (found.reshape(shape) == expected.reshape(shape)).all(axis=1)
        for write in self.writes:
            if not write.acknowledged:
                place = _sectors(write)
                part = found[write.offset : write.offset + write.length].reshape(-1, SECTOR)
                new = np.zeros_like(part)
                if write.data is not None:
                    new = np.frombuffer(write.data, np.uint8).reshape(-1, SECTOR)
                right[place] |= (part == new).all(axis=1) & (newest[place] < write.number)
        wrong = np.flatnonzero(~right)
        assert not len(wrong), (
            f"{len(wrong)} sectors hold what was never acknowledged last, the first is {wrong[0]},"
            f" last written by {newest[wrong[0]]} of {self.first + 1}..{self.last}"
        )


def _sectors(write: Write) -> slice:
    return slice(write.offset // SECTOR, (write.offset + write.length) // SECTOR)


@dataclass
class Recorder:
    """The lives of a volume of `size` bytes, and the host's dice."""

    size: int
    seed: int
    sector: int = SECTOR
    lives: list[Life] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self._waiting: dict[int, Write] = {}

    @property
    def life(self) -> Life:
        return self.lives[-1]

    def begin(self, first: int, contents: bytes) -> Life:
        """The service is there again, with nothing in flight."""
        self._waiting.clear()
        self.lives.append(Life(first, np.frombuffer(contents, np.uint8)))
        return self.life

    def send_one(self, client: NbdClient, low: int = 0, high: int | None = None) -> None:
        """A random write between bytes `low` and `high`, or now and then a FLUSH."""
        dice = self.dice
        kind = dice.random()
        if kind < 0.02:
            client.submit(wire.COMMAND_FLUSH)
            return
        high = self.size if high is None else high
        length = 3 << 19 if kind > 0.998 else max(self.sector, dice.choice(LENGTHS))
        length = min(length, high - low)
        offset = low + dice.randrange((high - low - length) // self.sector + 1) * self.sector
        data = None if kind < 0.12 else dice.randbytes(length)
        command = wire.COMMAND_WRITE if data is not None else wire.COMMAND_WRITE_ZEROES
        write = Write(self.life.last + 1, offset, length, data)
        self.life.writes.append(write)
        flags = wire.FLAG_FUA if dice.random() < 0.03 else 0
        self._waiting[client.submit(command, offset, length, data or b"", flags)] = write

    def note(self, replies: list[Reply]) -> None:
        for reply in replies:
            write = self._waiting.pop(reply.cookie, None)
            if write is not None:
                write.outcome = reply.error

    def settle(self, client: NbdClient) -> None:
        """Wait until nothing is in flight."""
        while client.in_flight:
            self.note(client.collect())

    def hear_out(self, client: NbdClient) -> None:
        """Note every answer up to the end of the connection."""
        with contextlib.suppress(ConnectionError):
            while True:
                self.note(client.collect())

    def write_some(self, client: NbdClient, count: int, depth: int = 16) -> None:
        """Send `count` requests, so many in flight; all have been answered on return."""
        for _ in range(count):
            while client.in_flight >= depth:
                self.note(client.collect())
            self.send_one(client)
        self.settle(client)

    def errors(self) -> set[str]:
        """What the writes of this life were answered with, besides success."""
        return {errno.errorcode[w.outcome] for w in self.life.writes if w.outcome}
