"""Coroutines stepped by completions: how the engine writes down what takes several turns.

A `Completion` is a result that arrives later; a `Task` runs an `async def`
that awaits them.  There is no scheduler: a task goes on inside the call that
completes what it waits for, so the order of events alone decides the order of
steps, in the appliance and in the simulator alike.
"""

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")

logger = logging.getLogger("ebbtide.tasks")


class Completion(Generic[T]):
    """A result or an exception that arrives once.

    What `holds` is not left behind: a task that waits for it is cancelled only
    when it has arrived.  Writes are such, for what is still on its way to a disk
    could land on what is written there next.
    """

    __slots__ = ("finished", "holds", "_result", "_error", "_waiters", "_seen")

    def __init__(self, holds: bool = False) -> None:
        self.finished = False
        self.holds = holds
        self._result: T | None = None
        self._error: BaseException | None = None
        self._seen = False
        self._waiters: list[Callable[[], None]] = []

    def succeed(self, result: T) -> None:
        self._result = result
        self._finish()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._finish()

    def result(self) -> T:
        """The result, or raises the error; only once finished."""
        self._seen = True
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # set by succeed()

    def when_finished(self, action: Callable[[], None]) -> None:
        """Call `action` on completion, or now if that has been."""
        if self.finished:
            action()
        else:
            self._waiters.append(action)

    def __await__(self) -> Generator["Completion[Any]", None, T]:
        if not self.finished:
            yield self
        return self.result()

    def _finish(self) -> None:
        assert not self.finished, "a completion arrives once"
        self.finished = True
        waiters, self._waiters = self._waiters, []
        for action in waiters:
            action()


class Cancelled(BaseException):
    """Thrown into a task that shall stop at its next await."""


class Task(Completion[T]):
    """An `async def` under way; awaiting it gives its result.

    An error that nobody asked for is logged when the task goes: nothing fails
    in silence.
    """

    __slots__ = ("_coroutine", "_cancelled", "_waiting_for")

    def __init__(self, coroutine: Coroutine[Completion[Any], None, T]) -> None:
        super().__init__()
        self._coroutine = coroutine
        self._cancelled = False
        self._waiting_for: Completion[Any] | None = None
        self._step()

    def __del__(self) -> None:
        error = self._error
        if error is not None and not self._seen and not isinstance(error, Cancelled):
            logger.error("a task failed unseen", exc_info=error)

    def cancel(self) -> None:
        """Raise `Cancelled` where the task waits; nothing if it has finished.

        Whoever cancels does not ask how it ends.  Where what it waits for
        `holds`, it is raised as that arrives.
        """
        self._seen = True
        if not self.finished and not self._cancelled:
            self._cancelled = True
            if self._waiting_for is not None and not self._waiting_for.holds:
                self._waiting_for = None
                self._step()

    def _wait_for(self, completion: Completion[Any]) -> None:
        self._waiting_for = completion
        completion.when_finished(lambda: self._resume(completion))

    def _resume(self, completion: Completion[Any]) -> None:
        if self._waiting_for is not completion:
            return  # it was cancelled meanwhile
        self._waiting_for = None
        if inspect.getcoroutinestate(self._coroutine) == inspect.CORO_SUSPENDED:
            self._step()  # and not while it is thrown away, half-way through its clean-up

    def _step(self) -> None:
        while True:
            try:
                if self._cancelled:
                    completion = self._coroutine.throw(Cancelled())
                    self._cancelled = False
                else:
                    completion = self._coroutine.send(None)
            except StopIteration as stop:
                self.succeed(stop.value)
                return
            except BaseException as error:
                self.fail(error)
                return
            if not completion.finished:
                self._wait_for(completion)
                return


class Turn:
    """One at a time, first come first served: `await take()`, and `give()` in the end."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[Completion[None]] = deque()

    async def take(self) -> None:
        if self._taken:
            turn: Completion[None] = Completion()
            self._waiting.append(turn)
            try:
                await turn
            except BaseException:
                self._waiting.remove(turn)  # cancelled: nobody would give it back
                raise
        self._taken = True

    def give(self) -> None:
        if self._waiting:
            self._waiting.popleft().succeed(None)
        else:
            self._taken = False


class Ahead(Generic[T]):
    """Tasks of which at most `count` run at once: `async with Ahead(4, take) as ahead`.

    `take` is given their results, one by one in the order of their starts.  The end waits for
    all.  The first error, or a cancellation, stops the rest.
    """

    def __init__(self, count: int, take: Callable[[T], Awaitable[None]] | None = None) -> None:
        self._count = count
        self._take = take
        self._running: deque[Task[T]] = deque()

    async def start(self, coroutine: Coroutine[Completion[Any], None, T]) -> None:
        """Run one more, after the oldest has finished if there are too many."""
        try:
            while len(self._running) >= self._count:
                await self._take_oldest()
        except BaseException:
            coroutine.close()
            raise
        self._running.append(Task(coroutine))

    async def _take_oldest(self) -> None:
        result = await self._running[0]
        self._running.popleft()
        if self._take is not None:
            await self._take(result)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        try:
            while self._running and kind is None:
                await self._take_oldest()
        except BaseException as error:
            kind = type(error)
            raise
        finally:
            for task in self._running:
                task.cancel()
            if kind is not GeneratorExit:  # thrown away: nobody would go on
                for task in self._running:
                    await _over(task)


async def _over(task: Task[Any]) -> None:
    """However it ends."""
    if not task.finished:
        over: Completion[None] = Completion(holds=True)
        task.when_finished(lambda: over.succeed(None))
        await over


async def gather(completions: Sequence[Completion[T]]) -> list[T]:
    """The results of all, after the last has finished; the first error is raised then."""
    for completion in completions:
        if not completion.finished:
            waited: Completion[None] = Completion(completion.holds)
            completion.when_finished(lambda waited=waited: waited.succeed(None))  # type: ignore[misc]
            await waited
    results: list[T] = []
    errors: list[BaseException] = []
    for completion in completions:
        try:
            results.append(completion.result())
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return results
