"""The serial line, on pseudo-terminals."""

import os
import pty
import select
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.drivers.serial_line import SerialLine
from appliance.errors import LineUnusable


@pytest.fixture
def ends() -> Iterator[list[int]]:
    """Ours, and the one whose name the line opens."""
    pair = list(pty.openpty())
    yield pair
    for descriptor in pair:
        os.close(descriptor)


@pytest.fixture
def line(ends: list[int]) -> Iterator[SerialLine]:
    opened = SerialLine(Path(os.ttyname(ends[1])), 9600)
    yield opened
    opened.close()


def wait_for(descriptor: int) -> None:
    assert select.select([descriptor], [], [], 10)[0]


def test_bytes_pass_as_they_are(line: SerialLine, ends: list[int]) -> None:
    every = bytes(range(256))
    os.write(ends[0], every)
    got = b""
    while len(got) < 256:
        wait_for(line.fileno())
        got += line.read()
    assert got == every
    assert line.write(every) == 256
    back = b""
    while len(back) < 256:
        wait_for(ends[0])
        back += os.read(ends[0], 256)
    assert back == every


def test_nothing_is_waited_for(line: SerialLine, ends: list[int]) -> None:
    assert line.read() == b""
    taken = 0
    for _ in range(1000):
        taken += (count := line.write(b"x" * 4096))
        if not count:
            break
    assert 0 < taken < 1000 * 4096
    assert line.unsent() >= 0


def test_the_line_is_set_up(line: SerialLine, ends: list[int]) -> None:
    iflag, oflag, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(line.fileno())
    assert (ispeed, ospeed) == (termios.B9600, termios.B9600)
    assert not lflag & (termios.ECHO | termios.ICANON | termios.ISIG)
    assert not iflag & (termios.IXON | termios.IXOFF | termios.ICRNL)
    assert not oflag & termios.OPOST
    assert cflag & termios.CLOCAL
    assert not cflag & (termios.CRTSCTS | termios.PARENB | termios.CSTOPB)
    assert cflag & termios.CSIZE == termios.CS8


def test_a_line_is_for_one(line: SerialLine, ends: list[int]) -> None:
    with pytest.raises(LineUnusable, match="unavailable"):
        SerialLine(Path(os.ttyname(ends[1])), 9600)


def test_a_line_that_goes(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    line = SerialLine(Path(os.ttyname(theirs)), 9600)
    os.close(ours)
    os.close(theirs)
    wait_for(line.fileno())
    with pytest.raises(LineUnusable):
        line.read()
    with pytest.raises(LineUnusable):
        line.write(b"x")
    line.close()
    line.close()


def test_what_is_no_line(tmp_path: Path) -> None:
    with pytest.raises(LineUnusable, match="no such file"):
        SerialLine(tmp_path / "ttyS9", 9600)
    (tmp_path / "file").touch()
    with pytest.raises(LineUnusable, match="serial line"):
        SerialLine(tmp_path / "file", 9600)
