"""Pictures of the glass for the documents, drawn of a session on the played parts.

`make pictures` writes them to docs/pictures; a test holds them equal.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from appliance.glass import Glass, Key
from appliance.simulated.glass_drawing import draw
from tests.operators.fake_appliance import MIB
from tests.operators.panel.played_panel import PlatedPanel, plated_panel
from tests.operators.running_service import RunningService

FOLDER = Path(__file__).parents[3] / "docs" / "pictures"
SELECT, RIGHT, DOWN, UP, LEFT = Key


def session(panel: PlatedPanel, service: RunningService) -> Iterator[tuple[str, Glass]]:
    """A restore to ten minutes ago, glass by glass, and what else may stand there."""
    panel.turn(2.0)
    yield "idle", panel.glass
    panel.tap(SELECT)
    yield "menu", panel.glass
    panel.tap(SELECT)
    yield "how", panel.glass
    panel.tap(SELECT, DOWN)
    yield "when", panel.glass
    panel.tap(SELECT)
    yield "plan", panel.glass
    panel.tap(DOWN, DOWN)
    yield "plan-bytes", panel.glass

    def stall() -> None:
        service.finance.stalled = True

    service.on_loop(stall)
    panel.press(SELECT)
    panel.turn(1.7)
    yield "hold", panel.glass
    panel.turn(1.8)
    panel.release(SELECT)

    def half_way() -> None:
        job = service.finance.job
        assert job is not None
        job.bytes_total, job.bytes_copied = 100 * MIB, 42 * MIB
        job.time_anew()  # at no rate that anybody knows
        service.finance.state = "restoring"

    service.on_loop(half_way)
    panel.turn(1.2)
    yield "restoring", panel.glass
    panel.tap(SELECT, SELECT, SELECT, SELECT)
    panel.tap(*[DOWN] * 3, SELECT)
    yield "time", panel.glass
    panel.tap(*[LEFT] * 6)

    def alert() -> None:
        service.finance.state = "tracking"
        service.finance.told = [("EV202", "finance goes on without its secondary")]

    service.on_loop(alert)
    panel.turn(1.2)
    while not panel.lines[0].startswith("!"):
        panel.tap(DOWN)
    yield "alert", panel.glass


def drawn() -> dict[str, str]:
    """The documents by name."""
    with tempfile.TemporaryDirectory() as room, plated_panel(Path(room)) as (panel, service):
        return {f"{name}.svg": draw(glass) for name, glass in session(panel, service)}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, picture in drawn().items():
        (FOLDER / name).write_text(picture)
        print(FOLDER / name)
