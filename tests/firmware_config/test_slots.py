"""Which slot is booted, and what may be said against a version: the image's very scripts, with a
directory for the box's root, and with a RAUC that only writes down which slots it was told of."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "firmware_config" / "image"
SCRIPTS = RECIPE / "root" / "usr" / "lib" / "ebbtide"
DEBIANS = Path("/usr/bin/grub-editenv")
THIS = "0.2.0 abc"
PLACES = re.compile(
    r"(?<![\w$}\"])/(efi|var/lib|run|proc|etc/os-release|dev/kmsg|usr/lib/ebbtide|opt/ebbtide)\b"
)
RAUC = """\
#!/bin/sh
slot=$(sed -n 's/.*rauc\\.slot=\\([AB]\\).*/\\1/p' ROOT/proc/cmdline)
if [ "$slot" = A ]; then other=B; else other=A; fi
case $3 in booted) it=$slot next=$other ;; other) it=$other next=$slot ;; esac
case $2 in
    mark-good) set -- "${it}_OK=1" "${it}_TRY=0" ;;
    mark-bad) set -- "${it}_OK=0" "${it}_TRY=0" ;;
    mark-active) set -- "ORDER=$it $next" "${it}_OK=1" "${it}_TRY=0" ;;
esac
exec grub-editenv ROOT/efi/EFI/ebbtide/grubenv set "$@"
"""

pytestmark = pytest.mark.skipif(not DEBIANS.exists(), reason="needs grub-editenv")


class Box:
    """A root directory; `A` is booted, and version 0.2.0 runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memory = root / "efi/EFI/ebbtide/grubenv"
        self.copy = self.memory.with_name("grubenv.copy")
        self.notes = root / "var/lib/ebbtide-image"
        self.now = root / "run/ebbtide-image"
        for place in (
            "etc",
            "proc",
            "dev",
            "bin",
            "usr/lib/ebbtide",
            "var/lib/rauc",
            "run",
            "opt/ebbtide/bin",
        ):
            (root / place).mkdir(parents=True)
        self.memory.parent.mkdir(parents=True)
        for script in SCRIPTS.iterdir():
            self._install(script, root / "usr/lib/ebbtide" / script.name)
        self._install(RECIPE / "root/usr/local/sbin/grub-editenv", root / "bin/grub-editenv")
        self.program("rauc", RAUC.replace("ROOT", str(root)))
        self.program("../opt/ebbtide/bin/python", f'#!/bin/sh\necho "$@" >>{root}/told\n')
        self.program("systemctl", f'#!/bin/sh\necho "$@" >>{root}/systemctl\n')
        (root / "etc/os-release").write_text("IMAGE_VERSION=0.2.0\nBUILD_ID=abc\n")
        self.boot("A")
        for file in (self.memory, self.copy):
            subprocess.run([DEBIANS, file, "create"], check=True, timeout=30)
        self.remember("ORDER=A B", "A_OK=1", "A_TRY=1", "B_OK=0", "B_TRY=0")

    def _install(self, script: Path, place: Path) -> None:
        place.write_text(PLACES.sub(rf"{self.root}/\1", script.read_text()))
        place.chmod(0o755)

    def program(self, name: str, text: str) -> None:
        (self.root / "bin" / name).write_text(text)
        (self.root / "bin" / name).chmod(0o755)

    def boot(self, slot: str, words: str = "") -> None:
        (self.root / "proc/cmdline").write_text(f"quiet rauc.slot={slot} {words}\n")
        shutil.rmtree(self.now, ignore_errors=True)

    def remember(self, *settings: str) -> None:
        self.run(self.root / "bin/grub-editenv", self.memory, "set", *settings)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={"PATH": f"{self.root}/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def script(self, name: str) -> str:
        """What it said."""
        done = self.run(self.root / "usr/lib/ebbtide" / name)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def remembered(self, file: Path | None = None) -> dict[str, str]:
        done = self.run(DEBIANS, file or self.memory, "list")
        assert done.returncode == 0, done.stderr
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def worked(self, slot: str, version: str = THIS) -> None:
        self.notes.mkdir(exist_ok=True)
        (self.notes / f"worked-{slot}").write_text(f"{version}\n")

    @property
    def told(self) -> list[str]:
        """What the service heard."""
        said = self.root / "told"
        lines = said.read_text().splitlines() if said.exists() else []
        return [line.removeprefix("-Im appliance.cli.news ") for line in lines]

    @property
    def restarted(self) -> bool:
        said = self.root / "systemctl"
        return said.exists() and "reboot" in said.read_text()


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


def test_a_power_cut_at_any_byte_of_a_write_finds_one_of_both_whole(box: Box) -> None:
    """Debian's would leave an empty file; ours has the copy written after the file."""
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


def stick(box: Box, state: str, bundles: int = 1) -> subprocess.CompletedProcess[str]:
    """One with so many bundles is plugged in while `ebbtide-works` has `failed`, or has not."""
    place = box.root / "run/ebbtide-stick/sdx1"
    place.mkdir(parents=True, exist_ok=True)
    for number in range(bundles):
        (place / f"{number}.raucb").touch()
    box.program("mount", "#!/bin/sh\n")
    box.program("umount", "#!/bin/sh\n")
    box.program("rauc", f'#!/bin/sh\necho "$@" >>{box.root}/rauc\n')
    box.program(
        "systemctl",
        f"""#!/bin/sh
case "$*" in
    "--quiet is-failed ebbtide-works.service") [ {state} = failed ] ;;
    "start ebbtide-go-back.service") {box.root}/usr/lib/ebbtide/go-back ;;
    *) echo "$@" >>{box.root}/systemctl ;;
esac
""",
    )
    return box.run(box.root / "usr/lib/ebbtide/update-stick", "/dev/sdx1")


def installed(box: Box) -> bool:
    said = box.root / "rauc"
    return said.exists() and "install" in said.read_text()


def test_a_stick_is_installed_once(box: Box) -> None:
    assert stick(box, "active").returncode == 0
    assert installed(box)
    (box.root / "rauc").unlink()
    assert "installed before" in stick(box, "active").stdout
    assert not installed(box)
    assert box.told == ["known"]


def test_a_stick_without_a_bundle_is_refused(box: Box) -> None:
    assert stick(box, "active", bundles=2).returncode == 1
    assert not installed(box)
    assert box.told == ["refused reason=not one bundle (*.raucb) on the stick, but 2"]


def test_a_stick_is_not_in_the_way_of_going_back(box: Box) -> None:
    box.remember("B_OK=1")
    assert stick(box, "failed").returncode == 1
    assert not installed(box)
    assert box.restarted


def test_a_stick_helps_a_box_that_has_nothing_to_go_back_to(box: Box) -> None:
    assert stick(box, "failed").returncode == 0
    assert installed(box)


def test_a_stick_is_installed_by_a_version_that_had_worked(box: Box) -> None:
    box.worked("A")
    box.remember("B_OK=1")
    assert stick(box, "failed").returncode == 0
    assert installed(box)
    assert not box.restarted


@pytest.mark.parametrize("name", ["grubenv", "grubenv.copy"])
def test_the_boot_loader_is_given_both(name: str) -> None:
    assert f"$prefix/{name}" in (RECIPE / "grub/grub.cfg").read_text()
    assert f'"$parts/{name}"' in (RECIPE / "disk.sh").read_text()
