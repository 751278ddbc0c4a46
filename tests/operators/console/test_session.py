"""Dialogues of the console, against a service of canned answers."""

import re
from pathlib import Path

import pytest

from appliance.operators.access.lockout import Lockout
from appliance.operators.access.passwords import PasswordState
from appliance.operators.console.conversation import Note
from tests.operators.console.line_rig import PASSWORD
from tests.operators.console.played import HOLDER, WORDS, PlayedConsole, job

CTRL_C, CTRL_D, CTRL_L, CTRL_U = "\x03", "\x04", "\x0c", "\x15"


@pytest.fixture
def console(tmp_path: Path) -> PlayedConsole:
    played = PlayedConsole(Lockout(tmp_path / "failures"))
    assert played.read().endswith("Password: ")
    return played


@pytest.fixture
def inside(console: PlayedConsole) -> PlayedConsole:
    assert console.log_in().endswith("OK\r\n> ")
    console.service.asked.clear()
    return console


def ending(text: str) -> str:
    """The line with which the last answer ended."""
    return re.findall(r"^(OK|ERR EB\d{3})\r$", text, re.MULTILINE)[-1]  # type: ignore[no-any-return]


# Login


def test_the_password_is_not_shown(console: PlayedConsole) -> None:
    text = console.line(PASSWORD)
    assert PASSWORD not in text
    assert "finance: protected, 1 to look at" in text
    assert ending(text) == "OK"


def test_a_wrong_password(console: PlayedConsole) -> None:
    text = console.line("guess")
    assert ending(text) == "ERR EB611"
    assert text.endswith("Password: ")
    assert "guess" not in text


def test_the_lock_out_grows_and_outlives_the_process(
    console: PlayedConsole, tmp_path: Path
) -> None:
    for _ in range(2):
        assert ending(console.line("guess")) == "ERR EB611"
    text = console.line("guess")
    assert ending(text) == "ERR EB612"
    assert "no login here for 5 s" in text
    assert "Password: " not in text
    assert console.line(PASSWORD) == ""
    assert console.wait(4.9) == ""
    assert console.wait(0.2).endswith("Password: ")
    assert "for 10 s" in console.line("guess")
    again = PlayedConsole(Lockout(tmp_path / "failures"))
    assert "for 10 s" in again.read()
    assert again.wait(10).endswith("Password: ")
    assert ending(again.line(PASSWORD)) == "OK"
    assert "EB612" not in PlayedConsole(Lockout(tmp_path / "failures")).read()


def test_empty_lines_and_noise_are_no_tries(console: PlayedConsole) -> None:
    for _ in range(5):
        assert console.line("").endswith("Password: ")
        assert console.type(b"\xff\x80guess\r").endswith("ERR EB615\r\nPassword: ")
        assert console.type(CTRL_C).endswith("Password: ")
    assert console.lockout.failures == 0
    assert ending(console.log_in()) == "OK"


def test_after_the_wait_an_empty_line_costs_nothing(console: PlayedConsole) -> None:
    for _ in range(3):
        console.line("guess")
    console.wait(5)
    assert console.line("").endswith("Password: ")
    assert ending(console.log_in()) == "OK"


def test_what_was_typed_before_the_prompt_is_no_password(console: PlayedConsole) -> None:
    console.machine.feed(b"guess\r", console.now)
    console.machine.feed(PASSWORD.encode() + b"\r", console.now)
    assert console.read().endswith("Password: ")
    assert not console.manner.logged_in


def test_a_half_typed_password_is_forgotten(console: PlayedConsole) -> None:
    console.type("garbage")
    console.wait(61)
    assert ending(console.log_in()) == "OK"


def test_first_use(tmp_path: Path) -> None:
    console = PlayedConsole(Lockout(tmp_path / "failures"), password=None)
    text = console.read()
    assert "No password is set yet. Whoever is at this line chooses it now" in text
    assert console.line("short").endswith("New password again: ")
    assert ending(console.line("short")) == "ERR EB617"
    console.line("long enough")
    assert ending(console.line("not the same")) == "ERR EB617"
    assert console.passwords.state is PasswordState.UNSET
    console.line("long enough")
    text = console.line("long enough")
    assert ending(text) == "OK"
    assert console.passwords.is_right("long enough")
    assert "long enough" not in text


