"""What hosts may connect to: each volume by its name, and any point of it as `VOLUME@POINT`.

A view is opened by the first connection to its name and shared by all, so that
a point relative to now means the same to each.  Views that an operator created
stay until they are dropped; others go with their last connection.
"""

from collections.abc import Callable, Mapping

from appliance import events
from appliance.cdp.lifecycle import Lifecycle
from appliance.cdp.tasks import Completion, Task
from appliance.cdp.views import View
from appliance.cdp.volume import Service
from appliance.errors import VolumeNotFound, VolumeNotReady
from appliance.events import Emit
from appliance.hosts.nbd.exports import Export
from appliance.operators.interfaces import View as CreatedView


class VolumeExports:
    """The `ExportSource` of the appliance."""

    def __init__(
        self,
        volumes: Mapping[str, Lifecycle],
        awaited: Callable[[], Mapping[str, str]],
        emit: Emit,
    ) -> None:
        """`awaited` tells of volumes that have not started yet, and what each waits for."""
        self._volumes = volumes
        self._awaited = awaited
        self._emit = emit
        self._created: dict[str, View] = {}

    # ExportSource

    def names(self) -> list[tuple[str, str]]:
        states = dict.fromkeys(self._awaited(), Service.OFFLINE.value)
        states |= {name: lifecycle.volume.state for name, lifecycle in self._volumes.items()}
        volumes = [(name, f"volume, {state}") for name, state in sorted(states.items())]
        views = [
            (name, f"read-only view of write {view.point.write}")
            for name, view in sorted(self._created.items())
        ]
        return volumes + views

    def check(self, name: str) -> None:
        lifecycle = self._volumes.get(name)
        if lifecycle is None:
            reason, state = self._awaited().get(name), Service.OFFLINE.value
        elif lifecycle.volume.service is not Service.ONLINE:
            reason, state = "hosts cannot attach now", lifecycle.volume.state
        elif lifecycle.volume.closed_to_hosts:
            reason, state = "its restore has not ended", lifecycle.volume.state
        else:
            return
        if reason is not None:
            raise VolumeNotReady(volume=name, state=state, reason=reason)

    def open(self, name: str) -> Completion[Export]:
        return Task(self._open(name))

    async def _open(self, name: str) -> Export:
        volume_name, at, point = name.partition("@")
        lifecycle = self._volumes.get(volume_name)
        if lifecycle is None:
            self.check(volume_name)
            raise VolumeNotFound(volume=volume_name)
        if not at:
            self.check(volume_name)
            return self._volume_export(lifecycle)
        created = self._created.get(name)
        if created is not None:
            return _view_export(name, created, lambda: None)
        view = await self._open_view(lifecycle, point)
        self._emit(events.VIEW_OPENED, volume=volume_name, view=name)
        return _view_export(name, view, lambda: self._close_view(volume_name, name, view))

    def _volume_export(self, lifecycle: Lifecycle) -> Export:
        volume = lifecycle.volume
        description = f"volume {volume.name}"
        return Export(volume.name, description, volume, fast_zero=volume.primary.cheap_zero)

    async def _open_view(self, lifecycle: Lifecycle, point: str) -> View:
        volume = lifecycle.volume
        return await volume.open_view(await volume.resolve(point))

    def _close_view(self, volume: str, name: str, view: View) -> None:
        view.close()
        self._emit(events.VIEW_CLOSED, volume=volume, view=name)

    # Views that operators create

    async def create(self, volume: str, point: str) -> CreatedView:
        """Open a view that stays; its name is `VOLUME@POINT` as asked for."""
        lifecycle = self._volumes.get(volume)
        if lifecycle is None:
            raise VolumeNotFound(volume=volume)
        name = f"{volume}@{point}"
        if name not in self._created:
            self._created[name] = await self._open_view(lifecycle, point)
            self._emit(events.VIEW_OPENED, volume=volume, view=name)
        return CreatedView(name, volume, self._created[name].point)

    def created(self) -> list[CreatedView]:
        return [
            CreatedView(name, name.partition("@")[0], view.point)
            for name, view in sorted(self._created.items())
        ]

    def drop(self, name: str) -> None:
        """Raises VolumeNotFound if no such view was created."""
        view = self._created.pop(name, None)
        if view is None:
            raise VolumeNotFound(volume=name)
        self._close_view(name.partition("@")[0], name, view)

    def drop_all(self, volume: str) -> None:
        """The volume goes away, or its past does."""
        for view in self.created():
            if view.volume == volume:
                self.drop(view.name)


def _view_export(name: str, view: View, close: Callable[[], None]) -> Export:
    """Closes the view with the last of its connections."""
    connections = 0

    def opened() -> None:
        nonlocal connections
        connections += 1

    def closed() -> None:
        nonlocal connections
        connections -= 1
        if not connections:
            close()

    return Export(
        name, f"read-only view of write {view.point.write}", view, on_open=opened, on_close=closed
    )
