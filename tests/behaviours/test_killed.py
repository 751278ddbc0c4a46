"""The service is killed at any moment, again and again, under a host that remembers.

After each new start every acknowledged write is there, and `VOLUME@write:N` is
byte-exact for any N of any life: EBBTIDE_KILLS says how often (eight unless told),
EBBTIDE_SEED with which dice.
"""

import os
import secrets
import time
from collections.abc import Callable

import numpy as np
import pytest

from tests.hosts.nbd.host_words import ExportRefusedError
from tests.service.agreement import assert_exact, record
from tests.service.nbd_client import NbdClient
from tests.service.recorder import Image, Life, Recorder
from tests.service.service_process import MIB, Service

KILLS = int(os.environ.get("EBBTIDE_KILLS", "8"))
SEED = int(os.environ.get("EBBTIDE_SEED", "0")) or secrets.randbits(32)
POINTS = 6
"""Points looked at after each kill."""


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    service = make_service()
    service.disk("alpha", 6 * MIB)
    service.disk("beta", 96 * MIB)
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    return service


def image_of(service: Service, export: str) -> Image:
    return np.frombuffer(service.contents(export), np.uint8)


def write_until(client: NbdClient, recorder: Recorder, moment: float, depth: int) -> None:
    """Write with so many in flight until a moment of the monotonic clock."""
    while time.monotonic() < moment:
        while client.in_flight < depth:
            recorder.send_one(client)
        recorder.note(client.collect(0.01))


def kill_under_load(service: Service, recorder: Recorder) -> None:
    """Kill the service while it writes; whatever it answered before counts."""
    dice = recorder.dice
    with service.connect("finance") as client:
        moment = time.monotonic() + dice.uniform(0.02, 0.4)
        write_until(client, recorder, moment, dice.choice((1, 4, 16, 64)))
        service.kill()
        recorder.hear_out(client)


def start_again(service: Service, recorder: Recorder) -> None:
    """Start the service, killed perhaps once more while it is about to recover."""
    while recorder.dice.random() < 0.3:
        service.launch()
        time.sleep(recorder.dice.uniform(0.0, 0.8))  # a moment of no significance is the point
        service.kill()
    service.start("alpha", "beta")
    service.until_state("finance", "protected")


def look_back(service: Service, recorder: Recorder) -> None:
    """Points of all lives, the end of the one that was killed last among them."""
    oldest = service.status("finance")["window"]["oldest_write"]
    lives = [life for life in recorder.lives[:-1] if life.last >= oldest]
    killed = lives[-1]
    wanted = [(killed, killed.acknowledged), (killed, killed.last)]
    for _ in range(POINTS):
        life = recorder.dice.choice(lives)
        wanted.append((life, recorder.dice.randint(max(oldest, life.first), life.last)))
    for life, number in wanted:
        try:
            if number > life.acknowledged:
                assert_like_the_end(service, recorder, life, number)
            else:
                assert_exact(service, "finance", life, number)
        except (ExportRefusedError, OSError) as refused:
            window = service.status("finance")["window"]
            if number >= window["oldest_write"]:  # else it was folded meanwhile
                assert_may_be_missing(life, number, window["newest_write"], refused)


def assert_like_the_end(service: Service, recorder: Recorder, life: Life, number: int) -> None:
    """Nobody was told that this write is done: it may have got halfway.

    Then the point is one only if it is what the volume held when it came back.
    """
    found = image_of(service, f"finance@write:{number}")
    came_back = recorder.lives[recorder.lives.index(life) + 1].image
    assert any((found == image).all() for image in (life.at(number), came_back))


def assert_may_be_missing(life: Life, number: int, newest: int, refused: Exception) -> None:
    """It was skipped after a kill, or sent and never acknowledged and then perhaps lost."""
    inside = life.first < number <= life.acknowledged
    assert not inside, f"{refused}, but it was acknowledged"
    assert ("in a gap" if number <= newest else "outside the window") in str(refused)


@pytest.mark.timeout(60 + 6 * KILLS)
def test_nothing_acknowledged_is_lost_and_every_point_is_exact(service: Service) -> None:
    print(f"EBBTIDE_SEED={SEED}")
    recorder = record(service, "finance", SEED)
    seen = 0
    for _ in range(KILLS):
        kill_under_load(service, recorder)
        life = recorder.life
        assert not recorder.errors()
        seen += sum(write.acknowledged for write in life.writes)
        start_again(service, recorder)
        status = service.status("finance")
        assert status["write_number"] >= life.last, "a write number was given twice"
        contents = service.contents("finance")
        life.check_survived(np.frombuffer(contents, np.uint8))
        recorder.begin(status["write_number"], contents)
        look_back(service, recorder)
    print(f"{KILLS} kills, {seen} writes acknowledged")
    assert seen


def test_numbers_that_a_kill_skipped_are_a_gap(service: Service) -> None:
    with service.connect("finance") as client:
        client.write(0, b"a" * 4096)
    before = service.status("finance")["write_number"]
    service.kill()
    service.start("alpha", "beta")
    after = service.until_state("finance", "protected")["write_number"]
    assert after > before, "some may have been handed out"
    with service.connect("finance") as client:
        client.write(0, b"b" * 4096)
    assert service.contents(f"finance@write:{before}")[:4096] == b"a" * 4096
    assert service.contents(f"finance@write:{after + 1}")[:4096] == b"b" * 4096
    for skipped in (before + 1, after):
        _, code, sentence = service.refused(
            "restore", volume="finance", to=f"write:{skipped}", plan=True
        )
        assert code == "EB403", sentence
    gaps = service.ask("timeline", volume="finance")["gaps"]
    assert [(gap["from_write"], gap["to_write"]) for gap in gaps] == [(before + 1, after)]


def test_nothing_acknowledged_by_the_primary_alone_is_lost(service: Service) -> None:
    """The journal lags behind the acknowledgements, and a mere kill loses nothing all the same."""
    service.ask("set", volume="finance", settings=["ack=primary"])
    recorder = record(service, "finance", SEED)
    for _ in range(2):
        kill_under_load(service, recorder)
        service.start("alpha", "beta")
        status = service.until_state("finance", "protected")
        contents = service.contents("finance")
        recorder.life.check_survived(np.frombuffer(contents, np.uint8))
        newest = status["window"]["newest_write"]
        found = image_of(service, f"finance@write:{newest}")
        assert (found == np.frombuffer(contents, np.uint8)).all(), "both disks agree"
        recorder.begin(status["write_number"], contents)
