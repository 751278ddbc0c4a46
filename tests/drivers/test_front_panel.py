"""The driver of the front panel, before a played part that decodes its pins."""

from errno import EIO, ENXIO, EREMOTEIO
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from appliance.boards import Board
from appliance.drivers.front_panel import FrontPanel
from appliance.drivers.lcd_characters import ROM_CODES, Characters
from appliance.glass import DARK, Backlight, Glass, Key
from appliance.glyphs import GLYPHS
from appliance.simulated.front_panel import SimulatedPanel
from appliance.simulated.lcd import PlayedLcd
from tests.drivers.panel_rig import BOARDS, GLASSES, PanelRig, WatchedBus, glass, misfit, rig, seen

FIRST = glass("finance    14:02", "protected  ▲ 6 d")
SECOND = glass("finance    14:03", "protected  ▲ 6 d")
NEVER = 1 << 20
"""Bytes that no transaction has."""


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> Board:
    return BOARDS[request.param]


@pytest.fixture
def bench(board: Board) -> PanelRig:
    return rig(board)


@pytest.fixture
def plate() -> PanelRig:
    return rig(BOARDS["lcd-plate"])


def test_it_shows_what_it_is_told_and_reads_every_key(board: Board) -> None:
    assert not misfit(board, board)


def test_each_of_its_characters(bench: PanelRig) -> None:
    for character in [*map(chr, range(0x20, 0x7F)), *GLYPHS]:
        shown = glass(character * 16, f"is '{character}'")
        bench.driver.show(shown)
        assert bench.part.glass() == seen(bench.board, shown)


def test_each_colour(bench: PanelRig) -> None:
    for backlight in [*Backlight, *reversed(Backlight)]:
        shown = glass("light", backlight=backlight)
        bench.driver.show(shown)
        assert bench.part.glass() == seen(bench.board, shown)


def test_keys_pressed_together(bench: PanelRig) -> None:
    assert bench.driver.keys() == frozenset()
    for number, key in enumerate(Key, 1):
        bench.part.press(key)
        assert bench.driver.keys() == set(list(Key)[:number])
    for key in Key:
        bench.part.release(key)
    assert bench.driver.keys() == frozenset()


def test_a_stuck_key_stays_down(bench: PanelRig) -> None:
    bench.part.stick(Key.LEFT)
    bench.part.release(Key.LEFT)
    bench.part.press(Key.UP)
    assert bench.driver.keys() == {Key.LEFT, Key.UP}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(BOARDS)),
    st.lists(
        st.builds(
            Glass,
            st.lists(st.text("ab \\~█▌░▲▼◀", min_size=16, max_size=16), min_size=2, max_size=2).map(
                lambda lines: (lines[0], lines[1])
            ),
            st.sampled_from(Backlight),
        ),
        max_size=6,
    ),
)
def test_any_sequence_of_glasses(name: str, glasses: list[Glass]) -> None:
    """At most eight of these are drawn."""
    bench = rig(BOARDS[name])
    for shown in glasses:
        bench.driver.show(shown)
        assert bench.part.glass() == seen(bench.board, shown)


# Characters that are drawn.


def drawn(board: Board) -> str:
    return "".join(each for each in GLYPHS if each not in ROM_CODES[board.lcd.rom])


def test_the_ninth_drawn_character_and_unknown_ones_are_question_marks(bench: PanelRig) -> None:
    glyphs = drawn(bench.board)[:9]
    bench.driver.show(glass(glyphs, "é€\x07\x00\ufffd"))
    assert bench.part.glass().lines == glass(glyphs[:8] + "?", "?????").lines


def test_glyphs_come_and_go_and_the_longest_unused_makes_room(bench: PanelRig) -> None:
    glyphs = drawn(bench.board)
    for start in range(len(glyphs) - 8):
        shown = glass(glyphs[start : start + 8])
        _, size = bench.cost(shown)
        if start:
            _, again = bench.cost(glass(glyphs[start : start + 8][::-1]))
            assert again < size, "nothing is drawn twice"
            bench.driver.show(shown)


