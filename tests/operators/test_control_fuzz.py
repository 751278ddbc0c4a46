"""A short siege of the control socket; `make fuzz` has longer ones."""

import random
import shutil
from pathlib import Path

import pytest

from tests.operators.control_fuzzed import Siege, wild_request


def test_a_short_siege(tmp_path: Path) -> None:
    if shutil.which("mke2fs") is None:
        pytest.skip("needs mke2fs")
    siege = Siege(tmp_path)
    try:
        for seed in range(3):
            counted = siege.live(random.Random(seed), 200)
            assert counted["answers"] > 50
    finally:
        siege.close()


def test_nobody_hostile_consents() -> None:
    dice = random.Random(7)
    asked = b"".join(wild_request(dice) for _ in range(5000))
    assert b'"yes": true' not in asked
    for verb in (b"release", b"restore", b"protect", b"give-up", b"unlock"):
        assert b'"verb": "%b"' % verb in asked