def test_a_first_use_that_came_too_late(tmp_path: Path) -> None:
    """The prompt stood for hours, and the owner has chosen on another line since."""
    console = PlayedConsole(Lockout(tmp_path / "failures"), password=None)
    assert "No password is set yet" in console.read()
    console.passwords.change("the owner's own")
    console.line("an intruder's")
    assert ending(console.line("an intruder's")) == "ERR EB617"
    assert console.passwords.is_right("the owner's own")


def test_a_damaged_password_is_no_first_use(console: PlayedConsole) -> None:
    console.passwords.damaged = True
    text = console.line("")
    assert "--set-password" in text
    assert text.endswith("\r\nPassword: ")
    assert ending(console.log_in()) == "ERR EB611"


def test_changing_the_password(inside: PlayedConsole) -> None:
    assert inside.line("password").endswith("Old password: ")
    assert ending(inside.line("wrong")) == "ERR EB611"
    inside.line("password")
    inside.line(PASSWORD)
    inside.line("new password")
    assert ending(inside.line("new password")) == "OK"
    assert inside.passwords.password == "new password"


def test_who_comes_and_goes_is_noted(console: PlayedConsole) -> None:
    console.line("guess")
    console.log_in()
    console.wait(700)
    assert console.notes == [Note("wrong password", 1), Note("login"), Note("logout")]


# Commands


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


def test_logging_out(inside: PlayedConsole) -> None:
    assert inside.type(CTRL_D).endswith("Password: ")
    assert not inside.manner.logged_in
    inside.log_in()
    assert "logged out\r\nOK\r\n" in inside.line("exit")
    inside.log_in()
    assert inside.line("0").endswith("Password: ")


def test_silence_logs_out(inside: PlayedConsole) -> None:
    inside.type("sta")
    assert inside.wait(599) == ""
    text = inside.wait(2)
    assert "EB619: logged out: nobody typed anything for 600 s\r\nERR EB619\r\n" in text
    assert text.endswith("Password: ")
    assert ending(inside.line("status")) == "ERR EB611"


@pytest.mark.parametrize(
    "line", ["sync finance --wait", "job wait 2", "status", "restore finance --to -10m --wait"]
)
def test_waiting_for_an_answer_is_no_silence(inside: PlayedConsole, line: str) -> None:
    inside.holding = True
    inside.line(line)
    assert inside.waiting
    for _ in range(10):
        assert "logged out" not in inside.wait(500)
    inside.holding = False
    inside.settle()
    assert "logged out" not in inside.read() + inside.wait(59)
    assert inside.manner.logged_in
    inside.wait(2)  # a confirmation is not waited for as long
    assert ending(inside.wait(600)) == "ERR EB619"
    assert not inside.manner.logged_in


@pytest.mark.parametrize("lines", [["events"], ["2", "1", "1"]])
def test_silence_in_the_midst_of_an_answer_ends_it(inside: PlayedConsole, lines: list[str]) -> None:
    """At a full page, and at a question of the menu."""
    inside.service.events = 100
    shown = [inside.line(line) for line in lines][-1]
    assert shown.endswith(("stop) ", ": "))
    assert ending(inside.wait(600)) == "ERR EB619"
    assert ending(inside.line("status")) == "ERR EB611"


def test_silence_at_a_confirmation_cancels_and_then_logs_out(inside: PlayedConsole) -> None:
    inside.line("restore finance --to -10m")
    text = inside.wait(61)
    assert "nothing was typed in 60 s" in text
    assert ending(text) == "ERR EB613"
    assert inside.service.asked[-1][0] == "unlock"
    assert "logged out" in inside.wait(600)
    assert inside.abandoned


def test_a_line_that_went_logs_out(inside: PlayedConsole) -> None:
    inside.line("restore finance --to -10m")
    inside.machine.hang_up()
    inside.settle()
    assert inside.abandoned
    assert inside.type(WORDS + "\r") == ""
    inside.machine.connect(inside.now)
    assert inside.read().endswith("Password: ")
    assert not any(arguments.get("yes") for _, arguments in inside.service.asked)


# Restoring


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
        state = job(2, "verify", None) | {"bytes_copied": copied << 20, "eta_seconds": None}
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


# Menus


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
