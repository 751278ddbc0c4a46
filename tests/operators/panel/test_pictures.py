"""The documents' pictures of the glass are what the glass shows."""

from tests.operators.panel.pictures import FOLDER, drawn


def test_pictures_are_as_the_glass_is() -> None:
    known = {path.name: path.read_text() for path in FOLDER.glob("*.svg")}
    assert drawn() == known, "`make pictures` writes them anew"
