"""What was changed behind the appliance's back, on the real service: found to the block, told,
mended, and all of it while a host writes and the service is killed.

Claims 8 to 11 and 23.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.service.agreement import record
from tests.service.behind_the_back import copy_sparse, spoil
from tests.service.fio import fio
from tests.service.nbd_client import NbdClient
from tests.service.recorder import Recorder
from tests.service.service_process import MIB, Json, Service, service_in

BLOCK = 4096
SIZE = 4 * MIB
TARGETS = range(0, 704, 4)
"""Blocks that are changed; each alone, so that neighbours would be noticed."""
K = len(TARGETS)
REPAIRED = "a synchronisation repaired blocks"
LOAD = range(3 * MIB, 3 * MIB + (768 << 10))
"""Bytes that a host writes meanwhile."""
DEPTH, FIO_DEPTH = 4, 16
"""Writes that a host has under way at most."""


@dataclass
class Made:
    """The disks of a volume with three delta maps, of which the second one wrote the targets."""

    disks: Path
    marks: list[int]
    """The write number at the end of each map."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A map ends with a life of the service."""
    marks = []
    with service_in(tmp_path_factory.mktemp("made")) as service:
        service.disk("alpha", SIZE)
        service.disk("beta", 640 * MIB)  # no load here fills its history
        service.start("alpha", "beta")
        service.protect("finance", "alpha", "beta")
        for blocks in (range(700, 720), TARGETS, range(720, 740)):
            with service.connect("finance") as client:
                for block in blocks:
                    client.write(block * BLOCK, block.to_bytes(2, "little") * (BLOCK // 2))
            marks.append(int(service.status("finance")["write_number"]))
            service.stop()
            service.start("alpha", "beta")
            service.until_state("finance", "protected")
        service.stop()
        return Made(service.disks, marks)


class Bench:
    """That volume in service, a host that writes to it, and scans."""

    def __init__(self, service: Service, made: Made) -> None:
        self.service = service
        self.recorder: Recorder | None = None
        self.client: NbdClient | None = None
        self.marks = made.marks
        self.first_number = 0
        """Of the life after a kill, far behind those of the one before; 0 without a kill."""
        for name in ("alpha", "beta"):
            copy_sparse(made.disks / f"{name}.img", service.disks / f"{name}.img")
        service.start("alpha", "beta")
        service.until_state("finance", "protected")

    @property
    def secondary(self) -> Path:
        return self.service.disks / "beta.img"

    def start_held(self, phase: str) -> None:
        """Anew, for a life whose scans stop in that phase; the next one is as usual."""
        self.service.stop()
        usual = self.service.command
        self.service.command = [sys.executable, "-m", "tests.service.held", phase]
        self.service.start("alpha", "beta")
        self.service.until_state("finance", "protected")
        self.service.command = usual

    # The host

    def begin_load(self) -> None:
        self.recorder = record(self.service, "finance")
        self.client = self.service.connect("finance")

    def write_until(self, condition: Callable[[], bool], seconds: float = 40) -> None:
        assert self.recorder is not None
        assert self.client is not None
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"it never came true: {self.service.story()}"
            while self.client.in_flight >= DEPTH:
                self.recorder.note(self.client.collect())
            self.recorder.send_one(self.client, LOAD.start, LOAD.stop)

    def end_load(self) -> None:
        """Nothing failed, and the volume holds what was acknowledged."""
        assert self.recorder is not None
        assert self.client is not None
        self.recorder.settle(self.client)
        self.client.close()
        assert not self.recorder.errors()
        self.check_survived()

    def check_survived(self) -> bytes:
        assert self.recorder is not None
        contents = self.service.contents("finance")
        self.recorder.life.check_survived(np.frombuffer(contents, np.uint8))
        return contents

    def kill_and_start(self) -> None:
        """SIGKILL, in the middle of the load."""
        assert self.recorder is not None
        assert self.client is not None
        self.service.kill()
        self.recorder.hear_out(self.client)
        self.client.close()
        self.service.start("alpha", "beta")
        self.service.until("finance", lambda status: status["service"] == "online")
        contents = self.check_survived()
        number = self.service.status("finance")["write_number"]
        self.first_number = number + 1
        self.recorder.begin(number, contents)
        self.client = self.service.connect("finance")

    # The scan

    def job(self) -> Json:
        """Of the scan, as `status` shows it, or how it ended."""
        status = self.service.status("finance")
        job = status["job"] or status["last_job"]
        assert isinstance(job, dict)
        return job

    def set_throttle(self, throttle: str) -> None:
        self.service.ask("set", volume="finance", settings=[f"throttle={throttle}"])

    def figures(self) -> tuple[str, str, int, int]:
        job = self.job()
        return job["kind"], job["result"], job["bytes_different"], job["bytes_copied"]

    # What is told of it

    def assert_suspects(self, kind: str, depth: int = DEPTH) -> None:
        """The map that wrote the targets and those behind it, up to the repair."""
        timeline = self.service.ask("timeline", volume="finance")
        maps = timeline["maps"]
        end = maps[-1]["last_write"] + 1
        if kind == "full":  # from its first copy to its last one it is a gap
            (end,) = (gap["from_write"] for gap in timeline["gaps"] if gap["reason"] == REPAIRED)
            fix_up = min(m["first_write"] for m in maps if m["kind"] == "fix_up")
            begun = max(end, self.first_number)
            assert end <= fix_up <= begun + depth, "what was under way as the copy began goes first"
        told = [(m["first_write"], m["last_write"]) for m in maps if m["suspect"]]
        assert told == [
            (m["first_write"], m["last_write"])
            for m in maps
            if m["last_write"] > self.marks[0] and m["first_write"] < end
        ]
        assert told, "some are"
        assert any(m["last_write"] <= self.marks[0] for m in maps), "and some are not"

    def assert_refused_unless_forced(self) -> None:
        service = self.service
        suspect = {"volume": "finance", "to": f"write:{self.marks[1]}", "yes": True, "wait": True}
        code, error, sentence = service.refused("restore", **suspect)
        assert (code, error) == (3, "EB404"), sentence
        trusted = service.ask("restore", volume="finance", to=f"write:{self.marks[0]}", plan=True)
        assert trusted["plan"]["write"] == self.marks[0]
        done = service.ask("restore", **suspect, force=True)
        assert done["job"]["result"] == "done"


@pytest.fixture
def bench(make_service: Callable[..., Service], made: Made) -> Iterator[Bench]:
    bench = Bench(make_service(), made)
    yield bench
    if bench.client is not None:
        bench.client.close()


@pytest.mark.parametrize("stopped", [True, False], ids=["while it was stopped", "in service"])
def test_each_changed_block_is_found_and_told(bench: Bench, stopped: bool) -> None:
    service = bench.service
    if stopped:
        service.stop()
        spoil(bench.secondary, TARGETS)
        service.start("alpha", "beta")
        service.until_state("finance", "protected")
    else:
        spoil(bench.secondary, TARGETS)
    bench.begin_load()
    number = service.ask("sync", volume="finance", verify=True)["job"]["number"]
    bench.write_until(lambda: bench.job()["result"] is not None)
    bench.end_load()
    assert (
        service.ask("job wait", job=number)["job"]["bytes_scanned"]
        == service.status("finance")["size"]
    )
    assert bench.figures() == ("verify", "done", K * BLOCK, 0)
    bench.assert_suspects("verify")
    again = service.ask("sync", volume="finance", verify=True, wait=True)["job"]
    assert (again["bytes_different"], again["bytes_copied"]) == (K * BLOCK, 0)
    bench.assert_refused_unless_forced()
    mended = service.ask("sync", volume="finance", full=True, wait=True)["job"]
    assert (mended["bytes_different"], mended["bytes_copied"]) == (K * BLOCK, K * BLOCK)
    bench.assert_suspects("full")
    equal = service.ask("sync", volume="finance", verify=True, wait=True)["job"]
    assert equal["bytes_different"] == 0
    newest = service.status("finance")["window"]["newest_write"]
    assert service.contents(f"finance@write:{newest}") == service.contents("finance")


@pytest.mark.parametrize("kind", ["verify", "full"])
def test_under_a_load_of_fio(bench: Bench, kind: str, tmp_path: Path) -> None:
    """It writes all the blocks between those that were changed, again and again."""
    service = bench.service
    spoil(bench.secondary, TARGETS)
    between = (
        "--rw=randwrite",
        "--bs=4k",
        f"--iodepth={FIO_DEPTH}",
        "--rate_iops=400",  # history has room for all of it: a fold would find what was changed
        "--zonemode=strided",
        "--zonerange=12k",
        "--zonesize=12k",
        "--zoneskip=4k",
        "--offset=4k",
        f"--size={(TARGETS[-1] - 1) * BLOCK}",
    )
    before = service.status("finance")["write_number"]
    bench.set_throttle("1-4")
    with fio(service.uri("finance"), tmp_path, *between) as load:
        service.wait(
            lambda: service.status("finance")["write_number"] > before + 300, "fio to write"
        )
        service.ask("sync", volume="finance", wait=True, **{kind: True})
        assert load.running
        assert load.end()["write"]["total_ios"] > 300
    copied = K * BLOCK if kind == "full" else 0
    assert bench.figures() == (kind, "done", K * BLOCK, copied)
    bench.assert_suspects(kind, FIO_DEPTH)
    again = service.ask("sync", volume="finance", verify=True, wait=True)["job"]
    assert again["bytes_different"] == K * BLOCK - copied


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        ("verify", "scanning"),
        ("verify", "revising"),
        ("full", "scanning"),
        ("full", "revising"),
        ("full", "copying"),
    ],
)
def test_a_kill_in_any_phase_changes_no_figure(bench: Bench, kind: str, phase: str) -> None:
    service = bench.service
    bench.start_held(phase)
    spoil(bench.secondary, TARGETS)
    bench.begin_load()
    bench.set_throttle("1-1" if phase == "scanning" else "2-2")
    service.ask("sync", volume="finance", **{kind: True})
    bench.write_until(lambda: bench.job()["bytes_scanned"] >= MIB)
    bench.write_until(lambda: bench.job()["phase"] == phase)
    bench.kill_and_start()
    job = bench.job()
    assert job["kind"] == kind, "it goes on by itself"
    assert job["result"] in (None, "done"), "and where little was left, it may have ended"
    bench.set_throttle("16-max")
    bench.write_until(lambda: bench.job()["result"] is not None)
    bench.end_load()
    copied = K * BLOCK if kind == "full" else 0
    assert bench.figures() == (kind, "done", K * BLOCK, copied)
    bench.assert_suspects(kind)
    again = service.ask("sync", volume="finance", verify=True, wait=True)["job"]
    assert again["bytes_different"] == K * BLOCK - copied
