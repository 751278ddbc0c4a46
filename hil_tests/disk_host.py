"""A host that has a volume as a disk of its own kernel, and knows nothing of NBD.

It writes whole blocks past its kernel's cache, several at once, each with a number and a checksum;
at the end it reads all of them again.  The program runs over there, on bare Python.
"""

import base64
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_PROGRAM: Final = """
import json, mmap, os, random, signal, sys, threading, time, zlib
node, seed, place = sys.argv[1], int(sys.argv[2]), sys.argv[3]
WRITERS, BLOCKS, BLOCK = 4, 256, 4096
ends = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ends.set())
disk = os.open(node, os.O_RDWR | os.O_DIRECT)
errors, last = [], {}
counts, longest = [0] * WRITERS, [0.0] * WRITERS

def content(block, number):
    text = b"%d %d " % (block, number)
    text += bytes(BLOCK - 8 - len(text))
    return text + b"%08x" % zlib.crc32(text)

def timed(writer, action, *about):
    began = time.monotonic()
    action(disk, *about)
    longest[writer] = max(longest[writer], time.monotonic() - began)

def write(writer):
    page = mmap.mmap(-1, BLOCK)
    chance = random.Random(seed + writer)
    try:
        while not ends.is_set():
            block = writer * BLOCKS + chance.randrange(BLOCKS)
            page[:] = content(block, counts[writer] + 1)
            timed(writer, os.pwritev, [page], block * BLOCK)
            counts[writer] += 1
            last[block] = counts[writer]
            if counts[writer] % 20 == 0:
                timed(writer, os.fsync)
            time.sleep(0.01)
        timed(writer, os.fsync)
    except OSError as error:
        errors.append(f"{error} after {counts[writer]} writes")
        ends.set()

def put(name, what):
    with open(f"{place}.new", "w") as stream:
        stream.write(str(what))
    os.rename(f"{place}.new", f"{place}.{name}")

threads = [threading.Thread(target=write, args=[writer]) for writer in range(WRITERS)]
put("process", os.getpid())
for thread in threads:
    thread.start()
while not ends.wait(0.5):
    put("count", sum(counts))
for thread in threads:
    thread.join()
wrong = []
page = mmap.mmap(-1, BLOCK)
try:
    for block, number in last.items():
        os.preadv(disk, [page], block * BLOCK)
        if page[:] != content(block, number):
            wrong.append(block)
except OSError as error:
    errors.append(f"{error} as it was read again")
about = {"writes": sum(counts), "longest": max(longest), "errors": errors, "wrong": wrong}
print(json.dumps(about))
"""
PLACE: Final = "/run/disk-host"
"""Over there: what the names of its files begin with."""


@dataclass(frozen=True, slots=True)
class Told:
    """What such a host says at its end."""

    writes: int
    longest: float
    """Seconds that one request took."""
    errors: list[str]
    wrong: list[int]
    """Blocks that hold something else than what was written last."""


class DiskHost:
    """One that writes to `node` from now on, on the machine of this shell."""

    def __init__(self, shell: Callable[..., str], node: str, seed: int, place: str = PLACE) -> None:
        self._shell = shell
        self._place = place
        program = base64.b64encode(_PROGRAM.encode()).decode()
        command = shlex.quote(f"import base64; exec(base64.b64decode('{program}'))")
        about = f"{shlex.quote(node)} {seed} {place}"
        shell(f"rm -f {place}.*; echo 0 >{place}.count")
        shell(
            f"setsid python3 -c {command} {about} </dev/null >{place}.said 2>&1 &"
            f" until [ -e {place}.process ] || [ -s {place}.said ]; do sleep 0.5; done"
        )

    @property
    def writes(self) -> int:
        """That were answered till now."""
        return int(self._shell(f"cat {self._place}.count"))

    def stop(self, timeout: float) -> Told:
        """What is under way is answered, and all is read again."""
        process = f"$(cat {self._place}.process)"
        self._shell(f"kill {process}; tail --pid={process} -f /dev/null", timeout=timeout)
        return Told(**json.loads(self._shell(f"cat {self._place}.said")))
