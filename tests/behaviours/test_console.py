"""A person and a rig at the serial console: a real `cdp-console` on a pseudo-terminal."""

import random
import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.errors import ServiceUnreachable
from appliance.operators.access.passwords import PasswordHash
from appliance.operators.control.client import ControlClient, Refused
from tests.operators.console.line_rig import (
    BIN,
    CHEAP,
    PASSWORD,
    ConsoleProcess,
    Rig,
    console_in,
    write_settings,
)
from tests.operators.running_service import RunningService, running_service
from tests.service.service_process import MIB, Service

CONFIRM = re.compile(rb"Type ([A-Z-]+ \w+) to do it, 0 to go back: ")
ASKED = re.compile(rb"^\d+> |0 = back\): |0 to go back: ", re.MULTILINE)
"""A prompt of the menu, or one of its questions."""
SLOW = 9600


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path) as running:
        yield running


@pytest.fixture
def console(tmp_path: Path, service: RunningService) -> Iterator[ConsoleProcess]:
    with console_in(tmp_path, write_settings(tmp_path)) as console:
        yield console


@pytest.fixture
def rig(console: ConsoleProcess) -> Rig:
    rig = Rig(console.plug_in())
    console.start()
    return rig


def number_of(text: str, words: str) -> str:
    """The number that the screen shows before these words."""
    found = re.search(rf"^ *(\d+)  .*{words}", text, re.MULTILINE)
    assert found is not None, f"nothing about {words!r} in {text}"
    return found[1]


# A stranger


def test_a_stranger_restores_to_ten_minutes_ago_in_six_lines(
    rig: Rig, service: RunningService
) -> None:
    lines = 0

    def say(line: str) -> str:
        """Type a line and read what is shown until something is asked."""
        nonlocal lines
        lines += 1
        shown = len(rig.seen)
        rig.send(line.encode() + b"\r")
        return rig.seen[shown : rig.until(ASKED).end()].decode("ascii")

    text = rig.log_in()
    text = say(number_of(text, "Restore"))
    text = say(number_of(text, "Put a volume back"))
    text = say(number_of(text, "finance"))
    text = say(number_of(text, "ten minutes ago"))
    assert "restore finance to -10m" in text
    words = re.search(r"Type (.*) to do it", text)
    assert words is not None
    lines += 1
    text, code = rig.do(words[1])
    assert code == "", text
    assert "restore done" in text
    assert lines <= 6
    job = service.finance.last_job
    assert job is not None
    assert (job.kind, job.result) == ("restore", "done")
    told = service.appliance.log.events()
    login = next(event for event in told if event.code == "EV910")
    assert login.text == "root at console ttyT0 logged in"
    asked = [event for event in told if event.code == "EV903"]
    assert asked[-1].actor == "root at console ttyT0"
    assert asked[-1].fields["request"] == "restore finance --to write:1000 --yes --wait"


def test_a_real_volume_goes_back(tmp_path: Path, make_service: Callable[..., Service]) -> None:
    service = make_service()
    service.disk("first", 8 * MIB)
    service.disk("second", 64 * MIB)
    with service.config.open("a") as file:
        file.write(f'[console]\npassword_hash = "{PasswordHash.of(PASSWORD, CHEAP)}"\n')
    service.start("first", "second")
    with console_in(tmp_path, service.config) as console:
        rig = Rig(console.plug_in())
        console.start()
        rig.log_in()
        text, code = rig.do("protect finance --primary first --secondary second --wait")
        assert code == "", text
        service.until_state("finance", "protected")
        with service.connect("finance") as host:
            host.write(4096, b"good" * 1024)
        assert rig.do("snapshot finance noon")[1] == ""
        with service.connect("finance") as host:
            host.write(4096, b"evil" * 1024)
        rig.send(b"restore finance --to snapshot:noon --wait\r")
        words = rig.until(CONFIRM)[1]
        assert words == b"RESTORE irst"
        text, code = rig.do(words.decode())
        assert code == "", text
        assert service.contents("finance")[4096:8192] == b"good" * 1024
        rig.do("8")
        rig.send(b"8\r")
        rig.until(rb"back\): ")
        rig.send(b"finance\r")
        text, code = rig.do(rig.until(CONFIRM)[1].decode())
        assert (code, "is released" in text) == ("", True)


