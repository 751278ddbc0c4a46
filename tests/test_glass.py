"""What a person sees and presses, and the characters drawn for it."""

import pytest

from appliance.glass import COLUMNS, DARK, Backlight, Glass, Key
from appliance.glyphs import GLYPHS

LINE = " " * COLUMNS


@pytest.mark.parametrize("line", ["", LINE[1:], LINE + " "])
def test_lines_have_sixteen_characters(line: str) -> None:
    for lines in ((line, LINE), (LINE, line)):
        with pytest.raises(ValueError, match="not lines of 16 characters"):
            Glass(lines, Backlight.OFF)


def test_the_colours_are_those_of_light() -> None:
    red, green, blue = (colour.lamps for colour in (Backlight.RED, Backlight.GREEN, Backlight.BLUE))
    assert (red, green, blue) == (
        (True, False, False),
        (False, True, False),
        (False, False, True),
    )

    def mixed(*colours: tuple[bool, bool, bool]) -> tuple[bool, ...]:
        return tuple(any(lamp) for lamp in zip(*colours, strict=True))

    assert Backlight.YELLOW.lamps == mixed(red, green)
    assert Backlight.VIOLET.lamps == mixed(red, blue)
    assert Backlight.TEAL.lamps == mixed(green, blue)
    assert Backlight.WHITE.lamps == mixed(red, green, blue)
    assert Backlight.OFF.lamps == (False, False, False)
    assert len({colour.lamps for colour in Backlight}) == 8


def test_the_words_of_the_wire() -> None:
    assert [key.value for key in Key] == ["select", "right", "down", "up", "left"]
    assert [colour.value for colour in Backlight] == [
        *("off", "red", "green", "yellow", "blue", "violet", "teal", "white")
    ]
    assert Glass((LINE, LINE), Backlight.OFF) == DARK


def test_glyphs_are_eight_rows_of_five_dots_and_all_different() -> None:
    for character, rows in GLYPHS.items():
        assert len(character) == 1
        assert len(rows) == 8
        assert all(0 <= row < 32 for row in rows)
    assert len(set(GLYPHS.values())) == len(GLYPHS)


def test_glyphs_stand_upright_and_point_where_they_say() -> None:
    assert GLYPHS["▲"] == (0, 0b00100, 0b00100, 0b01110, 0b01110, 0b11111, 0b11111, 0)
    assert GLYPHS["▶"][:4] == (0b01000, 0b01100, 0b01110, 0b01111)
    assert GLYPHS["▌"] == (0b11100,) * 8
    mirrored = tuple(int(f"{row:05b}"[::-1], 2) for row in GLYPHS["▶"])
    assert GLYPHS["◀"] == mirrored
    assert GLYPHS["▼"][1:7] == GLYPHS["▲"][6:0:-1]


def test_a_bar_grows_a_column_at_a_time() -> None:
    dots = [sum(row.bit_count() for row in GLYPHS[each]) for each in "▏▎▌▊█"]
    assert dots == [8, 16, 24, 32, 40]
