"""Which slot is booted, and what may be said against a version."""

import shutil
from pathlib import Path

import pytest

from tests.firmware_config.played_box import DEBIANS, RECIPE, THIS, Box

pytestmark = pytest.mark.skipif(not DEBIANS.exists(), reason="needs grub-editenv")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_what_is_written_is_written_over_and_copied(box: Box) -> None:
    inode, size = box.memory.stat().st_ino, box.memory.stat().st_size
    box.remember("ORDER=B A", "system_console=tty0")
    assert (box.memory.stat().st_ino, box.memory.stat().st_size) == (inode, size)
    assert box.remembered()["ORDER"] == "B A"
    assert box.copy.read_bytes() == box.memory.read_bytes()
    assert not box.memory.read_bytes()[512:].strip(b"#"), "all of it is in one sector"


def test_a_power_cut_before_anything_is_written_leaves_what_was(box: Box) -> None:
    whole = box.memory.read_bytes()
    box.program("dd", f'#!/bin/sh\nexec {shutil.which("dd")} "$@" count=0\n')
    box.remember("ORDER=B A")
    assert box.memory.read_bytes() == whole


def test_a_power_cut_at_any_byte_of_a_write_finds_one_of_both_whole(box: Box) -> None:
    box.remember("ORDER=B A", "B_OK=1")
    whole = box.copy.read_bytes()
    for kept in (0, 1, 25, 40, 511, 1023):
        box.memory.write_bytes(whole[:kept])
        box.script("boot-memory")
        assert box.remembered() == box.remembered(box.copy)
        assert box.remembered()["ORDER"] == "B A"
        assert box.memory.stat().st_size == 1024


@pytest.mark.parametrize(
    "damage",
    [b"", bytes(1024), b"# GRUB Environment Block\n" + b"#" * 999, b"nothing of the kind" * 54],
    ids=["empty", "zeros", "nothing said", "something else"],
)
def test_what_is_damaged_is_taken_from_the_copy(box: Box, damage: bytes) -> None:
    box.boot("B")
    box.remember("ORDER=B A", "B_OK=1", "system_console=tty0")
    box.memory.write_bytes(damage)
    assert "taken from its copy" in box.script("boot-memory")
    assert box.remembered()["ORDER"] == "B A"
    assert box.remembered()["system_console"] == "tty0"
    assert not (box.now / "not-first").exists()


@pytest.mark.parametrize("there", [True, False])
def test_with_both_lost_the_slot_that_runs_is_kept(box: Box, there: bool) -> None:
    box.boot("B")
    box.worked("A", "0.1.0 old")
    for file in (box.memory, box.copy):
        file.write_bytes(b"") if there else file.unlink()
    assert "is lost" in box.script("boot-memory")
    expected = {"ORDER": "B A", "B_OK": "1", "B_TRY": "0", "A_OK": "1", "A_TRY": "0"}
    assert box.remembered() == box.remembered(box.copy) == expected


def test_what_nobody_knows_to_work_is_not_said_to(box: Box) -> None:
    box.memory.unlink()
    box.copy.unlink()
    box.script("boot-memory")
    assert box.remembered()["B_OK"] == "0"


def test_a_copy_that_is_missing_is_made(box: Box) -> None:
    box.copy.unlink()
    box.script("boot-memory")
    assert box.copy.read_bytes() == box.memory.read_bytes()


def test_a_version_that_has_worked_is_not_counted_as_tried(box: Box) -> None:
    box.remember("A_TRY=3")
    box.worked("A")
    box.script("boot-memory")
    assert box.remembered()["A_TRY"] == "0"


@pytest.mark.parametrize("worked", [None, "0.1.0 old", "0.2.0 other-build"])
def test_any_other_version_is(box: Box, worked: str | None) -> None:
    box.remember("A_TRY=2")
    if worked is not None:
        box.worked("A", worked)
    box.script("boot-memory")
    assert box.remembered()["A_TRY"] == "2"


def test_a_version_that_works_is_marked_and_noted(box: Box) -> None:
    box.script("boot-memory")
    box.script("mark-good")
    assert (box.notes / "worked-A").read_text() == f"{THIS}\n"
    told = box.remembered()
    assert (told["ORDER"], told["A_OK"], told["A_TRY"]) == ("A B", "1", "0")
    box.script("mark-good")
    assert box.told == ["works version=0.2.0 slot=A"], "the first time"


