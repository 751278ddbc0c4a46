"""The firmware image that the service runs in: which version, from which slot, and what became of
updates.

What is read here is written by `firmware_config/image`; it is read once, as the service starts, and
from then on the image's scripts tell what happens (verb `news`).
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.events import KINDS, STATE_IN_MEMORY, VERSION_WORKS
from appliance.wording import cleaned, in_words

ROOT: Final = Path("/")
_SLOT: Final = re.compile(r"\brauc\.slot=([AB])\b")


@dataclass
class Image:
    """`proven`: this version has shown in this slot that it works.  `alerts` are sentences by
    their events' codes; each stands until an update goes well, or the box is started anew."""

    version: str
    build: str
    slot: str
    proven: bool = False
    memory_only: str = ""
    """Why the box's own state is kept in memory; empty if it is not."""
    alerts: dict[str, str] = field(default_factory=dict)

    def hear(self, code: str, **fields: str) -> None:
        """What an event about the image means from now on; the fields are its sentence's."""
        kind = KINDS[code]
        if kind.severity == "info":
            lasting = self.alerts.get(STATE_IN_MEMORY)
            self.alerts = {} if lasting is None else {STATE_IN_MEMORY: lasting}
        else:
            self.alerts[code] = in_words(kind, cleaned(fields))
        self.proven = self.proven or code == VERSION_WORKS


def read_image(root: Path = ROOT) -> Image | None:
    """None where the service runs on something else than an image of ours."""
    about = dict(
        line.split("=", 1) for line in _text(root / "etc/os-release").splitlines() if "=" in line
    )
    slot = _SLOT.search(_text(root / "proc/cmdline"))
    if not about.get("IMAGE_ID", "").startswith("ebbtide-") or slot is None:
        return None
    image = Image(about.get("IMAGE_VERSION", "?"), about.get("BUILD_ID", "?"), slot[1])
    worked = _text(root / "var/lib/ebbtide-image" / f"worked-{image.slot}")
    image.proven = worked.strip() == f"{image.version} {image.build}"
    image.memory_only = _text(root / "run/ebbtide-state-in-memory").strip()
    if image.memory_only:
        image.hear(STATE_IN_MEMORY, reason=image.memory_only)
    return image


def _text(path: Path) -> str:
    """Empty where there is none: an image is used, whatever its notes have become."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
