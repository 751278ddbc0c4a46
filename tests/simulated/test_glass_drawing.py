"""The glass as a picture: well-formed, and dot by dot what it shows."""

import re
from xml.etree import ElementTree as ET

import pytest

from appliance.glass import Backlight, Glass
from appliance.glyphs import GLYPHS
from appliance.simulated.dot_font import dots
from appliance.simulated.glass_drawing import draw

NAMESPACE = "{http://www.w3.org/2000/svg}"


def glass(first: str, second: str = "", backlight: Backlight = Backlight.GREEN) -> Glass:
    return Glass((first.ljust(16), second.ljust(16)), backlight)


def lit(picture: str) -> set[tuple[int, int]]:
    """Column and row of each lit dot, counted from the upper left one of the first character."""
    paths = ET.fromstring(picture).findall(f"{NAMESPACE}path")
    (path,) = (each.get("d", "") for each in paths if each.get("fill") == "url(#lit)")
    runs = re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", path)
    assert "".join(f"M{x} {y}h{width}v1h-{back}z" for x, y, width, back in runs) == path
    assert all(width == back for _, _, width, back in runs)
    return {
        (int(x) - 4 + column, int(y) - 4) for x, y, width, _ in runs for column in range(int(width))
    }


def test_every_character_has_its_dots_where_it_stands() -> None:
    shown = glass("▲bcdefghijklmno▶", "pqrstuvwxyz{|}~↵")
    expected = {
        (6 * column + 4 - bit, 9 * line + row)
        for line, text in enumerate(shown.lines)
        for column, character in enumerate(text)
        for row, bits in enumerate(dots(character))
        for bit in range(5)
        if bits >> bit & 1
    }
    assert lit(draw(shown)) == expected


def test_a_letter() -> None:
    rows = ["".join(".#"[bits >> bit & 1] for bit in (4, 3, 2, 1, 0)) for bits in dots("R")]
    assert rows == ["####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#", "....."]


def test_every_character_that_a_glass_may_carry_has_dots_of_its_own() -> None:
    characters = [*map(chr, range(0x20, 0x7F)), *GLYPHS, "¥"]
    assert len(set(characters)) == len({dots(each) for each in characters})
    assert all(len(dots(each)) == 8 and max(dots(each)) < 32 for each in characters)
    assert dots("\N{REPLACEMENT CHARACTER}") == dots("é") == (31, 17, 17, 17, 17, 17, 17, 31)


def test_colours_differ() -> None:
    pictures = {
        re.sub(r"<title>.*</title>", "", draw(glass("colour", backlight=colour)))
        for colour in Backlight
    }
    assert len(pictures) == len(Backlight)


@pytest.mark.parametrize("text", ["<&>\"'", "</title>", "]]>"])
def test_its_title_says_the_lines(text: str) -> None:
    shown = glass(text, "second", Backlight.RED)
    title = ET.fromstring(draw(shown)).findtext(f"{NAMESPACE}title")
    assert title == f"{text.ljust(16)} / {'second'.ljust(16)} (red)"
