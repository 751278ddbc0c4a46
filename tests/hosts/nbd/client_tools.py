"""Running the NBD clients that people have."""

import shutil
import subprocess

import pytest


def run(tool: str, *words: object, status: int = 0) -> str:
    """Run a tool to its end, which must be this exit status; its output."""
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    done = subprocess.run(
        [tool, *map(str, words)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr
