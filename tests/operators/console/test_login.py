"""Who comes in at the console, and how they go out again: by word, by silence, by a cable."""

from pathlib import Path

import pytest

from appliance.operators.access.lockout import Lockout
from appliance.operators.access.passwords import PasswordState
from appliance.operators.console.conversation import Note
from tests.operators.console.line_rig import PASSWORD
from tests.operators.console.played import CTRL_C, CTRL_D, WORDS, PlayedConsole, ending


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
