"""The loop: what runs when in a turn, and that nothing gets lost."""

import os
import signal
import socket
import threading
import weakref
from collections.abc import Callable
from functools import partial

import pytest

from appliance.cdp.tasks import Completion
from appliance.loop import OFFLOAD_THREADS, Loop

TurnUntil = Callable[..., None]


def test_posts_run_after_all_that_is_ready_until_none_is_left(loop: Loop) -> None:
    order: list[str] = []
    pipes = [os.pipe() for _ in range(2)]

    def ready(name: str, fd: int) -> None:
        os.read(fd, 1)
        order.append(name)
        loop.post(lambda: order.append(f"posted by {name}"))
        loop.post(lambda: loop.post(lambda: order.append("posted by a post")))

    for number, (reading, writing) in enumerate(pipes):
        loop.register(reading, partial(ready, f"pipe {number}", reading))
        os.write(writing, b"x")
    loop.after(0, lambda: order.append("timer"))
    loop.turn()
    for reading, writing in pipes:
        loop.unregister(reading)
        os.close(reading)
        os.close(writing)
    assert sorted(order[:2]) == ["pipe 0", "pipe 1"]
    assert order[2] == "timer"
    assert sorted(order[3:5]) == ["posted by pipe 0", "posted by pipe 1"]
    assert order[5:] == ["posted by a post"] * 2


def test_timers_run_once_in_the_order_they_are_due(loop: Loop, turn_until: TurnUntil) -> None:
    order: list[int] = []
    loop.after(0.03, lambda: order.append(3))
    loop.after(0.01, lambda: order.append(1))
    cancelled = loop.after(0.015, lambda: order.append(99))
    loop.after(0.02, lambda: order.append(2))
    cancelled.cancel()
    turn_until(lambda: 3 in order)
    loop.turn(0.02)
    assert order == [1, 2, 3]


def test_a_timer_may_cancel_one_that_is_due_in_the_same_turn(loop: Loop) -> None:
    order: list[str] = []

    def cancel_the_next() -> None:
        second.cancel()

    loop.after(0, cancel_the_next)
    second = loop.after(0, lambda: order.append("cancelled"))
    loop.after(0, lambda: order.append("third"))
    loop.turn()
    assert order == ["third"]


def test_cancelled_timers_take_no_memory_until_they_are_due(loop: Loop) -> None:
    kept = [loop.after(3600, lambda: None) for _ in range(100)]
    timer = loop.after(300, lambda: None)
    for _ in range(10_000):  # as one who sets a time limit anew at every request
        timer.cancel()
        timer = loop.after(300, lambda: None)
    assert len(loop._timers) < 500
    assert all(entry.action is not None for entry in kept)


def test_a_sweep_amid_the_timers_of_a_turn_loses_none(loop: Loop) -> None:
    order: list[int] = []

    def run(number: int) -> None:
        order.append(number)
        for _ in range(50):
            loop.after(3600, lambda: None).cancel()

    for number in range(50):
        loop.after(0, partial(run, number))
    loop.turn()
    assert order == list(range(50))


def test_a_timer_does_not_wait_for_descriptors_nor_a_post_for_a_timer(loop: Loop) -> None:
    order: list[str] = []
    loop.after(0.01, lambda: order.append("timer"))
    loop.turn()
    assert order == ["timer"]
    loop.after(3600, lambda: order.append("late"))
    loop.post(lambda: order.append("post"))
    loop.turn()
    assert order == ["timer", "post"]


