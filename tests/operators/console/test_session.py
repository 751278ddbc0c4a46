"""Dialogues of the console, against a service of canned answers: commands and the line."""

import re

import pytest

from tests.operators.console.played import CTRL_C, CTRL_L, CTRL_U, PlayedConsole, ending


def test_typed_verbs(inside: PlayedConsole) -> None:
    text = inside.line("snapshot finance noon --pin")
    assert text.startswith("snapshot finance noon --pin\r\nsnapshot noon of finance taken")
    assert ending(text) == "OK"
    assert inside.service.asked == [
        (
            "snapshot",
            {"volume": "finance", "name": "noon", "pin": True, "unpin": False, "delete": False},
        )
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("fly", "EB610"),
        ("restore", "EB610"),
        ("restore finance --to -10m --yes", "EB610"),
        ("status 'finance", "EB610"),
        ("job", "EB610"),
        ("panel exchange", "EB610"),
        ("lock", "EB610"),
        ("7", "EB610"),
        ("99999999999999999999", "EB610"),
        ("check p", "EB616"),
        ("help check", "EB616"),
        ("help fly", "EB610"),
        ("explain EB999", "EB603"),
        ("restore finance --to -1d", "EB402"),
    ],
)
def test_what_is_refused(inside: PlayedConsole, line: str, code: str) -> None:
    text = inside.line(line)
    assert ending(text) == f"ERR {code}"
    assert text.endswith(f"ERR {code}\r\n> ")


def test_help_tells_of_every_command(inside: PlayedConsole) -> None:
    text = inside.line("help --all")
    for word in ("restore", "job wait", "give-up", "password", "exit"):
        assert re.search(rf"^  {word}  ", text, re.MULTILINE)
    text = inside.line("restore --help")
    assert "--to TEXT" in text
    assert "--yes" not in text
    assert inside.line("help restore").splitlines()[1:] == text.splitlines()[1:]


def test_the_service_is_away(inside: PlayedConsole) -> None:
    inside.service.away = True
    text = inside.line("status")
    assert "EB901: cdpd does not answer" in text
    assert ending(text) == "ERR EB901"
    assert ending(inside.line("explain EB901")) == "OK"
    assert ending(inside.line("1")) == "OK"


def test_nothing_but_plain_ascii_leaves(inside: PlayedConsole) -> None:
    for line in ("disks", "panel", "timeline finance", "status"):
        text = inside.line(line)
        assert ending(text) == "OK"
        assert re.fullmatch(r"[\x20-\x7e\r\n]*", text)
        assert max(map(len, text.splitlines())) <= 79


# What the line does


def test_line_ends(inside: PlayedConsole) -> None:
    for end in ("\r", "\n", "\r\n", "\r\0", "\r"):
        text = inside.type("explain EB101" + end)
        assert text.count("> ") == 1, repr(end)
        assert ending(text) == "OK", repr(end)
    # Cut in two, too.
    inside.type("explain EB101\r")
    assert inside.type("\n") == ""


def test_editing(inside: PlayedConsole) -> None:
    assert inside.type("stax\b") == "stax\b \b"
    assert inside.type("\x7f") == "\b \b"
    assert inside.type(CTRL_L) == "\r\n> st"
    assert inside.type(CTRL_U) == "\r\n> "
    assert inside.type(CTRL_U) == ""
    inside.type("rubbish")
    text = inside.type(CTRL_C)
    assert text == "^C\r\n> "
    assert inside.type("\x1b[A\x1b[15~\x1bOP") == ""
    assert ending(inside.line("explain EB101")) == "OK"


def test_a_line_that_is_too_long(inside: PlayedConsole) -> None:
    assert ending(inside.line("x" * 401)) == "ERR EB615"
    assert ending(inside.line("x" * 400)) == "ERR EB610"


def test_long_answers_stop_at_full_pages(inside: PlayedConsole) -> None:
    inside.service.events = 50
    text = inside.line("events")
    assert text.endswith("-- more -- (Enter: go on, a: all, q: stop) ")
    assert text.count("\r\n") == 23
    text = inside.type("\r")
    assert text.count("EV301") == 22
    assert text.endswith("q: stop) ")
    assert inside.type("z") == ""
    text = inside.type("q")
    assert text.endswith("OK\r\n> ")
    assert inside.line("events --all").count("EV301") == 50
    inside.line("events")
    assert inside.type("a").count("EV301") == 50 - 22
    inside.line("events")
    assert inside.type(CTRL_C).endswith("^C\r\nOK\r\n> ")


def test_ctrl_c_drops_what_waits(inside: PlayedConsole) -> None:
    inside.service.events = 5000
    inside.machine.feed(b"events --all\r", inside.now)
    inside.settle()
    assert len(inside.machine.take(10_000)) < 2048
    inside.machine.feed(CTRL_C.encode(), inside.now)
    assert inside.read() == "^C\r\nOK\r\n> "


def test_what_is_typed_ahead_waits(inside: PlayedConsole) -> None:
    inside.holding = True
    inside.line("status")
    assert inside.line("explain EB101") == ""
    inside.holding = False
    inside.settle()
    text = inside.read()
    assert text.index("finance: protected") < text.index("EB101 (error")
    assert text.count("OK\r\n") == 2


def test_a_flood_is_bounded_and_told(inside: PlayedConsole) -> None:
    inside.holding = True
    inside.line("status")
    for _ in range(1000):
        inside.machine.feed(b"x" * 256, inside.now)
    inside.machine.feed(CTRL_C.encode(), inside.now)
    inside.holding = False
    assert inside.read().endswith("ERR EB614\r\n> ")
    inside.holding = True
    inside.line("status")
    for _ in range(1000):
        inside.machine.feed(b"snapshot finance x\r" * 10, inside.now)
    inside.holding = False
    inside.settle()
    inside.read()
    taken = [verb for verb, _ in inside.service.asked if verb == "snapshot"]
    assert 0 < len(taken) < 40
    assert ending(inside.line("status")) == "ERR EB615"
    assert ending(inside.line("status")) == "OK"
