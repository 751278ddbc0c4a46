"""A few bytes that belong to the box, in a file for its owner alone, replaced whole."""

import os
from pathlib import Path
from typing import Final

SIZE_MAXIMUM: Final = 4096


def read_kept(path: Path) -> str | None:
    """The text, or None without a file; what is no text is shown with `?`.  Raises OSError."""
    try:
        with path.open("rb") as file:
            return file.read(SIZE_MAXIMUM).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None


def write_kept(path: Path, text: str) -> None:
    """Replace the file at once and durably, mode 0600; makes its folder (0700).  Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, text.encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
