"""The history is full, all the time: the window shortens, and the host never notices."""

import time
from collections.abc import Callable

import pytest

from tests.hosts.nbd.host_words import ExportRefusedError
from tests.service.agreement import assert_exact, assert_in_sync, record
from tests.service.recorder import Life
from tests.service.service_process import MIB, Service


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """With a history of some five times the volume."""
    service = make_service()
    service.disk("alpha", 3 * MIB)
    service.disk("beta", 20 * MIB)
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    return service


def window_of(service: Service) -> tuple[int, int]:
    """Oldest and newest write."""
    window = service.status("finance")["window"]
    return window["oldest_write"], window["newest_write"]


def window_at_rest(service: Service) -> tuple[int, int]:
    """The window, once it seems that nothing is folded any more."""
    seen: list[tuple[int, int]] = []
    looks = 0

    def rests() -> bool:
        nonlocal looks
        window = window_of(service)
        looks = looks + 1 if seen == [window] else 0
        seen[:] = [window]
        return looks > 100

    service.wait(rests, "the window to rest")
    return seen[0]


def oldest_exact(service: Service, life: Life) -> int:
    """The oldest write of the window; it, the life's last and what lies between them are exact."""
    oldest, newest = window_at_rest(service)[0], life.last
    while True:
        try:
            for number in (oldest, (oldest + newest) // 2, newest - 1, newest):
                assert_exact(service, "finance", life, number)
        except (ExportRefusedError, OSError):
            before, oldest = oldest, window_of(service)[0]
            if oldest == before:
                raise  # else a slow disk was folding still, and another write is the oldest
        else:
            return oldest


def test_the_window_shortens_and_the_host_is_never_refused(service: Service) -> None:
    recorder = record(service, "finance")
    windows = []
    took = []
    with service.connect("finance") as client:
        for _ in range(15):
            began = time.monotonic()
            recorder.write_some(client, 200)
            took.append(time.monotonic() - began)
            status = service.status("finance")
            assert status["state"] == "protected"
            assert status["history"]["used_bytes"] <= status["history"]["capacity_bytes"]
            windows.append(status["window"]["oldest_write"])
    assert not recorder.errors()
    assert windows == sorted(windows)
    before_any_fold = took[: windows.count(windows[0])]
    # On a busy machine everything takes longer, and not only what waits for a fold.
    assert max(took) < max(5, 10 * max(before_any_fold)), "a fold kept the host waiting"
    assert windows[-1] > recorder.life.last / 2, "it was full several times over"
    service.wait(lambda: bool(service.events("EV405")), "the window's end to be told")
    assert service.ask("timeline", volume="finance")["gaps"] == []
    assert window_of(service)[1] == recorder.life.last
    oldest = oldest_exact(service, recorder.life)
    with pytest.raises(ExportRefusedError, match="outside the window"):
        service.connect(f"finance@write:{oldest - 1}")
    assert_in_sync(service, "finance", recorder)


def test_a_full_history_outlives_a_kill(service: Service) -> None:
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        recorder.write_some(client, 1500)
        service.kill()
    service.start("alpha", "beta")
    service.until_state("finance", "protected")
    assert_in_sync(service, "finance", recorder)
    assert oldest_exact(service, recorder.life) > 0


def test_a_view_gives_way_to_the_host(service: Service) -> None:
    """An open view neither stops writes nor shows anything wrong: it ends with an error."""
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        recorder.write_some(client, 100)
        past = recorder.life.last
        expected = recorder.life.at(past).tobytes()
        with service.connect(f"finance@write:{past}") as view:
            ended = False
            for _ in range(30):
                recorder.write_some(client, 100)
                try:
                    assert view.read(0, MIB) == expected[:MIB]
                except OSError:
                    ended = True
                    break
            assert ended, "the history must have pushed the point out"
    assert not recorder.errors()


def test_a_restore_that_history_cannot_take_is_refused(service: Service) -> None:
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        for _ in range(4):
            recorder.write_some(client, 200)
            service.ask("snapshot", volume="finance", name=f"after-{recorder.life.last}")
    oldest = service.ask("timeline", volume="finance")["snapshots"][0]["name"]
    exit_code, code, sentence = service.refused(
        "restore", volume="finance", to=f"snapshot:{oldest}", yes=True
    )
    assert (exit_code, code) == (3, "EB408"), sentence
    assert_in_sync(service, "finance", recorder)
