"""Dialogues that change something: restores and the like, typed and by the menu's numbers."""

import pytest

from tests.operators.console.played import CTRL_C, CTRL_U, HOLDER, WORDS, PlayedConsole, ending, job


def test_a_restore_is_planned_confirmed_and_waited_for(inside: PlayedConsole) -> None:
    text = inside.line("restore finance --to -10m --wait")
    assert "2.0 MiB change" in text
    assert text.endswith(f"Type {WORDS} to do it, 0 to go back: ")
    text = inside.line(WORDS)
    assert ending(text) == "OK"
    planned = {"volume": "finance", "to": "-10m", "plan": True, "force": False, "wait": True}
    asked = inside.service.asked
    assert [verb for verb, _ in asked] == ["lock", "restore", "status", "restore", "unlock"]
    assert asked[1][1] == planned
    assert asked[3][1] == planned | {"to": "write:1000", "plan": False, "yes": True}


@pytest.mark.parametrize(
    "typed",
    [WORDS.lower(), WORDS + " ", "RESTORE", "RESTORE X7Q", "y", "yes", "X7Q9", " " + WORDS],
)
def test_anything_else_does_nothing(inside: PlayedConsole, typed: str) -> None:
    inside.line("restore finance --to -10m")
    for _ in range(2):
        assert inside.line(typed).endswith("to go back: ")
    assert ending(inside.line(typed)) == "ERR EB613"
    assert not any(arguments.get("yes") for _, arguments in inside.service.asked)
    assert [verb for verb, _ in inside.service.asked].count("unlock") == 1


def test_a_confirmation_typed_ahead_does_not_count(inside: PlayedConsole) -> None:
    inside.machine.feed(f"restore finance --to -10m\r{WORDS}\r".encode(), inside.now)
    assert inside.read().endswith("to go back: ")
    inside.line("0")
    inside.holding = True
    inside.line("restore finance --to -10m")
    inside.type(f"{WORDS}\r")
    inside.holding = False
    inside.settle()
    # While the prompt is on its way, too.
    inside.machine.feed(f"{WORDS}\r".encode(), inside.now)
    assert inside.read().endswith("to go back: ")
    assert not any(arguments.get("yes") for _, arguments in inside.service.asked)
    assert ending(inside.line(WORDS)) == "OK"


def test_noise_in_a_confirmation_asks_again(inside: PlayedConsole) -> None:
    inside.line("restore finance --to -10m")
    text = inside.type(b"REST\xffORE X7Q9\r")
    assert text.endswith("ERR EB615\r\n" + f"Type {WORDS} to do it, 0 to go back: ")
    assert inside.type(b"\x00\x81" + CTRL_U.encode()).endswith("0 to go back: ")
    assert ending(inside.line(WORDS)) == "OK"


def test_the_lock_of_somebody_else(inside: PlayedConsole) -> None:
    inside.service.locked = True
    text = inside.line("restore finance --to -10m")
    assert f"EB604: {HOLDER} has been changing things since\r\n" in text
    assert ending(text) == "ERR EB604"
    assert [verb for verb, _ in inside.service.asked] == ["lock"]


def test_a_refused_plan_gives_the_lock_back(inside: PlayedConsole) -> None:
    assert ending(inside.line("restore finance --to -1d")) == "ERR EB402"
    assert inside.service.asked[-1][0] == "unlock"


def test_what_needs_consent_is_told_first(inside: PlayedConsole) -> None:
    text = inside.line("release finance")
    assert "the past of finance would be lost" in text
    assert text.endswith("Type RELEASE X7Q9 to do it, 0 to go back: ")
    text = inside.line("RELEASE X7Q9")
    assert ending(text) == "OK"
    assert inside.service.asked[-2] == ("release", {"volume": "finance", "yes": True})


