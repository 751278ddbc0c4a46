"""The recipe of the firmware image, as far as it can be tried without building one."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from appliance.boards import read_board
from appliance.config import read_settings

CONFIG = Path(__file__).parents[2] / "firmware_config"
RECIPE = CONFIG / "image"
BOARDS = sorted(path.stem for path in (CONFIG / "udev" / "bays").iterdir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory into which the files of firmware_config were put."""
    subprocess.run(
        ["sh", RECIPE / "install.sh", tmp_path],
        env={**os.environ, "BOARD": "qemu-q35"},
        cwd=CONFIG.parent,
        check=True,
        timeout=30,
    )
    return tmp_path


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_every_file_is_put_somewhere(root: Path) -> None:
    installed = {path.read_bytes() for path in files(root)}
    left_out = {
        *(path for path in files(RECIPE) if not path.is_relative_to(RECIPE / "root")),
        CONFIG / "udev" / "61-ebbtide-bays.rules",  # the board's own takes its place
        *(path for path in (CONFIG / "udev" / "bays").iterdir() if path.stem != "qemu-q35"),
    }
    for path in set(files(CONFIG)) - left_out:
        assert path.read_bytes() in installed, path


def test_the_settings_are_the_default_but_for_the_board(root: Path) -> None:
    delivered = (CONFIG / "default.toml").read_text().splitlines()
    written = (root / "etc/ebbtide/ebbtide.toml").read_text().splitlines()
    changed = [pair for pair in zip(delivered, written, strict=True) if pair[0] != pair[1]]
    assert changed == [('board = "lcd-plate"', 'board = "qemu-q35"')]
    assert read_settings(root / "etc/ebbtide/ebbtide.toml").panel.board == "qemu-q35"


def test_the_bays_are_the_boards(root: Path) -> None:
    rules = (root / "usr/lib/udev/rules.d/61-ebbtide-bays.rules").read_text()
    assert rules == (CONFIG / "udev" / "bays" / "qemu-q35.rules").read_text()


def test_what_is_started_is_there(root: Path) -> None:
    """Debian's own units are known by their names."""
    text = (RECIPE / "settle.sh").read_text().replace("\\\n", " ")
    enabled = re.findall(r"systemctl --quiet enable (.*)", text)
    units = {name for names in enabled for name in names.split()}
    own = {name for name in units if not name.startswith(("systemd-", "tmp."))}
    assert {"cdpd", "cdp-panel", "cdp-exporter", "cdp-console@ttyS1", "ebbtide-works"} <= own
    # Debian makes the journal's catalog as it installs packages, in a /var that no box has.
    assert "ebbtide-catalog" in own
    for name in own:
        file = re.sub("@.*", "@", name) + ("" if "." in name else ".service")
        assert (root / "usr/lib/systemd/system" / file).exists(), name


def test_the_images_units_say_nothing_that_systemd_does_not_know(
    root: Path, tmp_path: Path
) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for unit in sorted((RECIPE / "root/usr/lib/systemd/system").glob("ebbtide-*.service")):
        program = re.search("(?m)^ExecStart=(/usr/lib/ebbtide/[a-z-]+)", unit.read_text())
        if program is not None:
            assert os.access(f"{root}{program[1]}", os.X_OK), unit.name
        copy = tmp_path / unit.name.replace("@.", "@sda1.")
        copy.write_text(re.sub("(?m)^ExecStart=.*$", "ExecStart=/bin/true", unit.read_text()))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", copy],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), unit.name


def bays(board: str) -> list[str]:
    rules = (CONFIG / "udev" / "bays" / f"{board}.rules").read_text()
    return re.findall(r'(?m)^ENV\{ID_PATH\}=="([^"]+)", ENV\{EBBTIDE_BAY\}="1"$', rules)


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_with_bays_is_a_board(board: str) -> None:
    read_board(board)
    assert bays(board)


