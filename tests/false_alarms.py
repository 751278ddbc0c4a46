"""Verify, again and again, while a host writes what is being compared: is there a false alarm?

`python -m tests.false_alarms --seconds 3600`.  A real service with two disk files, fio on all of
the volume with requests of 512 bytes to 32 KiB, and one `sync --verify` after the other.  Nobody
changes anything behind the appliance's back, so every difference that is told is a false alarm
(claims 8 and 23).  Differences, suspects and what the offline check finds at the end are failures.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from subprocess import run

from tests.service.fio import fio
from tests.service.service_process import BIN, MIB, Service, service_in

VOLUME = "finance"


def _watch(service: Service, seconds: float) -> tuple[int, int, list[str]]:
    """Verify until the time is over: how many scans, how many bytes, and what was wrong."""
    scans, scanned = 0, 0
    wrong: list[str] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and not wrong:
        job = service.ask("sync", volume=VOLUME, verify=True, wait=True)["job"]
        scans, scanned = scans + 1, scanned + job["bytes_scanned"]
        if (job["result"], job["bytes_different"]) != ("done", 0):
            wrong.append(f"scan {scans}: {job}")
        wrong += [
            f"{delta_map} is suspect"
            for delta_map in service.ask("timeline", volume=VOLUME)["maps"]
            if delta_map["suspect"]
        ]
    wrong += [str(event) for code in ("EV411", "EV412") for event in service.events(code)]
    return scans, scanned, wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.false_alarms")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--size", type=int, default=64, help="of the volume, MiB")
    parser.add_argument("--iops", type=int, default=0, help="fio writes no faster")
    parser.add_argument("--throttle", default="16-max", help="of the scans, MiB/s")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as room, service_in(Path(room)) as service:
        service.disk("alpha", wanted.size * MIB)
        service.disk("beta", 6 * wanted.size * MIB)
        service.start("alpha", "beta")
        first = service.protect(VOLUME, "alpha", "beta")["write_number"]
        load = (
            "--rw=randwrite",
            "--bsrange=512-32k",
            "--blockalign=512",
            "--iodepth=16",
            "--fsync=256",
            *([f"--rate_iops={wanted.iops}"] if wanted.iops else []),
        )
        service.ask("set", volume=VOLUME, settings=[f"throttle={wanted.throttle}"])
        size = service.status(VOLUME)["size"] // MIB * MIB
        with fio(service.uri(VOLUME), Path(room), *load, f"--size={size}") as host:
            scans, scanned, wrong = _watch(service, wanted.seconds)
            host.end()
        written = service.status(VOLUME)["write_number"] - first
        service.stop()
        disks = [service.disks / "alpha.img", service.disks / "beta.img"]
        check = run([BIN / "cdpctl", "check", *disks], capture_output=True, text=True, check=False)
        if check.returncode:
            wrong.append(check.stdout)
        print(
            f"{scans} scans of {scanned / (1 << 30):.1f} GiB in all beside {written} host writes:"
            f" {len(wrong)} findings"
        )
        print("\n".join(wrong))
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
