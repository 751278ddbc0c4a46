"""The server's side of one control connection, without the socket.

Bytes go in by `receive`; bytes to send gather in `output`, from where the
connection takes them.  Nothing grows without bound: at most `TASKS_MAXIMUM`
requests are worked on and some `OUTPUT_FULL` bytes wait before `wants_input`
turns false, a long answer is encoded part by part as output drains, and
progress is left out while output waits.
"""

import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Final, Protocol

from appliance import __version__
from appliance.cdp.tasks import Cancelled, Task
from appliance.errors import BadRequest, EbbtideError
from appliance.operators.actions import Answer
from appliance.operators.answers import ErrorAnswer, JobDescription
from appliance.operators.control import messages
from appliance.operators.operator_lock import Operator

TASKS_MAXIMUM: Final = 16
LINES_A_TURN: Final = 4
"""Requests begun in one call, so that a flood of them does not keep volumes waiting."""
OUTPUT_FULL: Final = 256 << 10
_log = logging.getLogger("ebbtide.control")


class Perform(Protocol):
    """Do a verb; `report` takes a job's progress."""

    def __call__(
        self,
        verb: str,
        arguments: Mapping[str, object],
        report: Callable[[JobDescription], None],
    ) -> Coroutine[Any, None, Answer]: ...


class Session:
    """`operator` is whom it serves.  `changed` is called whenever `output`, `wants_input` or `over`
    may have changed outside of a call into the session."""

    def __init__(self, operator: Operator, perform: Perform, changed: Callable[[], None]) -> None:
        self._operator = operator
        self._greeted = False
        self._perform = perform
        self._changed = changed
        self._input = bytearray()
        self._input_ended = False
        self._lines_wait = False
        self._tasks: dict[int, Task[Answer]] = {}
        self._started = 0
        self._parts: deque[tuple[messages.Id, Iterator[Any], Any]] = deque()
        self._closed = False
        self.output = bytearray(messages.encode(messages.Hello(__version__)))

    @property
    def wants_input(self) -> bool:
        """More bytes may be given to `receive`."""
        return not self._input_ended and not self._lines_wait and self._has_room()

    @property
    def wants_output(self) -> bool:
        """`output` has something to send, or `fill` something to do."""
        return bool(self.output or self._parts or (self._lines_wait and self._has_room()))

    @property
    def over(self) -> bool:
        """Once `output` is sent, nothing will come any more."""
        return self._input_ended and not self._tasks and not self._parts and not self._input

    def receive(self, data: bytes) -> None:
        """Take bytes from the client; none at all says that no more will come."""
        if not data:
            self._input_ended = True
        self._input += data
        self._read_lines()

    def fill(self) -> None:
        """Go on with what waits for room in `output`, a part at a time."""
        if self._parts and len(self.output) < OUTPUT_FULL:
            self._send_part()
        self._read_lines()

    def close(self) -> None:
        """The client is gone: stop waiting for what it asked."""
        self._closed = True
        self._input_ended = True
        self._input.clear()
        self._parts.clear()
        for task in list(self._tasks.values()):
            task.cancel()

    def _has_room(self) -> bool:
        busy = len(self._tasks) + len(self._parts)
        return busy < TASKS_MAXIMUM and len(self.output) < OUTPUT_FULL

    def _read_lines(self) -> None:
        self._lines_wait = False
        for _ in range(LINES_A_TURN):
            if not self._input:
                return
            end = self._input.find(b"\n")
            length = len(self._input) if end < 0 else end
            if length > messages.REQUEST_MAXIMUM:
                # Where the next request begins cannot be known for sure.
                self._input.clear()
                self._input_ended = True
                self._refuse(None, f"it is longer than {messages.REQUEST_MAXIMUM} bytes")
                return
            if end < 0:
                if self._input_ended:
                    self._input.clear()
                    self._refuse(None, "it ends in the middle")
                return
            if not self._has_room():
                break
            line = bytes(self._input[:end])
            del self._input[: end + 1]
            if line.strip():
                self._read(line)
        self._lines_wait = b"\n" in self._input

    def _read(self, line: bytes) -> None:
        if not self._greeted:
            self._greeted = True
            greeting = messages.decode_greeting(line)
            if greeting is not None:
                self._operator.appear_at(greeting.face)
                return
        try:
            request = messages.decode_request(line)
        except ValueError as error:
            self._refuse(None, str(error))
            return
        number = self._started = self._started + 1

        def report(job: JobDescription) -> None:
            if not self._closed and not self.output:
                self._send(messages.ProgressMessage(request.id, job))

        task = Task(self._perform(request.verb, request.args, report))
        self._tasks[number] = task
        task.when_finished(lambda: self._finish(number, request.id, task))

    def _finish(self, number: int, identity: messages.Id, task: Task[Answer]) -> None:
        del self._tasks[number]
        if self._closed:
            return
        try:
            answer = task.result()
            if isinstance(answer, Iterator):
                self._parts.append((identity, answer, next(answer)))
                self._changed()
            else:
                self._send(messages.AnswerMessage(identity, answer))
        except Cancelled:
            self._refuse(identity, "it was cancelled")
        except Exception as error:  # a bug in one answer is no reason to leave others without
            self._send_error(identity, error)

    def _send_part(self) -> None:
        identity, parts, part = self._parts.popleft()
        try:
            following = next(parts, None)
            if following is None:
                self._send(messages.AnswerMessage(identity, part))
            else:
                self._send(messages.PartMessage(identity, part))
                self._parts.append((identity, parts, following))
        except Exception as error:  # as in `_finish`
            self._send_error(identity, error)

    def _refuse(self, identity: messages.Id | None, reason: str) -> None:
        self._send_error(identity, BadRequest(reason=reason))

    def _send_error(self, identity: messages.Id | None, error: Exception) -> None:
        if not isinstance(error, EbbtideError):
            _log.error("a request failed", exc_info=error)
        self._send(messages.ErrorMessage(identity, ErrorAnswer.of(error)))

    def _send(self, message: messages.Message) -> None:
        self.output += messages.encode(message)
        self._changed()
