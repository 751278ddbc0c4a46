"""A desk with a fake appliance, in virtual time, and connections of people without sockets."""

from pathlib import Path
from typing import Any

from appliance.cdp.tasks import Task
from appliance.operators import actions
from appliance.operators.operator_lock import Operator
from appliance.operators.requests import Desk
from appliance.simulated.world import World
from tests.operators.fake_appliance import FakeAppliance


class Connection:
    """One of somebody, without a socket."""

    def __init__(self, desk: Desk, operator: Operator) -> None:
        self.desk = desk
        self.operator = operator
        self.tasks: list[Task[Any]] = []

    def ask(self, verb: str, **arguments: object) -> Task[Any]:
        task = Task(
            actions.perform(self.desk, self.operator, verb, arguments, lambda progress: None)
        )
        self.tasks.append(task)
        return task

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.desk.leave(self.operator)


class Office:
    """A desk in a virtual world, and two people at it."""

    def __init__(self, directory: Path) -> None:
        self.world = World(1)
        self.appliance = FakeAppliance(self.world, directory)
        self.finance = self.appliance.finance
        self.desk = Desk(self.appliance, self.world, self.world.clock.wall_ns)
        self.connections: list[Connection] = []
        self.ann = self.connect("ann", "console ttyS0")
        self.bob = self.connect("bob", "")

    def connect(self, user: str, face: str) -> Connection:
        operator = Operator(user)
        operator.appear_at(face)
        self.connections.append(Connection(self.desk, operator))
        return self.connections[-1]

    def do(self, connection: Connection, verb: str, **arguments: object) -> Any:
        return self.world.run_until(connection.ask(verb, **arguments))

    def close(self) -> None:
        """Nothing waits any more."""
        for connection in self.connections:
            connection.close()
        for volume in self.appliance.volumes.values():
            if volume.job is not None:
                volume.job.cancel()

    def holder(self) -> str | None:
        status = self.do(self.connect("watcher", ""), "status")
        return None if status.operator is None else status.operator.actor

    def texts(self, code: str) -> list[str]:
        return [event.text for event in self.appliance.events(None, 0, 99) if event.code == code]
