"""The firmware image that the service runs in, and what it hears of updates."""

from pathlib import Path

import pytest

from appliance.events import STATE_IN_MEMORY, UPDATE_REFUSED, VERSION_WORKS, WENT_BACK
from appliance.service.image import read_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a box that runs slot B of an image that has worked in A."""
    files = {
        "etc/os-release": 'NAME="Debian"\nIMAGE_ID=ebbtide-x\nIMAGE_VERSION=0.2.0\nBUILD_ID=abc\n',
        "proc/cmdline": "quiet rauc.slot=B ro\n",
        "var/lib/ebbtide-image/worked-A": "0.2.0 abc\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "run").mkdir()
    return tmp_path


def test_an_image_that_has_not_shown_that_it_works(root: Path) -> None:
    image = read_image(root)
    assert image is not None
    assert (image.version, image.build, image.slot) == ("0.2.0", "abc", "B")
    assert not image.proven
    assert not image.alerts
    image.hear(VERSION_WORKS, version="0.2.0", slot="B")
    assert image.proven


@pytest.mark.parametrize(("worked", "proven"), [("0.2.0 abc", True), ("0.2.0 abd", False)])
def test_an_image_that_has(root: Path, worked: str, proven: bool) -> None:
    (root / "var/lib/ebbtide-image/worked-B").write_text(f"{worked}\n")
    image = read_image(root)
    assert image is not None
    assert image.proven is proven


@pytest.mark.parametrize("missing", ["etc/os-release", "proc/cmdline"])
def test_something_else_than_an_image_of_ours(root: Path, missing: str) -> None:
    (root / missing).write_text("IMAGE_VERSION=4\nIMAGE_ID=cloud\n")
    assert read_image(root) is None
    (root / missing).unlink()
    assert read_image(root) is None


def test_trouble_stands_until_an_update_goes_well(root: Path) -> None:
    image = read_image(root)
    assert image is not None
    image.hear(UPDATE_REFUSED, reason="it is not signed")
    image.hear(WENT_BACK, version="0.2.0", slot="B", reason="it said so")
    assert image.alerts == {
        UPDATE_REFUSED: "an update was not installed: it is not signed",
        WENT_BACK: "version 0.2.0 runs in slot B, since it said so",
    }
    image.hear(VERSION_WORKS, version="0.2.0", slot="B")
    assert not image.alerts


def test_a_state_in_memory_lasts_until_the_next_start(root: Path) -> None:
    (root / "run/ebbtide-state-in-memory").write_text("it was asked for\n")
    image = read_image(root)
    assert image is not None
    assert image.memory_only == "it was asked for"
    image.hear(VERSION_WORKS, version="0.2.0", slot="B")
    assert "it was asked for" in image.alerts[STATE_IN_MEMORY]


def test_an_alert_moves_no_cursor_and_lacks_no_field(root: Path) -> None:
    """Its fields come from a file, or over the socket."""
    image = read_image(root)
    assert image is not None
    image.hear(UPDATE_REFUSED, reason="\x1b[2Jit is not signed")
    image.hear(WENT_BACK, version="0.2.0")
    assert image.alerts == {
        UPDATE_REFUSED: "an update was not installed: ?[2Jit is not signed",
        WENT_BACK: "version 0.2.0 runs in slot ?, since ?",
    }
