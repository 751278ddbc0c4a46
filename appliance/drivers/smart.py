"""What a disk says of its own health: `smartctl` of smartmontools, where it is installed.

Where a smartctl with more rights than ours can be asked, it is (`smart_relay`).
Its JSON, and its exit status, which is a bit mask, are those of smartctl(8),
release 7.  Both are input from outside: whatever they are, the answer is a
`Health`, and strings from the disk are fit for a terminal.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from appliance.drivers import smart_relay
from appliance.wording import printable

Verdict = Literal["good", "failing", "unknown"]

UNREADABLE: Final = 0b011
"""Bits of the exit status: the command line did not parse; the disk was not opened, or sleeps."""
FAILING: Final = 1 << 3
PREFAIL: Final = 1 << 4
REMARKS: Final = (
    (1 << 5, "a value was below its threshold in the past"),
    (1 << 6, "its log has errors"),
    (1 << 7, "a self-test found errors"),
)
CRITICAL_WARNINGS: Final = (
    "its spare blocks run out",
    "its temperature is out of bounds",
    "its reliability is degraded",
    "it is read-only",
    "its backup of volatile memory failed",
    "its persistent memory is unreliable",
)
"""Bits of an NVMe disk's critical warning (NVM Express base specification, SMART log)."""
TEMPERATURES: Final = range(-60, 200)
REASON_MAXIMUM: Final = 200


@dataclass(frozen=True, slots=True)
class Health:
    """`reason` is for people, and may be empty; `temperature` in °C, where it is known."""

    verdict: Verdict = "unknown"
    reason: str = ""
    temperature: int | None = None
    asleep: bool = False
    """It was not asked, so as not to wake it."""


NOT_ASKED: Final = Health(reason="it has not been asked yet")


def start(node: str) -> "subprocess.Popen[bytes] | Health":
    """Begin to ask the disk at `node`: smartctl, leader of a session of its own and with its
    answer in `stdout`; or what is known without."""
    try:
        if not Path(node).is_block_device():
            return Health(reason="it is no block device")
        return subprocess.Popen(
            _command(node),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,
        )
    except FileNotFoundError:
        return Health(reason="smartctl is not installed")
    except OSError as error:
        return Health(reason=f"smartctl cannot be run: {error.strerror}")


def _command(node: str) -> list[str]:
    if smart_relay.SOCKET.is_socket():
        relay = ["-m", smart_relay.__name__, str(smart_relay.SOCKET), node]
        return [sys.executable, "-I", *relay]
    return ["smartctl", "--json", "--nocheck=standby", "-a", node]


def read_report(output: bytes, status: int) -> Health:
    """What smartctl's answer means; `status` is its exit status, negative if a signal ended it."""
    if status < 0:
        return Health(reason=f"smartctl was ended by signal {-status}")
    try:
        report = msgspec.json.decode(output)
    except (ValueError, RecursionError):
        return Health(reason="smartctl's answer does not read")
    temperature = _find(report, "temperature", "current")
    if type(temperature) is not int or temperature not in TEMPERATURES:
        temperature = None
    passed = _find(report, "smart_status", "passed")
    if passed is False or status & (FAILING | PREFAIL):
        verdict: Verdict = "failing"
        reason = "; ".join(_complaints(report)) or "it says so of itself"
    elif passed is True:
        verdict = "good"
        reason = "; ".join(words for bit, words in REMARKS if status & bit)
    else:
        verdict = "unknown"
        reason = _message(report) or "it does not tell"
    asleep = verdict == "unknown" and bool(status & UNREADABLE) and "STANDBY" in reason.upper()
    return Health(verdict, printable(reason)[:REASON_MAXIMUM], temperature, asleep)


def _complaints(report: Any) -> Iterator[str]:
    """What a failing disk complains of: SCSI, NVMe and ATA have a form each."""
    said = _find(report, "smart_status", "scsi", "ie_string")
    if isinstance(said, str) and said:
        yield said.lower()
    warnings = _find(report, "nvme_smart_health_information_log", "critical_warning")
    if type(warnings) is int:
        for bit, words in enumerate(CRITICAL_WARNINGS):
            if warnings >> bit & 1:
                yield words
    table = _find(report, "ata_smart_attributes", "table")
    for attribute in table if isinstance(table, list) else ():
        name = _find(attribute, "name")
        if _find(attribute, "when_failed") == "now" and isinstance(name, str):
            yield f"{name} is below its threshold"


def _message(report: Any) -> str:
    """Why smartctl has nothing to tell."""
    if _find(report, "smart_support", "available") is False:
        return "it has no SMART"
    messages = _find(report, "smartctl", "messages")
    for message in messages if isinstance(messages, list) else ():
        said = _find(message, "string")
        if isinstance(said, str) and said:
            return said
    return ""


def _find(report: Any, *path: str) -> Any:
    """What stands there, or None."""
    for name in path:
        report = report.get(name) if isinstance(report, dict) else None
    return report
