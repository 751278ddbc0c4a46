"""The box under test, whatever rig it stands in: what a test asks of it, in the words of people.

Only labgrid's protocols and those of hil_tests.drivers are spoken here, so that a test runs on any
rig that offers them.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from labgrid import Target
from labgrid.driver import ExecutionError
from labgrid.protocol import CommandProtocol, ConsoleProtocol, PowerProtocol

from hil_tests import errands
from hil_tests.console import Console
from hil_tests.drivers.protocols import (
    BatteryProtocol,
    BayProtocol,
    DiskFaultProtocol,
    EarlierCutProtocol,
    FreshBoxProtocol,
    HostPathProtocol,
    LinkProtocol,
    PanelProtocol,
    ResetProtocol,
    StickProtocol,
)
from hil_tests.host import Host
from hil_tests.oracle import BLOCK

Json = Any
PATIENCE_SECONDS = 180
"""For what the box does by itself, under TCG."""


class Refused(Exception):
    """cdpctl's answer was an error; `code` says which."""

    def __init__(self, words: str, code: str, sentence: str) -> None:
        super().__init__(f"cdpctl {words}: {code}: {sentence}")
        self.code = code


class NeverSo(Exception):
    """What a test waited for did not come about."""


@dataclass(frozen=True)
class Pair:
    """A volume's disks, in their bays."""

    primary: Any
    secondary: Any
    """Bays; with `plug`, `pull`, and what DiskFaultProtocol has where the rig offers it."""


