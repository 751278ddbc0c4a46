"""cdpctl against a control server with a fake appliance behind it."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.cli.main import COMMAND
from appliance.errors import every_error
from appliance.events import KINDS
from appliance.operators.actions import ACTIONS
from appliance.operators.text.screens import SCREENS
from appliance.operators.verbs import VERBS
from tests.operators.running_service import RunningService, running_service

Cdpctl = Callable[..., Result]
HUNG_SECONDS = 50
"""A process that takes so long to begin, work and end will not."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with running_service(tmp_path) as running:
        yield running


@pytest.fixture
def cdpctl(service: RunningService) -> Cdpctl:
    def invoke(*words: str) -> Result:
        return CliRunner().invoke(COMMAND, ["--socket", str(service.socket), *words])

    return invoke


def process(service: RunningService, *words: str, **options: Any) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"EBBTIDE_SOCKET": str(service.socket), "TERM": "xterm"}
    # Whoever runs the tests in the background ignores interrupts, which children inherit.
    command = ["env", "--default-signal=INT", sys.executable, "-c"]
    command += ["from appliance.cli.main import main; main()", *words]
    return subprocess.Popen(command, env=environment, **options)


def test_every_verb_has_its_action_and_its_screen() -> None:
    assert {name for name, verb in VERBS.items() if not verb.hidden} == set(SCREENS)
    assert {name for name, verb in VERBS.items() if not verb.offline} == set(ACTIONS)


def test_disks_are_a_plain_table_without_a_terminal(cdpctl: Cdpctl) -> None:
    result = cdpctl("disks")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0].split() == [
        "ID",
        "NODE",
        "MODEL",
        "SERIAL",
        "SIZE",
        "SECTOR",
        "ROLE",
        "VOLUME",
        "HEALTH",
        "STATE",
    ]
    assert "good, 34 °C" in lines[3]
    assert lines[-2:] == [
        "health unknown: a, b (it has not been asked yet)",
        "s is failing: its spare blocks run out",
    ]
    assert lines[3].split("  ")[0] == "p"
    assert lines[3].endswith("in use")
    assert "\x1b" not in result.stdout


def test_status(cdpctl: Cdpctl, service: RunningService) -> None:
    service.finance.told.append(("EV202", "the secondary is away"))
    result = cdpctl("status")
    assert result.stdout.splitlines() == [
        "finance: protected",
        "  EV202 the secondary is away",
        "  service   online, protection protected",
        "  size      64.0 MiB, last write 1200",
        "  primary   p (/dev/sdp, serial SN-p)",
        "  secondary s (/dev/sds, serial SN-s)",
        "  window    2026-11-22T11:40:00Z to 2026-11-22T12:00:00Z, writes 1 to 1200",
        "  history   32.0 MiB of 128 MiB used",
        "  unsettled 3 regions, 3.0 MiB",
    ]
    service.finance.primary = None
    service.finance.chain.clear()
    assert "primary   missing" in cdpctl("status", "finance").stdout
    assert "nothing can be restored yet" in cdpctl("status").stdout
    service.on_loop(service.appliance.volumes.clear)
    assert cdpctl("status").stdout.startswith("no volumes")


@pytest.mark.parametrize("words", [("--json", "status"), ("status", "--json")])
def test_json_is_the_answer_as_it_is(cdpctl: Cdpctl, words: tuple[str, ...]) -> None:
    result = cdpctl(*words)
    answer = json.loads(result.stdout)
    assert answer["schema"] == 1
    assert answer["volumes"][0]["name"] == "finance"
    assert result.stderr == ""


def test_timeline_is_drawn(cdpctl: Cdpctl) -> None:
    result = cdpctl("timeline", "finance")
    assert result.stdout.startswith(
        "finance: 20 min to go back, writes 1 to 1200, 10.0 MiB in 4 delta maps\n"
    )
    assert re.search(
        r"^ +11:40:00 +11:45:00 +11:50:00 +11:55:00 +12:00:00$", result.stdout, re.MULTILINE
    )
    assert re.search(r"restorable  ├─+\?+─+×+─+┤$", result.stdout, re.MULTILINE)
    assert re.search(r"written     ▃{16,17}▄?▅{16,17}▆?▇{16,17}█+$", result.stdout, re.MULTILINE)
    assert re.search(r"snapshots   {20,35}1$", result.stdout, re.MULTILINE)
    assert re.search(r"1 +before-upgrade +450 +2026-11-22T11:48:00Z +pinned", result.stdout)
    assert "gap: writes 700 to 720: the secondary was away" in result.stdout
    answer = json.loads(cdpctl("timeline", "finance", "--json").stdout)
    assert {"schema", "maps", "snapshots", "gaps"} < set(answer)


