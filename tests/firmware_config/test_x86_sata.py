"""Board `x86-sata`, as docs/hardware.md tells of it."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

RULES = Path(__file__).parents[2] / "firmware_config/udev/bays/x86-sata.rules"
BAYS = re.findall(
    r'^ENV\{ID_PATH\}=="(.*)", ENV\{EBBTIDE_BAY\}="1"$', RULES.read_text(), re.MULTILINE
)


@pytest.mark.parametrize(
    ("place", "is_bay"),
    [
        # As udev of Debian 12 named them, in QEMU.
        ("pci-0000:00:1f.2-ata-1.0", True),
        ("pci-0000:00:1f.2-ata-2.0", True),
        ("pci-0000:00:03.0-nvme-1", False),
        ("pci-0000:00:02.0-usb-0:2:1.0-scsi-0:0:0:0", False),
        ("pci-0000:00:04.0", False),
        ("pci-0000:00:05.0-scsi-0:0:1:0", False),
    ],
)
def test_every_sata_port_is_a_bay_and_nothing_else(place: str, is_bay: bool) -> None:
    assert any(fnmatchcase(place, pattern) for pattern in BAYS) is is_bay
