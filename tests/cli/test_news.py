"""What the image's scripts tell of updates, and the faces that show it."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance.cli.main import COMMAND
from appliance.cli.news import main
from appliance.operators.parameters import NEWS
from appliance.service.image import Image
from tests.operators.panel.played_panel import served_panel
from tests.operators.running_service import RunningService, running_service

SCRIPTS = Path(__file__).parents[2] / "firmware_config/image/root/usr/lib/ebbtide"


def on_image(service: RunningService) -> None:
    service.on_loop(lambda: setattr(service.appliance, "image", Image("0.2.0", "abc", "A")))


def shown(service: RunningService, *words: str) -> str:
    result = CliRunner().invoke(COMMAND, ["--socket", str(service.socket), *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_what_became_of_an_update_is_an_event_and_stands_in_the_status(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        on_image(service)
        assert "image 0.2.0 in slot A: has not shown yet that it works" in shown(service, "status")
        assert main(["works", "version=0.2.0", "slot=A"], service.socket) == 0
        assert "image 0.2.0 in slot A: works" in shown(service, "status")
        told = ["went back", "version=0.2.0", "slot=A", "reason=slot B does not work"]
        assert main(told, service.socket) == 0
        sentence = "version 0.2.0 runs in slot A, since slot B does not work"
        assert f"EV924 {sentence}" in shown(service, "status")
        assert re.search(f"EV924.*{sentence}", shown(service, "events"))
        assert main(["installed", "version=0.3.0", "slot=B"], service.socket) == 0
        assert "EV924" not in shown(service, "status")
        assert "EV920" in shown(service, "events")


def test_the_panel_turns_to_it(tmp_path: Path) -> None:
    with served_panel(tmp_path) as (panel, service):
        on_image(service)
        assert main(["refused", "reason=the bundle was refused"], service.socket) == 0
        seen = set()
        for _ in range(60):
            panel.turn(1.0)
            seen.add(panel.lines[0])
        assert "! EV921 alert   " in seen


def test_without_an_image_it_is_an_event_all_the_same(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        assert main(["known"], service.socket) == 0
        assert "image" not in shown(service, "status")
        assert "EV922" in shown(service, "events")


def test_what_nobody_hears_is_said_to_who_told_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["known"], tmp_path / "nowhere") == 1
    assert "does not hear of it" in capsys.readouterr().err


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        assert main(["nonsense"], service.socket) == 1
        assert main(["known", "what=else", "more=1"], service.socket) == 1


def test_the_scripts_say_what_the_service_knows() -> None:
    said = {
        (double or single)
        for script in SCRIPTS.iterdir()
        for double, single in re.findall(
            r'(?m)^\s*tell (?:"([a-z ]+)"|([a-z]+))', script.read_text()
        )
    }
    assert said == set(NEWS)