def test_a_time_ago_is_a_value(cdpctl: Cdpctl) -> None:
    for words in (("--to", "-10m"), ("--to=-10m",)):
        result = cdpctl("restore", "finance", *words, "--plan")
        assert result.exit_code == 0
        assert result.stdout.startswith("restore finance to -10m (write 1000, 2026-11-22T11:50:00Z")
    result = cdpctl("view", "create", "finance", "-10m")
    assert (result.exit_code, result.stdout.split()[1]) == (0, "finance@-10m")
    assert cdpctl("restore", "finance", "--to", "-10x").exit_code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Usage"),
        (("fly",), "No such command"),
        (("status", "--fast"), "No such option"),
        (("view", "create", "finance", "--at"), "No such option"),
        (("view",), "Usage"),
        (("protect", "mail", "--primary", "a"), "--secondary"),
        (("snapshot", "finance", "a name"), "not a name"),
        (("snapshot", "finance", "x" * 64), "not a name"),
        (("job", "wait", "one"), "valid integer"),
        (("job", "wait", "-1"), "not a whole number"),
        (("set", "finance"), "Missing argument"),
        (("set", "finance", "ack=never"), "ack is one of both, primary"),
        (("restore", "finance"), "--to"),
        (("restore", "finance", "--to", ""), "not a text"),
        (("restore", "finance", "--to", "a\nb"), "cannot be printed"),
    ],
)
def test_usage(cdpctl: Cdpctl, words: tuple[str, ...], said: str) -> None:
    result = cdpctl(*words)
    assert result.exit_code == 2
    assert said in result.output


def test_a_restore_needs_yes(cdpctl: Cdpctl, service: RunningService) -> None:
    result = cdpctl("restore", "finance", "--to", "write:7")
    assert result.exit_code == 3
    assert "2.0 MiB change" in result.stdout
    assert "hosts are disconnected" in result.stdout
    assert result.stderr.startswith("cdpctl: EB503: not done without consent")
    assert "--yes" in result.stderr
    result = cdpctl("--json", "restore", "finance", "--to", "write:7")
    answer = json.loads(result.stdout)
    assert result.exit_code == 3
    assert answer["plan"]["write"] == 7
    assert answer["error"]["code"] == "EB503"
    assert service.finance.job is None


def test_waiting_tells_how_far_it_is(cdpctl: Cdpctl) -> None:
    result = cdpctl("restore", "finance", "--to", "write:7", "--yes", "--wait")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[0] == "restore: copying, 0 %, 0 B of 4.0 MiB"
    assert result.stderr.splitlines()[-1] == "restore: done, 100 %, 4.0 MiB of 4.0 MiB"
    assert re.search(r"job 1, restore done at .*, 4.0 MiB copied", result.stdout)
    quiet = cdpctl("--json", "sync", "finance", "--wait")
    assert (quiet.stderr, json.loads(quiet.stdout)["job"]["result"]) == ("", "done")


def test_jobs(cdpctl: Cdpctl, service: RunningService) -> None:
    service.finance.stalled = True
    result = cdpctl("sync", "finance", "--verify")
    assert "`cdpctl job wait 1` follows it" in result.stdout
    assert cdpctl("sync", "finance").exit_code == 3
    row = cdpctl("job", "list").stdout.splitlines()[1].split()
    assert row == ["1", "finance", "verify", "copying", "0", "0", "B", "of", "4.0", "MiB", "-"]
    assert "verify: paused" in cdpctl("job", "pause", "1").stdout
    assert "verify: copying" in cdpctl("job", "pause", "1", "--resume").stdout
    assert "cancelled" in cdpctl("job", "cancel", "1").stdout
    assert "last job  1, verify cancelled" in cdpctl("status").stdout
    result = cdpctl("job", "wait", "1")
    assert (result.exit_code, result.stderr.split()[1]) == (1, "EB505:")


def test_the_life_of_a_volume(cdpctl: Cdpctl) -> None:
    disks = ("--primary", "b", "--secondary", "a")
    assert cdpctl("protect", "mail", *disks).exit_code == 3
    result = cdpctl("protect", "mail", *disks, "--yes", "--wait")
    assert (result.exit_code, "baseline done" in result.stdout) == (0, True)
    assert "taken: write 1200" in cdpctl("snapshot", "mail", "noon").stdout
    assert "pinned" in cdpctl("snapshot", "mail", "noon", "--pin").stdout
    assert "unpinned" in cdpctl("snapshot", "mail", "noon", "--unpin").stdout
    assert "deleted" in cdpctl("snapshot", "mail", "noon", "--delete").stdout
    assert cdpctl("view", "create", "mail", "write:9").stdout.startswith("view mail@write:9 is")
    assert "write:9" in cdpctl("view", "list").stdout
    assert "closed" in cdpctl("view", "drop", "mail@write:9").stdout
    assert "ack is now primary" in cdpctl("set", "mail", "ack=primary").stdout
    assert cdpctl("release", "mail").exit_code == 3
    assert "disks are free" in cdpctl("release", "mail", "--yes").stdout
    events = cdpctl("events", "--volume", "mail", "--limit", "1").stdout
    assert re.search(r"^2026-11-22T12:00:00Z  EV903  \w+ asked for: release mail --yes$", events)