# A rig


class NoisyRig(Rig):
    """Types as rigs should on a bad line: ^U before each line, and once more if noise got between.
    Noise comes before every line."""

    def __init__(self, descriptor: int, baud: int | None, noise: random.Random | None) -> None:
        super().__init__(descriptor, baud)
        self._noise = noise
        self.noise_bytes = self.again = 0

    def type(self, line: str) -> None:
        if self._noise is not None:
            burst = self._noise.randbytes(self._noise.randrange(1, 12))
            self.noise_bytes += len(burst)
            self.send(burst)
        self.send(b"\x15" + line.encode() + b"\r")

    def insist(self, line: str) -> str:
        """Its answer, which is no error; a line that was lost is typed again."""
        return self._until_it_works(lambda: self._typed(line))

    def confirm(self, line: str) -> str:
        """The same for what asks to be confirmed."""

        def ask() -> tuple[str, str]:
            self.type(line)
            found = self.until(rb"to do it, 0 to go back: |^ERR (EB\d{3})\r\n")
            if found[1] is not None:
                return "", found[1].decode()
            words = [match[1] for match in CONFIRM.finditer(self.seen)][-1]
            return self._typed(words.decode())

        return self._until_it_works(ask)

    def enter(self) -> None:
        """Log in."""
        self.until(b"Password: ")

        def enter() -> tuple[str, str]:
            self.type(PASSWORD)
            found = self.until(rb"Log out\r\nOK\r\n|^ERR (EB\d{3})\r\n")
            return "", (found[1] or b"").decode()

        self._until_it_works(enter)

    def _typed(self, line: str) -> tuple[str, str]:
        self.type(line)
        self.until(re.escape(line).encode() + rb"\r\n")
        return self.answer()

    def _until_it_works(self, attempt: Callable[[], tuple[str, str]]) -> str:
        for _ in range(8):
            try:
                text, code = attempt()
                if not code:
                    return text
            except AssertionError:
                code = "no answer"
            assert self._noise is not None, code
            self.again += 1
            self.send(b"\x03\x15\r")
            if self.quiet(0.5).endswith(b"Password: "):
                self.send(b"\x15" + PASSWORD.encode() + b"\r")
                self.quiet(0.5)
        raise AssertionError(f"it never worked: {bytes(self.seen[-2000:])!r}")


@pytest.mark.parametrize(("baud", "seed"), [(None, None), (SLOW, 1), (None, 2), (None, 3)], ids=str)
@pytest.mark.timeout(150)
def test_the_same_session_at_full_speed_and_on_a_bad_slow_line(
    tmp_path: Path, service: RunningService, baud: int | None, seed: int | None
) -> None:
    noise = None if seed is None else random.Random(seed)
    with console_in(tmp_path, write_settings(tmp_path, baud or 115200)) as console:
        rig = NoisyRig(console.plug_in(), baud, noise)
        console.start()
        rig.enter()
        assert "finance: protected" in rig.insist("status --all")
        assert "/dev/sdp" in rig.insist("disks --all")
        assert "ack is now primary" in rig.insist("set finance ack=primary")
        assert "before-upgrade" in rig.insist("timeline finance --all")
        assert "restore done" in rig.confirm("restore finance --to -10m --wait")
        assert "resync done" in rig.insist("sync finance --wait")
        assert "resync" in rig.insist("job list --all")
        assert "restore  " in rig.insist("help --all")
        assert "outside the window" in rig.insist("explain EB402")
        rig.type("exit")
        rig.until(b"Password: ")
        done = [event for event in service.appliance.log.events() if event.code == "EV903"]
        restores = [event for event in done if "restore" in str(event.fields["request"])]
        assert len(restores) == 1
        assert service.finance.ack == "primary"
        if noise is not None:
            assert rig.noise_bytes > 30


