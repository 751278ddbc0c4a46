"""Making the golden images: one life of a pair, the same for each run of the same code."""

import hashlib
import json
import lzma
import random
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from tests.cdp.simulated_pair import SimulatedPair

PLACE = Path(__file__).parent / "format-1"
SECTORS = {"512": (512, 512), "4096": (4096, 4096), "mixed": (512, 4096)}
"""Name of an image, and the logical sectors of primary and secondary."""
SECONDARY_SIZE = 2 << 20


@dataclass(frozen=True)
class Golden:
    """The media of a pair after a crash, and what they hold.

    `points` maps write numbers to the SHA-256 of the volume just after them.
    """

    primary: bytes
    secondary: bytes
    contents: str
    snapshots: dict[str, int]
    points: dict[int, str]

    def save(self, name: str) -> None:
        PLACE.mkdir(exist_ok=True)
        packed = lzma.compress(self.primary + self.secondary, preset=9)
        (PLACE / f"{name}.xz").write_bytes(packed)
        manifest = {
            "primary_size": len(self.primary),
            "contents": self.contents,
            "snapshots": self.snapshots,
            "points": {str(number): digest for number, digest in self.points.items()},
        }
        (PLACE / f"{name}.json").write_text(json.dumps(manifest, indent=1) + "\n")

    @classmethod
    def load(cls, name: str) -> "Golden":
        manifest = json.loads((PLACE / f"{name}.json").read_text())
        raw = lzma.decompress((PLACE / f"{name}.xz").read_bytes())
        size = manifest["primary_size"]
        points = {int(number): digest for number, digest in manifest["points"].items()}
        return cls(raw[:size], raw[size:], manifest["contents"], manifest["snapshots"], points)


def digest(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()


def make(name: str) -> Golden:
    """Every structure of the format: writes, zeros, a snapshot, an index, a fold, a gap after an
    absence of the secondary, a recovery after a kill, and a journal's tail."""
    source = random.Random(name)
    primary_block, secondary_block = SECTORS[name]
    with patch("secrets.token_bytes", source.randbytes):
        pair = SimulatedPair(
            1,
            primary_block=primary_block,
            secondary_block=secondary_block,
            secondary_size=SECONDARY_SIZE,
        )
        pair.start()
        _write(pair, source, 60)
        pair.idle()
        pair.run(pair.volume.take_snapshot("early"))
        _write(pair, source, 40)
        pair.idle()
        pair.run(pair.volume.take_snapshot("kept", pinned=True))
        pair.stop()
        pair.start(with_secondary=False)
        _write(pair, source, 8)
        pair.stop()
        pair.start()
        _write(pair, source, 10)
        pair.kill()
        pair.start()
        _write(pair, source, 15)
        pair.flush()
        chain = pair.volume.history.chain  # type: ignore[union-attr]
        assert chain.floor, "something was folded"
        assert chain.gaps, "there is a gap"
        assert any(delta_map.indexed for delta_map in chain.maps)
        contents = pair.read(pair.volume)
        points = {}
        for number in pair.states:
            if _is_restorable(pair, number):
                points[number] = digest(pair.states[number])
        snapshots = {snapshot.name: snapshot.write for snapshot in chain.snapshots.values()}
        pair.kill()
        return Golden(*pair.images(), digest(contents), snapshots, points)


def _write(pair: SimulatedPair, source: random.Random, count: int) -> None:
    """Writes whose data says which write it is, which packs well."""
    unit = pair.volume.sector
    for _ in range(count):
        offset = source.randrange(pair.volume.size // unit) * unit
        length = min(source.choice([unit, 4096, 8192]), pair.volume.size - offset)
        if source.random() < 0.1:
            pair.write(offset, b"", zero=length)
        else:
            tag = f"write {pair.volume.write_number + 1:8} ".encode()
            pair.write(offset, (tag * length)[:length])
    pair.flush()


def _is_restorable(pair: SimulatedPair, number: int) -> bool:
    try:
        pair.volume.history.chain.check_restorable(number, "")  # type: ignore[union-attr]
    except Exception:
        return False
    return True