def test_an_error_has_code_sentence_and_remedy(cdpctl: Cdpctl) -> None:
    result = cdpctl("status", "other")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "cdpctl: EB301: there is no volume called other",
        "  `cdpctl status` lists the volumes",
    ]
    assert json.loads(cdpctl("status", "other", "--json").stdout) == {
        "schema": 1,
        "error": {
            "code": "EB301",
            "sentence": "there is no volume called other",
            "remedy": "`cdpctl status` lists the volumes",
            "exit_code": 1,
        },
    }


def test_no_service(tmp_path: Path) -> None:
    result = CliRunner().invoke(COMMAND, ["status"], env={"EBBTIDE_SOCKET": str(tmp_path / "no")})
    assert result.exit_code == 1
    assert "EB901" in result.stderr
    assert "start cdpd" in result.stderr


@pytest.mark.parametrize("code", sorted({*every_error(), *KINDS}))
def test_every_code_is_explained_without_the_service(code: str) -> None:
    result = CliRunner().invoke(COMMAND, ["--socket", "/nowhere", "explain", code.lower()])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{code} (")
    assert "{" not in result.stdout
    assert len(result.stdout.splitlines()[2]) > 10
    acts = code.startswith("EB") or KINDS[code].severity != "info"
    assert ("What to do: " in result.stdout) == acts


def test_an_unknown_code() -> None:
    result = CliRunner().invoke(COMMAND, ["explain", "EB000"])
    assert (result.exit_code, result.stderr.split(": ")[1]) == (1, "EB603")


def test_help_names_every_verb(cdpctl: Cdpctl) -> None:
    for verb in VERBS.values():
        if verb.hidden:
            assert cdpctl(*verb.name.split()).exit_code == 2
            continue
        text = " ".join(cdpctl(*verb.name.split(), "--help").stdout.split())
        assert verb.sentence in text
        for parameter in verb.parameters:
            shown = f"--{parameter.name}" if parameter.flag else parameter.name.upper()
            assert shown in text
            assert parameter.help in text


# As a process


def on_terminal(service: RunningService, *words: str) -> tuple[int, str]:
    """Exit code and what a terminal of 100 columns got."""
    ours, theirs = pty.openpty()
    child = process(
        service, *words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:  # the terminal hung up: the process has ended
        pass
    finally:
        os.close(ours)
        code = child.wait(timeout=HUNG_SECONDS)
    return code, seen.decode()


def test_on_a_terminal_there_are_tables_colours_and_a_bar(service: RunningService) -> None:
    code, seen = on_terminal(service, "status")
    assert code == 0
    assert re.search("\x1b\\[\\d+mfinance: protected", seen)
    code, seen = on_terminal(service, "restore", "finance", "--to", "write:7", "--yes", "--wait")
    assert code == 0
    assert "restore: done" in seen
    assert "━━━━" in seen
    assert "100 %" in seen
    assert "\x1b[31m9" not in on_terminal(service, "disks")[1]


def test_an_interrupted_wait_leaves_the_job_alone(service: RunningService) -> None:
    service.finance.stalled = True
    child = process(
        service, "sync", "finance", "--wait", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stderr is not None
    assert child.stderr.readline().startswith(b"resync: copying")
    child.send_signal(signal.SIGINT)
    try:
        _, said = child.communicate(timeout=HUNG_SECONDS)
    finally:
        child.kill()
    assert child.returncode == 130
    assert b"it goes on; `cdpctl job cancel 1` would stop it" in said
    assert b"Traceback" not in said
    job = service.finance.job
    assert job is not None
    service.on_loop(job.cancel)


def test_exit_codes_of_the_process(service: RunningService) -> None:
    for words, code in (
        (("disks",), 0),
        (("status", "other"), 1),
        (("status", "--fast"), 2),
        (("restore", "finance", "--to", "write:7"), 3),
    ):
        child = process(service, *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, said = child.communicate(timeout=HUNG_SECONDS)
        assert child.returncode == code, words
        assert b"Traceback" not in said


def test_a_reader_that_goes_away(service: RunningService) -> None:
    child = process(service, "disks", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, said = child.communicate(timeout=HUNG_SECONDS)
    assert b"Traceback" not in said