@pytest.mark.parametrize("rom", ["A00", "A02"])
def test_a_glyph_is_drawn_where_nothing_of_the_glass_before_is(rom: Literal["A00", "A02"]) -> None:
    characters = Characters(rom)
    one, two, three, *rest = (each for each in GLYPHS if each not in ROM_CODES[rom])
    characters.encode(glass("".join(rest[:6])).lines)
    (before, _), _ = characters.encode(glass(one + two).lines)
    (after, _), drawn = characters.encode(glass(three).lines)
    assert list(drawn) == [after[0]]
    assert after[0] not in before


# What it costs.


def test_what_does_not_differ_is_not_written(plate: PanelRig) -> None:
    plate.driver.show(FIRST)
    assert plate.cost(FIRST) == (0, 0)


@pytest.mark.parametrize(
    ("after", "bytes_"),
    [
        # Address and register; RS low, 4 for the address, RS high, 4 for each character.
        pytest.param(SECOND, 2 + 6 + 4, id="one character"),
        pytest.param(glass("finance    13:12", "protected  ▲ 6 d"), 2 + 6 + 12, id="a gap of one"),
        pytest.param(glass("finance    24:12", "protected  ▲ 6 d"), 2 + 20, id="a gap of two"),
        pytest.param(glass("Finance    14:03", "protected  ▲ 6 d"), 2 + 20, id="far apart"),
        pytest.param(glass("x" * 16, "y" * 16), 2 + 2 * (6 + 64), id="all of it"),
        pytest.param(glass(*FIRST.lines, Backlight.OFF), 2 + 1, id="one lamp"),
        pytest.param(glass(*FIRST.lines, Backlight.BLUE), 2 * (2 + 1), id="lamps of both ports"),
        pytest.param(glass("finance    14:02", "protected  ▼ 6 d"), 2 + 38 + 10, id="a glyph"),
        pytest.param(
            glass("finance    14:03", "protected  ▲ 6 d", Backlight.RED), 3 + 12, id="all of a kind"
        ),
    ],
)
def test_a_change_is_one_transaction_of_so_many_bytes(
    plate: PanelRig, after: Glass, bytes_: int
) -> None:
    plate.driver.show(FIRST)
    assert plate.cost(after) == (1, bytes_)


def test_how_long_it_takes_at_100_khz(plate: PanelRig) -> None:
    """On the played clock: nine clocks a byte, without starts and stops."""
    plate.driver.keys()
    assert (plate.part.transactions, plate.part.bytes) == (4 + 2, 68 + 8)
    assert plate.part.seconds == pytest.approx(0.0588, abs=1e-4)
    at = plate.part.seconds
    plate.driver.show(glass("x" * 16, "y" * 16, Backlight.OFF))
    assert plate.part.seconds - at == pytest.approx(0.0128, abs=1e-4)
    at = plate.part.seconds
    plate.driver.keys()
    assert plate.part.seconds - at == pytest.approx(0.00072, abs=1e-6)


def test_a_message_is_no_longer_than_every_adapter_takes(bench: PanelRig) -> None:
    """All of the glass, and eight characters drawn: one transaction still."""
    glyphs = drawn(bench.board)[:8]
    bench.driver.show(glass("x" * 16, "y" * 16))
    transactions, size = bench.cost(glass((glyphs * 2)[:16], (glyphs[::-1] * 2)[:16]))
    assert transactions == 1
    assert size > 254, "it takes more than one"


# States that it finds.


@pytest.mark.parametrize("half", [None, *range(16)])
@pytest.mark.parametrize("eight_bits", [True, False])
def test_it_recovers_the_display_from_any_state(
    bench: PanelRig, eight_bits: bool, half: int | None
) -> None:
    bench.part.unplug()
    bench.part.plug(eight_bits=eight_bits, half=half)
    for shown in GLASSES:
        bench.driver.show(shown)
        assert bench.part.glass() == seen(bench.board, shown)


def test_it_recovers_from_a_driver_that_was_killed_at_any_byte(board: Board) -> None:
    """In its first initialisation, or in what it showed then."""
    sizes: list[int] = []
    part = SimulatedPanel(board)
    FrontPanel(WatchedBus(part, sizes.append), board, part.sleep).show(GLASSES[0])
    for transaction, size in enumerate(sizes):
        for after in range(size):
            bench = rig(board)
            bench.part.nak(transaction, after=NEVER)
            bench.part.nak(after=after)
            with pytest.raises(OSError, match=r"."):
                bench.driver.show(GLASSES[0])
            another = FrontPanel(bench.part, board, bench.part.sleep)
            another.show(SECOND)
            assert bench.part.glass() == seen(board, SECOND), (transaction, after)