def test_a_version_that_never_worked_is_not_booted_again(box: Box) -> None:
    box.remember("ORDER=B A", "B_OK=1", "B_TRY=3")
    box.script("boot-memory")
    box.script("mark-good")
    told = box.remembered()
    assert (told["ORDER"], told["B_OK"]) == ("A B", "0")
    assert "went back version=0.2.0 slot=A reason=slot B does not work" in box.told


def test_three_power_cuts_say_nothing_against_a_version_that_has_worked(box: Box) -> None:
    box.remember("ORDER=B A", "B_OK=1", "B_TRY=3")
    box.worked("B", "0.3.0 new")
    box.script("boot-memory")
    assert "tried again" in box.script("mark-good")
    told = box.remembered()
    assert (told["ORDER"], told["B_OK"], told["B_TRY"]) == ("B A", "1", "0")


def test_but_somebody_who_marked_it_bad_does(box: Box) -> None:
    box.remember("ORDER=B A", "B_OK=0")
    box.worked("B", "0.3.0 new")
    box.script("boot-memory")
    box.script("mark-good")
    assert box.remembered()["ORDER"] == "A B"


def test_a_slot_chosen_in_the_menu_stays_chosen(box: Box) -> None:
    menu = (RECIPE / "grub/grub.cfg").read_text()
    assert 'set chosen="ebbtide.slot=chosen"' in menu
    box.boot("A", "ebbtide.slot=chosen")
    box.remember("ORDER=B A", "B_OK=1")
    box.worked("B", "0.3.0 new")
    box.script("boot-memory")
    box.script("mark-good")
    told = box.remembered()
    assert (told["ORDER"], told["B_OK"]) == ("A B", "1"), "it is not bad for that"
    assert not any("went back" in words for words in box.told)


def test_what_is_installed_before_this_one_is_found_good_is_not_bad(box: Box) -> None:
    box.worked("B", "0.1.0 old")
    box.script("boot-memory")
    box.script("before-install")
    box.remember("ORDER=B A", "B_OK=1", "B_TRY=0")
    box.script("mark-good")
    told = box.remembered()
    assert (told["ORDER"], told["B_OK"]) == ("B A", "1")
    assert not (box.notes / "worked-B").exists(), "that was another one's"


def test_not_even_if_another_one_there_had_failed(box: Box) -> None:
    box.remember("ORDER=B A", "B_OK=1", "B_TRY=3")
    box.script("boot-memory")
    box.script("before-install")
    box.remember("B_TRY=0")
    box.script("mark-good")
    assert box.remembered()["ORDER"] == "B A"


def test_a_new_version_that_fails_goes_back(box: Box) -> None:
    box.remember("B_OK=1")
    box.script("go-back")
    assert box.restarted
    assert box.remembered()["A_OK"] == "0"
    done = box.run(box.root / "usr/lib/ebbtide/before-install")
    assert done.returncode == 1
    assert "nothing is installed" in done.stderr


def test_one_that_has_worked_does_not(box: Box) -> None:
    box.remember("B_OK=1")
    box.worked("A")
    assert "not going back" in box.script("go-back")
    assert not box.restarted


def test_one_without_another_waits_for_an_update(box: Box) -> None:
    assert "no other version" in box.script("go-back")
    assert not box.restarted
    box.script("before-install")


def test_what_was_installed_is_told(box: Box) -> None:
    (box.root / "var/lib/rauc/central.raucs").write_text(
        "[slot.rootfs.0]\nbundle.version=0.2.0\n\n[slot.rootfs.1]\nbundle.version=0.3.0\n"
    )
    box.script("after-install")
    assert box.told == ["installed version=0.3.0 slot=B"]


@pytest.mark.parametrize("name", ["grubenv", "grubenv.copy"])
def test_the_boot_loader_is_given_both(name: str) -> None:
    assert f"$prefix/{name}" in (RECIPE / "grub/grub.cfg").read_text()
    assert f'"$parts/{name}"' in (RECIPE / "disk.sh").read_text()