def test_ctrl_c_acts_at_once_on_a_slow_line(tmp_path: Path, service: RunningService) -> None:
    for number in range(300):
        service.on_loop(lambda number=number: service.appliance.emit("EV101", disk=str(number)))  # type: ignore[misc]
    with console_in(tmp_path, write_settings(tmp_path, SLOW)) as console:
        rig = Rig(console.plug_in(), SLOW)
        console.start()
        rig.log_in()
        more: list[int] = []
        end = time.monotonic() + 30
        # What comes while a busy machine holds this end up counts, though it was not on its way.
        while not more or (more[-1] >= 150 and time.monotonic() < end):
            rig.send(b"events --limit 300 --all\r")
            rig.until(b"disk 5 arrived")
            before = len(rig.seen)
            rig.send(b"\x03")
            rig.until(rb"\^C\r\nOK\r\n> ")
            more.append(len(rig.seen) - before)
        # 40 ms of what was on its way, the ^C's own way, and the answer.
        assert more[-1] < 150, more


def test_output_comes_no_faster_than_the_line(tmp_path: Path, service: RunningService) -> None:
    with console_in(tmp_path, write_settings(tmp_path, SLOW)) as console:
        # This end reads at once whatever the console hands over.
        rig = Rig(console.plug_in())
        console.start()
        rig.log_in()
        shown = len(rig.seen)
        began = time.monotonic()
        rig.do("help --all")
        rate = (len(rig.seen) - shown) / (time.monotonic() - began)
        assert rate < 1.15 * SLOW / 10


def test_a_flood_is_endured(rig: Rig) -> None:
    rig.until(b"Password: ")
    dice = random.Random(5)
    for _ in range(200):
        rig.send(dice.randbytes(1000))
        rig.quiet(0)
    rig.quiet(1)
    rig.send(b"\x03\x15\r")
    while b"Password: " not in rig.quiet(0.5):
        # Noise has hit three lines that could have been passwords.
        rig.send(b"\r")
    for _ in range(10):
        rig.send(b"\x15" + PASSWORD.encode() + b"\r")
        if rig.until(rb"^(OK)\r\n|^ERR EB\d{3}\r\n|Password: ")[1] is not None:
            return
        # An Enter that was taken up late has brought another prompt, and this came before it.
    pytest.fail("nobody can log in")


def test_a_job_that_is_left_goes_on(rig: Rig, service: RunningService) -> None:
    rig.log_in()
    service.finance.stalled = True
    rig.send(b"sync finance --wait\r")
    rig.until(rb"\rresync: copying, 0 %, 0 B of 4.0 MiB")
    rig.send(b"\x03")
    text, code = rig.answer()
    assert (code, "job 1 goes on" in text) == ("EB614", True)
    assert "resync" in rig.do("job list")[0]
    assert rig.do("job cancel 1")[1] == ""
    service.finance.stalled = False


# What must not be lost


def test_a_line_that_vanishes_comes_back_with_nobody_logged_in(
    console: ConsoleProcess, rig: Rig, service: RunningService
) -> None:
    rig.log_in()
    rig.send(b"restore finance --to -10m\r")
    rig.until(CONFIRM)
    with ControlClient(service.socket) as other:
        with pytest.raises(Refused) as refused:
            other.request("snapshot", {"volume": "finance", "name": "x"})
        assert refused.value.answer.code == "EB604"
        assert "root at console ttyT0 has been changing things" in refused.value.answer.sentence
    console.unplug()
    with ControlClient(service.socket) as other:
        end = time.monotonic() + 10
        while other.request("status", {})["operator"] is not None:
            assert time.monotonic() < end
    again = Rig(console.plug_in())
    again.log_in()
    assert "EB618" in console.story()
    with ControlClient(service.socket) as other:
        other.request("snapshot", {"volume": "finance", "name": "x"})
    assert again.do("status")[1] == ""
    assert service.finance.job is None


