"""smartctl's answers, in the forms of ATA, SCSI and NVMe disks, whole and broken."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.drivers import smart
from appliance.drivers.smart import REASON_MAXIMUM, Health, read_report


def attribute(number: int, name: str, when_failed: str, prefailure: bool = True) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "value": 1,
        "worst": 1,
        "thresh": 36,
        "when_failed": when_failed,
        "flags": {"prefailure": prefailure},
        "raw": {"value": 4000, "string": "4000"},
    }


def ata(passed: bool, *attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "device": {"name": "/dev/sda", "type": "sat", "protocol": "ATA"},
        "model_name": "Ebb 1000",
        "serial_number": "E1",
        "smart_status": {"passed": passed},
        "temperature": {"current": 34},
        "ata_smart_attributes": {"revision": 10, "table": list(attributes)},
    }


def nvme(warning: int) -> dict[str, Any]:
    return {
        "device": {"name": "/dev/nvme0", "type": "nvme", "protocol": "NVMe"},
        "smart_status": {"passed": not warning, "nvme": {"value": warning}},
        "nvme_smart_health_information_log": {"critical_warning": warning, "temperature": 41},
        "temperature": {"current": 41},
    }


def scsi(passed: bool) -> dict[str, Any]:
    status: dict[str, Any] = {"passed": passed}
    if not passed:
        status["scsi"] = {
            "asc": 0x5D,
            "ascq": 0x10,
            "ie_string": "HARDWARE IMPENDING FAILURE GENERAL HARD DRIVE FAILURE",
        }
    return {
        "device": {"name": "/dev/sdb", "type": "scsi", "protocol": "SCSI"},
        "smart_status": status,
        "temperature": {"current": 29, "drive_trip": 68},
        "scsi_grown_defect_list": 0,
    }


def message(text: str) -> dict[str, Any]:
    return {"smartctl": {"messages": [{"string": text, "severity": "error"}]}}


STANDBY = "Device is in STANDBY mode, exit(2)"
REALLOCATED = "Reallocated_Sector_Ct"


@pytest.mark.parametrize(
    ("report", "status", "health"),
    [
        (ata(True), 0, Health("good", "", 34)),
        (scsi(True), 0, Health("good", "", 29)),
        (nvme(0), 0, Health("good", "", 41)),
        (ata(False), 8, Health("failing", "it says so of itself", 34)),
        (
            ata(
                False,
                attribute(5, REALLOCATED, "now"),
                attribute(9, "Power_On_Hours", ""),
                attribute(3, "Spin_Up_Time", "past"),
            ),
            8 | 16 | 32,
            Health("failing", f"{REALLOCATED} is below its threshold", 34),
        ),
        (
            ata(True, attribute(5, REALLOCATED, "now")),
            16,
            Health("failing", f"{REALLOCATED} is below its threshold", 34),
        ),
        (
            ata(True, attribute(3, "Spin_Up_Time", "past")),
            32,
            Health("good", "a value was below its threshold in the past", 34),
        ),
        (
            ata(True),
            64 | 128,
            Health("good", "its log has errors; a self-test found errors", 34),
        ),
        (ata(True), 4, Health("good", "", 34)),
        (
            scsi(False),
            8,
            Health("failing", "hardware impending failure general hard drive failure", 29),
        ),
        (
            nvme(0b1001),
            8,
            Health("failing", "its spare blocks run out; it is read-only", 41),
        ),
        ({}, 0, Health("unknown", "it does not tell")),
        ({"smart_support": {"available": False}}, 4, Health("unknown", "it has no SMART")),
        (
            message("/dev/loop0: Unable to detect device type"),
            1,
            Health("unknown", "/dev/loop0: Unable to detect device type"),
        ),
        (message(STANDBY), 2, Health("unknown", STANDBY, asleep=True)),
        (message("\x1b[2J\n"), 2, Health("unknown", "?[2J?")),
        (message("x" * 999), 2, Health("unknown", "x" * REASON_MAXIMUM)),
    ],
)
def test_what_it_means(report: dict[str, Any], status: int, health: Health) -> None:
    assert read_report(json.dumps(report).encode(), status) == health


@pytest.mark.parametrize("bit", range(8))
def test_each_bit_of_the_exit_status(bit: int) -> None:
    """smartctl(8): only two of them say that the disk is failing."""
    verdict = read_report(json.dumps(ata(True)).encode(), 1 << bit).verdict
    assert verdict == ("failing" if bit in (3, 4) else "good")


@pytest.mark.parametrize("degrees", [None, True, "34", 3.4e3, 1000, -273, [34]])
def test_a_temperature_that_is_none(degrees: object) -> None:
    report = ata(True) | {"temperature": {"current": degrees}}
    assert read_report(json.dumps(report).encode(), 0) == Health("good", "", None)


@pytest.mark.parametrize(
    "output", [b"", b"{", b"\xff\x00", b"smartctl 7.4 (no JSON)", b"[" * 100_000]
)
def test_what_is_no_json(output: bytes) -> None:
    assert read_report(output, 0) == Health(reason="smartctl's answer does not read")


def test_a_smartctl_that_crashed() -> None:
    assert read_report(b'{"smart_status": {"passed": true}}', -11) == Health(
        reason="smartctl was ended by signal 11"
    )


WORDS = (
    "smart_status passed scsi ie_string smartctl messages string temperature current"
    " ata_smart_attributes table when_failed name nvme_smart_health_information_log"
    " critical_warning smart_support available"
)
names = st.sampled_from(WORDS.split())
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.just("now"))
reports = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4)
)


@given(report=reports, status=st.integers(-64, 255))
def test_any_json_is_a_health(report: object, status: int) -> None:
    health = read_report(json.dumps(report).encode(), status)
    assert health.verdict in ("good", "failing", "unknown")
    assert health.reason.isprintable()
    assert len(health.reason) <= REASON_MAXIMUM
    if status >= 0 and status & 24:
        assert health.verdict == "failing"


def test_a_file_is_not_asked(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(b"")
    assert smart.start(str(file)) == Health(reason="it is no block device")
    assert smart.start(str(tmp_path / "gone")) == Health(reason="it is no block device")