class Box:
    """One target of labgrid's."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.power: Any = target.get_driver(PowerProtocol)
        self.line: Any = target.get_driver(ConsoleProtocol, name="system")
        self._shell: Any = target.get_driver(CommandProtocol, activate=False)
        self.console = Console(target.get_driver(ConsoleProtocol, name="product"))
        self._runs_errands = False

    # Setting it up

    def start(self) -> None:
        """As new, if the rig has such a box at hand; running, with its bays empty."""
        if self.has(PanelProtocol):
            self.panel.pull()
        fresh = self.has(FreshBoxProtocol)
        if not fresh:
            self._leave_shell()
            self.power.cycle()
            self.await_shell()
        for bay in self._bays():
            bay.blank()
        if fresh:
            self.replace()

    def replace(self) -> None:
        """The power goes; another box with the same disks takes its place."""
        self._leave_shell()
        self.driver(FreshBoxProtocol).replace()
        self.await_shell()
        # Its clock stood still while its state was saved.
        self.shell("hwclock --hctosys")

    def replace_slowly(self, pair: Pair, bytes_per_second: int) -> None:
        """As `replace`, and the pair comes late, its disks as slow as that."""
        self.cut_power()
        for bay in (pair.secondary, pair.primary):
            bay.pull()
        self.replace()
        for bay in (pair.secondary, pair.primary):
            bay.plug()
            faults(bay).slow(bytes_per_second)

    def cut_power(self) -> None:
        """Without a warning."""
        self._leave_shell()
        self.power.off()

    def cut_power_within(self, partition: int, share: float) -> None:
        """As EarlierCutProtocol has it."""
        self._leave_shell()
        self.driver(EarlierCutProtocol).off_within(partition, share)

    def power_on(self) -> None:
        """From its own disk, which takes its time; until there is a shell."""
        self.power.on()
        self.await_shell()

    def restart(self) -> None:
        """In order, by its own will; until there is a shell."""
        self._leave_shell()
        self.line.sendline("systemctl reboot")
        self.await_restart()

    def await_shell(self) -> None:
        """After whatever made it start."""
        self._leave_shell()
        self.line.forget()
        self.line.write(b"\n")
        self._target.activate(self._shell)

    def await_restart(self, timeout: float = 900) -> None:
        """Until it has started anew by itself, and there is a shell again."""
        self._leave_shell()
        self.line.forget()
        if self.has(ResetProtocol):
            self.driver(ResetProtocol).await_reset(timeout)
        self.line.expect(r" login: ", timeout=timeout)
        self.await_shell()

    def _leave_shell(self) -> None:
        self._runs_errands = False
        self._target.deactivate(self._shell)

    def bay(self, name: str) -> Any:
        """The one that rigs call so; or the test is skipped."""
        for bay in self._bays():
            if bay.name == name:
                return bay
        pytest.skip(f"this rig has no bay {name}")

    def plug(self, primary: Any, secondary: Any) -> Pair:
        """Both in, and shown by the box."""
        pair = Pair(primary, secondary)
        pair.primary.plug()
        pair.secondary.plug()
        self.await_disks(pair)
        return pair

    def pair(self, sector: int | None = None, bus: str | None = None) -> Pair:
        """Two blank disks, plugged in: a primary and a larger one, the rig's first two of a kind.

        The test is skipped if the rig has no such bays.
        """
        bays = [
            bay for bay in self._bays() if bus in (None, bay.bus) and sector in (None, bay.sector)
        ]
        if len(bays) < 2:
            pytest.skip(f"no two bays of this rig are of bus {bus}, sectors {sector}")
        return self.plug(bays[0], bays[1])

    def spare(self, pair: Pair) -> Any:
        """One more bay of the same kind as the secondary's, out; or the test is skipped."""
        taken = (pair.primary.serial, pair.secondary.serial)
        kind = (pair.secondary.bus, pair.secondary.sector)
        for bay in self._bays():
            if bay.serial not in taken and (bay.bus, bay.sector) == kind:
                return bay
        pytest.skip("this rig has no spare disk")

    def _bays(self) -> list[Any]:
        drivers = [each for each in self._target.drivers if isinstance(each, BayProtocol)]
        for each in drivers:
            self._target.activate(each)
        return sorted(drivers, key=lambda each: str(each.name))

    # What rigs may lack

    def has(self, protocol: type) -> bool:
        return any(isinstance(each, protocol) for each in self._target.drivers)

    def driver(self, protocol: type) -> Any:
        """The rig's; ask for its feature in the test's mark."""
        return self._target.get_driver(protocol)

    @property
    def link(self) -> LinkProtocol:
        return self.driver(LinkProtocol)  # type: ignore[no-any-return]

    @property
    def panel(self) -> PanelProtocol:
        return self.driver(PanelProtocol)  # type: ignore[no-any-return]

    @property
    def stick(self) -> StickProtocol:
        return self.driver(StickProtocol)  # type: ignore[no-any-return]

    @property
    def battery(self) -> BatteryProtocol:
        return self.driver(BatteryProtocol)  # type: ignore[no-any-return]

    @property
    def host(self) -> Host:
        path = self.driver(HostPathProtocol)
        return Host(path.address(), Path(path.certificates()))

    # Talking to it

    def shell(self, command: str, timeout: float = 60) -> str:
        """What it printed.  Raises labgrid's ExecutionError if that failed."""
        return "\n".join(self._shell.run_check(command, timeout=timeout))

    def cdpctl(self, words: str, timeout: float = 120) -> Json:
        """The answer, or Refused.  Takes seconds to start: where it is not the matter, `ask`."""
        lines, _, _ = self._shell.run(f"cdpctl {words} --json", timeout=timeout)
        text = "\n".join(lines)
        # Progress has lines of its own; the last one is the answer.
        try:
            answer = json.loads(lines[-1]) if lines else {}
        except ValueError:
            raise ExecutionError(f"cdpctl {words}: {text}") from None
        if "error" in answer:
            raise Refused(words, answer["error"]["code"], answer["error"]["sentence"])
        return answer

    def ask(self, verb: str, timeout: float = 120, **arguments: Any) -> Json:
        """The service's answer to a verb, as `cdpctl` would have it, but at once.

        Raises Refused.
        """
        if not self._runs_errands:
            errands.begin(self.shell)
            self._runs_errands = True
        answer = errands.ask(self.shell, verb, arguments, timeout)
        if "error" in answer:
            raise Refused(verb, answer["error"]["code"], answer["error"]["sentence"])
        return answer["ok"]

    def disk(self, bay: BayProtocol) -> str:
        """The id under which the box knows the disk of a bay."""
        for disk in self.ask("disks")["disks"]:
            if disk["serial"] == bay.serial:
                return str(disk["id"])
        raise NeverSo(f"the box does not know the disk {bay.serial}")

    def told(self, *codes: str) -> list[Json]:
        """The events of these codes, of those that the box remembers."""
        events = self.ask("events", limit=4096)["events"]
        return [event for event in events if event["code"] in codes]

    def volume(self, name: str) -> Json:
        """Of `cdpctl status`."""
        (volume,) = self.ask("status", volume=name)["volumes"]
        return volume

    # Waiting

    def until(
        self, what: str, look: Callable[[], object], timeout: float = PATIENCE_SECONDS
    ) -> Any:
        """Until `look` answers something; raises NeverSo.  Refusals count as nothing."""
        ends = time.monotonic() + timeout
        seen: object = None
        while time.monotonic() < ends:
            try:
                seen = look()
            except (Refused, ExecutionError) as error:
                seen, last = None, error
            else:
                last = None
            if seen:
                return seen
            time.sleep(0.5)
        raise NeverSo(f"{what}: not within {timeout:.0f} s; {last or 'no error'}")

    def await_disks(self, pair: Pair) -> None:
        """Until the box shows both."""

        def shown() -> bool:
            serials = {disk["serial"] for disk in self.ask("disks")["disks"]}
            return {pair.primary.serial, pair.secondary.serial} <= serials

        self.until("the box shows its disks", shown)

    def await_state(self, name: str, *states: str) -> Json:
        """Until the volume is in one of the states, for people; its status then."""

        def reached() -> Json:
            volume = self.volume(name)
            return volume if volume["state"] in states else None

        return self.until(f"{name} is {' or '.join(states)}", reached)

    @property
    def version(self) -> str:
        """Of the image that it runs."""
        return self.image.split(", ")[0]

    @property
    def image(self) -> str:
        """Version and build of what it runs, for people."""
        told = "sed -n -e s/^IMAGE_VERSION=//p -e s/^BUILD_ID=//p /etc/os-release"
        return ", ".join(self.shell(told).split())

    @property
    def slot(self) -> str:
        """That it was booted from: A or B."""
        return self.shell("sed -n 's/.*rauc.slot=\\([AB]\\).*/\\1/p' /proc/cmdline")

    def boot_memory(self) -> dict[str, str]:
        """What the boot loader remembers, which is whole, and so is its copy."""
        file = "/efi/EFI/ebbtide/grubenv"
        self.shell(f"cmp {file} {file}.copy")
        lines = self.shell(f"/usr/bin/grub-editenv {file} list").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def await_update_notice(self, words: str, timeout: float = 900) -> None:
        """Until it says so of the stick that is in."""
        look = f"journalctl -b _TRANSPORT=kernel --no-pager | grep 'update: .*{words}' | tail -1"
        self.until(f"the box says '{words}'", lambda: self.shell(look), timeout)

    # What tests do time and again

    def protect(self, name: str, pair: Pair) -> None:
        """Make a volume and await that it is protected."""
        self.begin_protecting(name, pair)
        self.await_state(name, "protected")

    def begin_protecting(self, name: str, pair: Pair) -> None:
        """Make a volume; its baseline is being copied."""
        primary, secondary = self.disk(pair.primary), self.disk(pair.secondary)
        self.ask("protect", volume=name, primary=primary, secondary=secondary, yes=True)

    def verify(self, name: str) -> int:
        """Bytes in which its two disks differ."""
        number = self.ask("sync", volume=name, verify=True)["job"]["number"]
        job = self.await_job(name, number)
        assert job["result"] == "done", job
        return int(job["bytes_different"])

    def await_job(self, name: str, number: int) -> Json:
        """A job of the volume, once it has ended."""

        def ended() -> Json:
            job = self.volume(name)["last_job"]
            return job if job and job["number"] == number else None

        return self.until(f"job {number} has ended", ended)


def faults(bay: Any) -> DiskFaultProtocol:
    """A bay on a rig with the feature `disk-faults`."""
    assert isinstance(bay, DiskFaultProtocol)
    return bay


def spoil(primary: Any, what: str, block: int, count: int = 1) -> None:
    """So many blocks of the hosts' have medium errors under every read, or write, of theirs: host
    byte x lies at byte x of the primary, whatever its sectors."""
    sectors = BLOCK // primary.sector
    faults(primary).fail(what, "medium", first=block * sectors, count=count * sectors)
