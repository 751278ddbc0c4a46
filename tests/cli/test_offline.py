"""`cdpctl check` and `cdpctl dump` on disks that no service uses."""

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appliance.cdp.check.findings import KINDS
from appliance.cdp.interfaces import DiskIdentity
from appliance.cli.main import COMMAND
from appliance.drivers.disk import RawDisk
from appliance.drivers.kernel_queue import KernelQueue
from appliance.loop import Loop
from tests.cdp.simulated_pair import SimulatedPair


@pytest.fixture(scope="module")
def images() -> tuple[bytes, bytes]:
    pair = SimulatedPair(1)
    pair.start()
    pair.write_at_random(20)
    pair.stop()
    return pair.images()


@pytest.fixture
def disks(tmp_path: Path, images: tuple[bytes, bytes]) -> tuple[Path, Path]:
    primary, secondary = tmp_path / "primary", tmp_path / "secondary"
    primary.write_bytes(images[0])
    secondary.write_bytes(images[1])
    return primary, secondary


def cdpctl(*words: object) -> Result:
    return CliRunner().invoke(COMMAND, ["--socket", "/nowhere", *map(str, words)])


def spoil(disk: Path, offset: int) -> None:
    raw = bytearray(disk.read_bytes())
    raw[offset] ^= 1
    disk.write_bytes(raw)


def test_a_sound_pair(disks: tuple[Path, Path]) -> None:
    result = cdpctl("check", *disks)
    assert result.exit_code == 0
    assert result.stdout == "sound\n"


def test_a_disk_that_only_may_be_read_is_enough(disks: tuple[Path, Path]) -> None:
    for disk in disks:
        disk.chmod(0o400)
    assert cdpctl("check", *disks).exit_code == 0


def test_damage_is_told_with_its_code_and_place(disks: tuple[Path, Path]) -> None:
    spoil(disks[0], 3 * 4096)
    result = cdpctl("check", *disks)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "EC501 error: primary: contents: primary and newest point differ at byte 12288, 512 bytes",
        "1 error; `cdpctl explain CODE` tells what they mean",
    ]


def test_json_for_programs(disks: tuple[Path, Path]) -> None:
    spoil(disks[0], 3 * 4096)
    result = cdpctl("--json", "check", *disks)
    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    assert answer["schema"] == 1
    assert answer["errors"] == 1
    assert [finding["code"] for finding in answer["findings"]] == ["EC501"]
    assert answer["findings"][0]["offset"] == 3 * 4096


def test_a_warning_is_no_failure(disks: tuple[Path, Path]) -> None:
    spoil(disks[1], 4096 + 50)
    result = cdpctl("check", *disks)
    assert result.exit_code == 0
    assert result.stdout.startswith("EC102 warning: secondary: superblock at byte 4096")
    assert result.stdout.endswith("sound, 1 warning\n")


def test_a_disk_in_use_is_refused(disks: tuple[Path, Path]) -> None:
    """As the service holds it: by a lock."""
    with disks[0].open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for words in (["check", *disks], ["dump", disks[0]]):
            result = cdpctl(*words)
            assert result.exit_code == 3
            assert "EB102" in result.stderr


def test_a_block_device_in_use_is_refused(
    loop: Loop,
    turn_until: Callable[..., None],
    loop_device: Callable[..., Path],
    disks: tuple[Path, Path],
) -> None:
    node = loop_device(0, file=disks[1])
    assert cdpctl("check", node).exit_code == 0
    service = RawDisk.open(node, DiskIdentity("s", str(node)), KernelQueue(loop))
    try:
        result = cdpctl("check", node)
        assert result.exit_code == 3
        assert "EB102" in result.stderr
    finally:
        service.close()
        turn_until(lambda: service.closed)
    assert cdpctl("check", node).exit_code == 0


def test_nothing_is_written(disks: tuple[Path, Path], images: tuple[bytes, bytes]) -> None:
    cdpctl("check", *disks)
    cdpctl("dump", disks[1])
    assert (disks[0].read_bytes(), disks[1].read_bytes()) == images


@pytest.mark.parametrize("size", [0, 512, 4096, 70_000])
def test_what_is_no_disk_of_ours(tmp_path: Path, size: int) -> None:
    other = tmp_path / "other"
    other.write_bytes(os.urandom(size))
    result = cdpctl("check", other)
    assert result.exit_code == 1
    assert "EC101" in result.stdout
    result = cdpctl("dump", other)
    assert result.exit_code == 1
    assert "EB201" in result.stderr


def test_a_disk_that_is_not_there() -> None:
    result = cdpctl("check", "/nowhere/at/all")
    assert result.exit_code == 1
    assert "EB101" in result.stderr


@pytest.mark.parametrize("words", [["check"], ["check", "a", "b", "c"], ["dump"]])
def test_usage(words: list[str]) -> None:
    assert cdpctl(*words).exit_code == 2


def test_dump_for_people(disks: tuple[Path, Path]) -> None:
    lines = cdpctl("dump", disks[1]).stdout.splitlines()
    assert lines[0] == "superblock at byte 4096"
    assert "  name              finance" in lines
    assert any(line.startswith("delta map ") for line in lines)
    assert any(line.startswith("    start ") for line in lines), "entries, one a line"


def test_dump_for_programs_is_a_line_for_each_structure(disks: tuple[Path, Path]) -> None:
    shown = [json.loads(line) for line in cdpctl("dump", "--json", disks[0]).stdout.splitlines()]
    assert [one["what"] for one in shown[:3]] == ["superblock", "superblock", "intent slot 0"]
    assert shown[0]["fields"]["name"] == "finance"


@pytest.mark.parametrize("code", sorted(KINDS))
def test_every_finding_is_explained(code: str) -> None:
    result = cdpctl("explain", code.lower())
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{code} (finding, {KINDS[code].severity})")
    assert KINDS[code].explanation[:20] in result.stdout


def test_the_service_does_not_do_it_over_its_socket() -> None:
    """Its own process reads no disk that it does not own."""
    from appliance.operators.actions import ACTIONS

    assert not {"check", "dump"} & set(ACTIONS)
