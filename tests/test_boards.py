"""The files that say how a front panel is wired."""

from pathlib import Path

import msgspec
import pytest

from appliance import boards
from appliance.boards import Pin, parse_board, read_board
from appliance.errors import BadBoard
from appliance.glass import Key

DELIVERED = Path(__file__).parents[1] / "firmware_config" / "boards"
PLATE = (DELIVERED / "lcd-plate.toml").read_text()


def test_the_common_plate_is_wired_as_it_is() -> None:
    board = read_board("lcd-plate")
    assert (board.address, board.lcd.rom, board.backlight.lit) == (0x20, "A00", "low")
    assert board.keys.pins == {
        Key.SELECT: Pin(0, 0),
        Key.RIGHT: Pin(0, 1),
        Key.DOWN: Pin(0, 2),
        Key.UP: Pin(0, 3),
        Key.LEFT: Pin(0, 4),
    }
    assert board.backlight.pins == (Pin(0, 6), Pin(0, 7), Pin(1, 0))
    assert board.lcd.data == (Pin(1, 4), Pin(1, 3), Pin(1, 2), Pin(1, 1))
    assert (board.lcd.e, board.lcd.rw, board.lcd.rs) == ("B5", "B6", "B7")
    assert (board.lcd.port, board.keys.port) == (1, 0)


def test_every_delivered_board_reads() -> None:
    assert {path.stem for path in DELIVERED.iterdir()} == {
        "lcd-plate",
        "lcd-plate-mono",
        "lcd-plate-usb",
        "hand-wired",
        "qemu-q35",
        "x86-sata",
    }
    for path in DELIVERED.iterdir():
        assert read_board(path.stem) == read_board(str(path))


@pytest.mark.parametrize("name", ["lcd-plate-usb", "qemu-q35", "x86-sata"])
def test_boards_with_the_common_plate_behind_a_usb_adapter(name: str) -> None:
    plate = msgspec.structs.replace(read_board("lcd-plate"), bus="i2c-tiny-usb")
    assert read_board(name) == plate


def test_a_board_of_the_box_goes_before_a_delivered_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lcd-plate.toml").write_text(PLATE.replace("0x20", "0x24"))
    monkeypatch.setattr(boards, "BOARD_DIRECTORIES", (tmp_path, *boards.BOARD_DIRECTORIES))
    assert read_board("lcd-plate").address == 0x24
    assert read_board("hand-wired").address == 0x27


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("address = 0x20", "adress = 0x20", "unknown field `adress`"),
        ("address = 0x20", "", "missing required field `address`"),
        ("address = 0x20", "address = 0x28", "<= 39 - at `$.address`"),
        ("address = 0x20", "address = '0x20'", "Expected `int`, got `str` - at `$.address`"),
        ("bus_hertz = 100_000", "bus_hertz = 1_000_000", "<= 400000 - at `$.bus_hertz`"),
        ('rom = "A00"', 'rom = "A01"', "Invalid enum value 'A01' - at `$.lcd.rom`"),
        ("columns = 16", "columns = 20", "Invalid enum value 20 - at `$.lcd.columns`"),
        ("rows = 2", "rows = 4", "Invalid enum value 4 - at `$.lcd.rows`"),
        ('e = "B5"', 'e = "B8"', "at `$.lcd.e`"),
        ('e = "B5"', 'e = "GPB5"', "at `$.lcd.e`"),
        ('e = "B5"', 'e = "B5\\n"', "at `$.lcd.e`"),
        ('e = "B5"', 'e = "A5"', "lcd: its pins are not all on one port"),
        ('up = "A3"', 'up = "B3"', "keys: its pins are not all on one port"),
        ('up = "A3"', 'up = "A7"', "keys.up: A7 of an MCP23017 cannot be read"),
        ('up = "A3"', 'up = "A2"', "A2 is given to two things"),
        ('up = "A3"', 'up = "A6"', "A6 is given to two things"),
        ('blue = "B0"', 'blue = "B5"', "B5 is given to two things"),
        ('lit = "low"', 'lit = "dim"', "Invalid enum value 'dim' - at `$.backlight.lit`"),
        ("[keys]", "[buttons]", "unknown field `buttons`"),
        ("[keys]", "[keys", "not TOML: "),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, said: str) -> None:
    assert old in PLATE
    with pytest.raises(BadBoard) as refused:
        parse_board(PLATE.replace(old, new))
    assert said.lower() in str(refused.value).lower()


def test_one_lamp_may_be_named_three_times() -> None:
    assert len(set(read_board("lcd-plate-mono").backlight.pins)) == 1


@pytest.mark.parametrize("name", ["", "..", "lcd plate", "LCD", "lcd-plate.toml"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(BadBoard, match="neither a board's name nor a path"):
        read_board(name)


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(BadBoard, match=r"there is no board 'plate' in /etc/ebbtide/boards, "):
        read_board("plate")
    with pytest.raises(BadBoard, match=r"missing\.toml: No such file"):
        read_board(str(tmp_path / "missing.toml"))
    (tmp_path / "bad.toml").write_bytes(b"bus = '\xff'")
    with pytest.raises(BadBoard, match=r"bad\.toml: not UTF-8 at byte 7"):
        read_board(str(tmp_path / "bad.toml"))
    (tmp_path / "bad.toml").write_text("bus = 3")
    with pytest.raises(BadBoard, match=r"bad\.toml: "):
        read_board(str(tmp_path / "bad.toml"))