def test_leaving_a_restore_lets_it_go_on(inside: PlayedConsole) -> None:
    inside.line("restore finance --to -10m --wait")
    inside.holding = True
    inside.line(WORDS)
    number = inside.waiting[0].number
    inside.machine.progressed(number, job(3, "restore", None), inside.now)
    assert "\rrestore: copying, 25 %, 1.0 MiB of 4.0 MiB, 3 s left" in inside.read()
    inside.holding = False
    text = inside.type(CTRL_C)
    assert "job 3 goes on" in text
    assert "`job cancel 3` would stop it" in text
    assert ending(text) == "ERR EB614"
    assert inside.abandoned


def test_the_live_line_does_not_scroll(inside: PlayedConsole) -> None:
    inside.holding = True
    inside.line("job wait 2")
    number = inside.waiting[0].number
    shown = ""
    for copied in (1, 2, 2, 3):
        state = job(2, "verify", None) | {"bytes_done": copied << 20, "eta_seconds": None}
        inside.machine.progressed(number, state, inside.now)
        shown += inside.read()
    assert shown.count("\r") == 3
    assert "\n" not in shown
    inside.machine.progressed(number - 1, job(9, "verify", None), inside.now)
    assert inside.read() == ""
    inside.holding = False
    inside.reply()
    text = inside.read()
    assert text.startswith("\r\n  job 2, verify done")


# By numbers


def test_a_restore_by_numbers(inside: PlayedConsole) -> None:
    for line in ("8", "2", "1", "2"):
        text = inside.line(line)
    assert text.endswith(f"Type {WORDS} to do it, 0 to go back: ")
    text = inside.line(WORDS)
    assert ending(text) == "OK"
    assert text.endswith("8> ")
    done = [arguments for verb, arguments in inside.service.asked if verb == "restore"]
    assert [arguments["to"] for arguments in done] == ["-10m", "write:1000"]


def test_a_suspect_moment_by_numbers(inside: PlayedConsole) -> None:
    for line in ("8", "12", "1", "2"):
        text = inside.line(line)
    assert text.endswith(f"Type {WORDS} to do it, 0 to go back: ")
    assert ending(inside.line(WORDS)) == "OK"
    done = [arguments for verb, arguments in inside.service.asked if verb == "restore"]
    assert [arguments["force"] for arguments in done] == [True, True]


def test_a_secondary_is_wiped_by_its_name_and_the_words(inside: PlayedConsole) -> None:
    for line in ("8", "14", "mail", "1", "2"):
        text = inside.line(line)
    assert "id again: destroy what that disk carries (0 = back): " in text
    asked = len(inside.service.asked)
    assert inside.line("").endswith("(0 = back): ")
    assert len(inside.service.asked) == asked
    text = inside.line("b")
    assert text.endswith("Type PROTECT X7Q9 to do it, 0 to go back: ")
    assert not any(arguments.get("yes") for _, arguments in inside.service.asked)
    assert ending(inside.line("PROTECT X7Q9")) == "OK"
    (done,) = [arguments for _, arguments in inside.service.asked if arguments.get("yes")]
    wanted = {"volume": "mail", "primary": "a", "secondary": "b", "wipe": "b", "wait": True}
    assert done == wanted | {"yes": True}


def test_going_back(inside: PlayedConsole) -> None:
    inside.line("8")
    inside.line("2")
    assert ending(inside.line("0")) == "ERR EB613"
    text = inside.line("0")
    assert "0  Log out" in text
    assert text.endswith("\r\n> ")


def test_a_question_is_asked_again(inside: PlayedConsole) -> None:
    inside.line("2")
    inside.line("1")
    assert inside.line("").endswith("(0 = back): ")
    assert inside.line("no name!").count("is not a name") == 1
    inside.line("finance")
    assert ending(inside.line("noon")) == "OK"
    assert inside.service.asked[-1][1]["name"] == "noon"


def test_choosing_a_snapshot(inside: PlayedConsole) -> None:
    for line in ("8", "2", "finance", "11"):
        text = inside.line(line)
    assert "restore finance to snapshot:before-upgrade" in text