def test_silence_logs_out_and_is_told(tmp_path: Path, service: RunningService) -> None:
    # Long enough that a busy machine does not take a login's answer for silence.
    with console_in(tmp_path, write_settings(tmp_path, idle_seconds=3)) as console:
        rig = Rig(console.plug_in())
        console.start()
        rig.log_in()
        rig.until(b"logged out: nobody typed anything")
        rig.log_in()
    told = [event.code for event in service.appliance.log.events()]
    assert told[:3] == ["EV910", "EV911", "EV910"]


def test_who_holds_the_lock_is_told(rig: Rig, service: RunningService) -> None:
    rig.log_in()
    with ControlClient(service.socket, "panel") as other:
        other.request("lock", {})
        text, code = rig.do("restore finance --to -10m")
        assert (code, "root at panel has been changing things" in text) == ("EB604", True)
        assert rig.do("snapshot finance x")[1] == "EB604"
        assert rig.do("status")[1] == ""
    rig.send(b"restore finance --to -10m\r")
    rig.until(CONFIRM)
    rig.do("0")
    assert rig.do("snapshot finance x")[1] == ""


def test_a_lock_out_outlives_the_process(console: ConsoleProcess, rig: Rig) -> None:
    for code in ("EB611", "EB611"):
        rig.until(b"Password: ")
        assert rig.do("guess")[1] == code
    rig.until(b"Password: ")
    rig.send(b"guess\r")
    rig.until(b"ERR EB612")
    console.stop()
    again = Rig(console.plug_in())
    console.start()
    text, code = again.answer()
    assert (code, "no login here for 5 s" in text) == ("EB612", True)
    again.log_in()


def test_the_first_use_sets_the_password(tmp_path: Path, service: RunningService) -> None:
    with console_in(tmp_path, write_settings(tmp_path, password_hash="")) as console:
        rig = Rig(console.plug_in())
        console.start()
        rig.until(b"New password: ")
        rig.send(PASSWORD.encode() + b"\r")
        rig.until(b"New password again: ")
        text, code = rig.do(PASSWORD)
        assert code == "", text
        kept = tmp_path / "state" / "console" / "password"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert kept.read_text().startswith("$scrypt$ln=14,r=8,p=1$")
        rig.do("exit")
        rig.log_in()
        assert PASSWORD.encode() not in rig.seen
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path


def test_a_password_from_a_shell(tmp_path: Path) -> None:
    config = write_settings(tmp_path, password_hash="")

    def set_password(password: str, config: Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [BIN / "cdp-console", "--config", config, "--set-password"],
            input=password + "\n",
            text=True,
            capture_output=True,
            check=False,
            timeout=30,
        )

    refused = set_password("short", config)
    assert (refused.returncode, "EB617" in refused.stderr) == (3, True)
    assert not (tmp_path / "state").exists()
    assert set_password(PASSWORD, config).returncode == 0
    kept = PasswordHash.parse((tmp_path / "state/console/password").read_text().strip())
    assert kept.fits(PASSWORD)
    fixed = write_settings(tmp_path, password_hash=str(kept))
    refused = set_password("another one", fixed)
    assert (refused.returncode, "settings" in refused.stderr) == (3, True)


def test_without_a_line_it_says_so(tmp_path: Path) -> None:
    answer = subprocess.run(
        [BIN / "cdp-console", "--config", write_settings(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert answer.returncode == 1
    assert "EB601: settings: console.device" in answer.stderr


def test_a_service_that_comes_back_is_met_again(tmp_path: Path) -> None:
    with console_in(tmp_path, write_settings(tmp_path)) as console:
        rig = Rig(console.plug_in())
        console.start()
        assert "EB901" in rig.log_in()
        assert rig.do("status")[1] == "EB901"
        with running_service(tmp_path):
            assert rig.do("status")[1] == ""
        assert rig.do("status")[1] == "EB901"
        with pytest.raises(ServiceUnreachable):
            ControlClient(tmp_path / "control.sock")