def test_offloaded_work_comes_back_on_the_loop(loop: Loop, turn_until: TurnUntil) -> None:
    here = threading.get_ident()
    where: list[int] = []
    completion = loop.offload(threading.get_ident)
    failing = loop.offload(lambda: 1 // 0)
    completion.when_finished(lambda: where.append(threading.get_ident()))
    turn_until(lambda: completion.finished and failing.finished)
    assert where == [here]
    assert completion.result() != here
    with pytest.raises(ZeroDivisionError):
        failing.result()


def test_a_thread_keeps_nothing_of_work_that_is_over(loop: Loop, turn_until: TurnUntil) -> None:
    """It may be the map of a million writes."""

    class Large(list[int]):
        pass

    def of_work() -> tuple[Completion[int], weakref.ref[Large]]:
        large = Large([1, 2, 3])
        return loop.offload(partial(sum, large)), weakref.ref(large)

    completion, large = of_work()
    turn_until(lambda: completion.finished)
    turn_until(lambda: large() is None)
    assert completion.result() == 6


def test_closing_waits_for_the_work_under_way_and_begins_no_other() -> None:
    begun, let_go = threading.Semaphore(0), threading.Event()
    over: list[str] = []

    def hold() -> None:
        begun.release()
        let_go.wait(10)
        over.append("held")

    with Loop() as loop:
        for _ in range(OFFLOAD_THREADS):
            loop.offload(hold)
        loop.offload(lambda: over.append("waiting"))
        for _ in range(OFFLOAD_THREADS):
            assert begun.acquire(timeout=10)
        threading.Timer(0.05, let_go.set).start()
    assert over == ["held"] * OFFLOAD_THREADS
    with pytest.raises(RuntimeError, match="closed"):
        loop.offload(lambda: over.append("late"))


def test_an_error_in_a_callback_goes_to_the_hook_and_spares_the_others() -> None:
    errors: list[Exception] = []
    order: list[str] = []
    with Loop(errors.append) as loop:
        reading, writing = os.pipe()
        os.write(writing, b"x")
        loop.register(reading, lambda: _fail("descriptor", os.read(reading, 1)))
        loop.after(0, lambda: _fail("timer"))
        loop.after(0, lambda: order.append("timer"))
        loop.post(lambda: _fail("post"))
        loop.post(lambda: order.append("post"))
        loop.post_from_thread(lambda: _fail("foreign"))
        loop.post_from_thread(lambda: order.append("foreign"))
        loop.turn()
        loop.turn(0)
        os.close(writing)
        loop.unregister(reading)
        os.close(reading)
    assert sorted(map(str, errors)) == ["descriptor", "foreign", "post", "timer"]
    assert sorted(order) == ["foreign", "post", "timer"]


def test_without_a_hook_an_error_is_raised_when_the_turn_is_over(loop: Loop) -> None:
    order: list[str] = []
    loop.post(lambda: _fail("first"))
    loop.post(lambda: order.append("ran all the same"))
    with pytest.raises(RuntimeError, match="first"):
        loop.run()
    assert order == ["ran all the same"]
    loop.turn(0)


def test_both_sides_of_a_socket(loop: Loop, turn_until: TurnUntil) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        order: list[str] = []
        fd = near.fileno()

        def writable() -> None:
            order.append("writable")
            loop.register(fd, readable)

        def readable() -> None:
            order.append(f"read {near.recv(10)!r}")

        loop.register(fd, readable, writable)
        loop.turn()
        loop.turn(0)
        far.send(b"hello")
        turn_until(lambda: len(order) == 2)
        far.close()
        turn_until(lambda: len(order) == 3)
        loop.unregister(fd)
    assert order == ["writable", "read b'hello'", "read b''"]


def test_a_hang_up_on_a_descriptor_nobody_waits_for_does_not_spin(loop: Loop) -> None:
    near, far = socket.socketpair()
    with near:
        heard: list[bytes] = []
        loop.register(near.fileno(), lambda: heard.append(near.recv(10)))
        loop.register(near.fileno(), None)
        far.close()
        turned = 0
        woken: list[bool] = []
        loop.after(0.05, lambda: woken.append(True))
        while not woken:
            loop.turn()
            turned += 1
        assert (turned, heard) == (1, [])
        loop.register(near.fileno(), lambda: heard.append(near.recv(10)))
        loop.turn()
        assert heard == [b""]
        loop.unregister(near.fileno())


def test_who_waits_for_neither_side_hears_of_a_hang_up(loop: Loop, turn_until: TurnUntil) -> None:
    near, far = socket.socketpair()
    with near, far:
        heard: list[str] = []
        for _ in range(2):
            loop.register(near.fileno(), lambda: heard.append("read"))
            loop.register_hang_up(near.fileno(), lambda: heard.append("gone"))
        far.send(b"x")
        far.shutdown(socket.SHUT_WR)
        loop.turn(0)
        assert heard == [], "it still reads"
        far.close()
        turn_until(lambda: bool(heard))
        assert heard == ["gone"]
        loop.unregister(near.fileno())


def test_a_descriptor_unregistered_in_this_turn_is_not_called_back(loop: Loop) -> None:
    called: list[int] = []
    pipes = [os.pipe() for _ in range(2)]
    first, second = (reading for reading, _ in pipes)

    def ready(mine: int, other: int) -> None:
        called.append(mine)
        loop.unregister(other)

    loop.register(first, lambda: ready(first, second))
    loop.register(second, lambda: ready(second, first))
    for _, writing in pipes:
        os.write(writing, b"x")
    loop.turn()
    for fds in pipes:
        for fd in fds:
            os.close(fd)
    assert len(called) == 1


def test_stop_ends_run_from_a_signal_and_from_a_thread(loop: Loop) -> None:
    old = signal.signal(signal.SIGUSR1, lambda *_: loop.stop())
    try:
        killer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        killer.start()
        loop.run()
        killer.join()
    finally:
        signal.signal(signal.SIGUSR1, old)
    stopper = threading.Timer(0.02, loop.stop)
    stopper.start()
    loop.run()
    stopper.join()
    loop.stop()
    loop.run()


def _fail(words: str, _: object = None) -> None:
    raise RuntimeError(words)