def test_the_display_is_initialised_as_its_data_sheet_says(
    plate: PanelRig, mocker: MockerFixture
) -> None:
    executed = mocker.spy(PlayedLcd, "_execute")
    plate.driver.keys()
    told = [call.args[2:] for call in executed.call_args_list]
    in_eight_bits = [(False, 0x3F), (False, 0x3F), (False, 0x3F), (False, 0x2F)]
    assert told == [
        *in_eight_bits,
        *[(False, each) for each in (0x28, 0x08, 0x01, 0x06, 0x0C)],
    ]


# Errors.


@pytest.mark.parametrize("error", [ENXIO, EREMOTEIO, EIO])
def test_a_nak_is_told_and_mended(bench: PanelRig, error: int) -> None:
    bench.driver.show(FIRST)
    bench.part.nak(error=error)
    with pytest.raises(OSError, match=r".") as raised:
        bench.driver.show(SECOND)
    assert raised.value.errno == error
    bench.driver.show(SECOND)
    assert bench.part.glass() == seen(bench.board, SECOND)


def test_a_change_that_breaks_off_at_any_byte_is_mended(bench: PanelRig) -> None:
    bench.driver.show(FIRST)
    _, size = bench.cost(GLASSES[0])
    for after in range(size):
        bench.driver.show(FIRST)
        bench.part.nak(after=after)
        with pytest.raises(OSError, match=r"."):
            bench.driver.show(GLASSES[0])
        bench.driver.show(SECOND)
        assert bench.part.glass() == seen(bench.board, SECOND), after


def test_many_naks_in_a_row(bench: PanelRig) -> None:
    bench.part.nak(5)
    for _ in range(5):
        with pytest.raises(OSError, match=r"."):
            bench.driver.show(FIRST)
        assert bench.part.glass() == DARK
    bench.driver.show(FIRST)
    assert bench.part.glass() == seen(bench.board, FIRST)


def test_unplugged_and_plugged_in_again(bench: PanelRig) -> None:
    bench.driver.show(FIRST)
    bench.part.unplug()
    assert bench.part.glass() == DARK
    for attempt in (bench.driver.keys, lambda: bench.driver.show(FIRST)):
        with pytest.raises(OSError, match=r".") as raised:
            attempt()
        assert raised.value.errno == ENXIO
    bench.part.plug()
    assert bench.driver.keys() == frozenset()
    blank = Glass(DARK.lines, FIRST.backlight)
    assert bench.part.glass() == seen(bench.board, blank), "no old text, and no garbage"
    bench.driver.show(FIRST)
    assert bench.part.glass() == seen(bench.board, FIRST)


def test_a_plug_that_was_out_for_a_moment_presses_no_keys(bench: PanelRig) -> None:
    bench.driver.show(FIRST)
    bench.part.unplug()
    bench.part.plug()
    with pytest.raises(OSError, match="was reset"):
        bench.driver.keys()
    bench.driver.show(FIRST)
    assert bench.part.glass() == seen(bench.board, FIRST)
    assert bench.driver.keys() == frozenset()


def test_a_reset_while_the_keys_are_read_presses_none(board: Board) -> None:
    """Behind any of the transactions that a reading takes."""
    for reset_behind in (1, 2):
        part = SimulatedPanel(board)
        left = 0

        def passed(_: int, part: SimulatedPanel = part) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                part.unplug()
                part.plug()

        driver = FrontPanel(WatchedBus(part, passed), board, part.sleep)
        assert driver.keys() == frozenset()
        left = reset_behind
        if reset_behind == 1:
            with pytest.raises(OSError, match="was reset"):
                driver.keys()
        else:
            assert driver.keys() == frozenset()
            with pytest.raises(OSError, match="was reset"):
                driver.keys()


def test_an_interrupted_wait_begins_anew(board: Board) -> None:
    bench = rig(board)
    waits = 0

    def sleep(seconds: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            raise KeyboardInterrupt
        bench.part.sleep(seconds)

    driver = FrontPanel(bench.part, board, sleep)
    with pytest.raises(KeyboardInterrupt):
        driver.show(FIRST)
    driver.show(FIRST)
    assert bench.part.glass() == seen(board, FIRST)