@pytest.mark.parametrize(
    ("place", "is_bay"),
    [
        *((f"pci-0000:00:05.0-scsi-0:0:{number}:0", True) for number in range(8)),
        *((f"pci-0000:0{bus}:00.0-nvme-1", True) for bus in range(1, 5)),
        ("pci-0000:00:03.0", False),
        ("pci-0000:00:05.0-scsi-0:0:8:0", False),
        ("pci-0000:00:06.0-scsi-0:0:0:0", False),
        ("pci-0000:00:0a.0-usb-0:1:1.0-scsi-0:0:0:0", False),
    ],
)
def test_the_virtual_board_has_twelve_bays(place: str, is_bay: bool) -> None:
    assert any(fnmatchcase(place, pattern) for pattern in bays("qemu-q35")) == is_bay


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of sources with a built image."""
    for name in ("appliance/a.py", "docs/a.md", "pyproject.toml", "constraints.txt", ".gitignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("/build/\n")
    recipe = tmp_path / "firmware_config" / "image"
    recipe.mkdir(parents=True)
    for name in ("tree.sh", "current.sh"):
        shutil.copy(RECIPE / name, recipe)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, timeout=30)
    products = tmp_path / "build" / "image"
    products.mkdir(parents=True)
    (products / "ebbtide-1-x.img").touch()
    done = subprocess.run(["sh", recipe / "tree.sh"], capture_output=True, timeout=30, check=True)
    (products / "ebbtide-1-x.tree").write_bytes(done.stdout)
    return tmp_path


def is_current(tree: Path, board: str = "x") -> bool:
    script = tree / "firmware_config" / "image" / "current.sh"
    done = subprocess.run(
        ["sh", script, board], capture_output=True, text=True, timeout=30, check=False
    )
    assert bool(done.stdout) == bool(done.returncode), "it says why not"
    assert not done.stderr
    return done.returncode == 0


def test_an_image_of_this_tree_is_used(tree: Path) -> None:
    assert is_current(tree)
    (tree / "docs" / "a.md").write_text("documents do not go into it\n")
    assert is_current(tree)
    assert not is_current(tree, "another-board")


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "appliance/a.py").write_text("changed"),
        lambda tree: (tree / "appliance/a.py").unlink(),
        lambda tree: (tree / "appliance/a.py").chmod(0o755),
        lambda tree: (tree / "firmware_config/new").write_text("not committed"),
        lambda tree: (tree / "build/image/ebbtide-1-x.tree").unlink(),
        lambda tree: (tree / "build/image/ebbtide-2-x.img").touch(),
    ],
    ids=["changed", "gone", "a program now", "new", "of unknown origin", "another's"],
)
def test_any_other_is_not(tree: Path, change: Callable[[Path], object]) -> None:
    os.utime(tree / "build/image/ebbtide-1-x.img", (1, 1))
    change(tree)
    assert not is_current(tree)


@pytest.mark.parametrize("name", ["grub.cfg", "ebbtide.cfg"])
def test_grub_can_read_its_files(name: str) -> None:
    if shutil.which("grub-script-check") is None:
        pytest.skip("needs grub-script-check")
    subprocess.run(["grub-script-check", RECIPE / "grub" / name], check=True, timeout=30)


def sources(apt: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, RECIPE / "sources.py", apt],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_debians_own_sources_are_found_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://mirror.example/old bookworm main\n"
        "deb [arch=amd64 signed-by=/k] http://mirror.example/debian bookworm main contrib\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb http://mirror.example/other tools main\n"
    )
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "Types: deb\n# one\nURIs: http://mirror.example/security\n"
        "Suites: bookworm-security tools\nComponents: main\n\n"
        "Types: deb\nURIs: http://mirror.example/tools\nSuites: nodistro\nComponents: main\n"
    )
    said = sources(tmp_path).stdout
    assert re.findall("(?m)^(?:URIs|Suites): (.*)$", said) == [
        "http://mirror.example/debian",
        "bookworm",
        "http://mirror.example/security",
        "bookworm-security",
    ]


def test_another_debian_is_told_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian trixie main\n")
    done = sources(tmp_path)
    assert done.returncode == 3
    assert "SOURCES=FILE" in done.stderr
