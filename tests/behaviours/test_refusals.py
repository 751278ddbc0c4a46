"""What must not be done is not done, and said why, with a code and an exit code."""

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.nbd.host_words import ExportRefusedError
from tests.service.agreement import record
from tests.service.blank_pair import FAILED, REFUSED, Pair, held_elsewhere, tool
from tests.service.media import Media
from tests.service.service_process import BIN, MIB, Service


class TestProtect:
    """Disks that are not taken."""

    def test_the_same_disk_twice_or_an_unknown_one(self, pair: Pair) -> None:
        pair.known()
        assert pair.refused(secondary=pair.primary)[:2] == (FAILED, "EB602")
        assert pair.refused(secondary="gamma")[:2] == (FAILED, "EB101")
        assert pair.refused(primary="gamma")[:2] == (FAILED, "EB101")

    def test_a_disk_that_is_too_small(self, pair: Pair) -> None:
        pair.service.disk(pair.primary, 64 << 10)
        code, error, sentence = pair.known().refused()
        assert (code, error) == (REFUSED, "EB104"), sentence

    @pytest.mark.parametrize("primary", [1 << 20, 60 * MIB])
    def test_as_much_as_is_needed_is_enough(self, pair: Pair, primary: int) -> None:
        pair.service.disk(pair.primary, primary)
        pair.service.disk(pair.secondary, primary)
        code, error, sentence = pair.known().refused()
        assert (code, error) == (REFUSED, "EB104"), sentence
        needed = int(sentence.rpartition("bytes, ")[2].split()[0])
        pair.service.disk(pair.secondary, needed)
        pair.service.wait(
            lambda: needed in {disk["size"] for disk in pair.service.ask("disks")["disks"]},
            "the larger disk",
        )
        pair.protect()

    @pytest.mark.parametrize("role", ["primary", "secondary"])
    def test_a_partitioned_disk(self, pair: Pair, role: str) -> None:
        with pair.file(getattr(pair, role)).open("r+b") as disk:
            disk.seek(446)
            disk.write(struct.pack("<BBHBBHII", 0, 0, 2, 0x83, 0, 0, 64, 8 * MIB // 512 - 64))
            disk.seek(510)
            disk.write(b"\x55\xaa")
        code, error, sentence = pair.known().refused()
        assert (code, error) == (REFUSED, "EB103")
        assert "dos" in sentence

    @pytest.mark.parametrize("kind", ["ext4", "swap"])
    def test_a_secondary_that_is_formatted(self, pair: Pair, kind: str) -> None:
        make = ("mke2fs", "-q", "-F", "-t", "ext4") if kind == "ext4" else ("mkswap",)
        tool(*make, pair.file(pair.secondary))
        code, error, sentence = pair.known().refused()
        assert (code, error) == (REFUSED, "EB103")
        assert kind in sentence

    def test_a_disk_of_another_volume(self, pair: Pair) -> None:
        service = pair.known().service
        pair.protect()
        service.disk("gamma", 64 * MIB)
        service.wait_for_disks("gamma")
        for primary, secondary in ((pair.primary, "gamma"), ("gamma", pair.secondary)):
            code, error, sentence = service.refused(
                "protect", volume="other", primary=primary, secondary=secondary, yes=True
            )
            assert (code, error) == (REFUSED, "EB103")
            assert pair.volume in sentence
        code, error, _ = service.refused(
            "protect", volume=pair.volume, primary="gamma", secondary="delta", yes=True
        )
        assert (code, error) == (REFUSED, "EB302")

    def test_data_of_an_unknown_kind_needs_consent(self, pair: Pair) -> None:
        with pair.file(pair.secondary).open("r+b") as disk:
            disk.write(b"precious" * 512)
        code, error, sentence = pair.known().refused(yes=False)
        assert (code, error) == (REFUSED, "EB503")
        assert pair.secondary in sentence
        pair.protect(yes=True)

    def test_a_mounted_disk(self, media: Media, make_service: Callable[..., Service]) -> None:
        disk, other = media.loop("mounted", 8 * MIB), media.loop("other", 64 * MIB)
        tool("mke2fs", "-q", "-F", disk.node)
        with disk.mounted() as place:
            service = make_service("udev")
            service.start(disk.id, other.id)
            code, error, sentence = service.refused(
                "protect", volume="finance", primary=disk.id, secondary=other.id, yes=True
            )
            assert (code, error) == (REFUSED, "EB102")
            assert str(place) in sentence


class TestAdoption:
    """A primary with a file system: taken with its data, unless that reaches into our tail."""

    def file_system(self, pair: Pair, size: int) -> Path:
        """An ext4 of `size` bytes with a file in it, on the primary."""
        tree = pair.service.room / f"tree-{pair.volume}"
        tree.mkdir()
        (tree / "letter").write_bytes(os.urandom(300_000))
        file = pair.file(pair.primary)
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, file, f"{size // 1024}k")
        os.truncate(file, 8 * MIB)
        return file

    def test_one_that_reaches_into_the_tail_says_by_how_much_to_shrink(self, pair: Pair) -> None:
        file = self.file_system(pair, 8 * MIB)
        code, error, sentence = pair.known().refused()
        assert (code, error) == (REFUSED, "EB103")
        assert "ext4" in sentence
        room = int(sentence.rpartition("shrink that to ")[2].split()[0])
        tool("e2fsck", "-fp", file)
        tool("resize2fs", file, f"{room // 1024}k")
        os.truncate(file, 8 * MIB)  # it cuts files off, which it cannot do to disks
        before = file.read_bytes()
        pair.known().protect(yes=True)
        assert pair.service.contents(pair.volume) == before[:room]

    def test_one_that_does_not_is_adopted_with_its_data(self, pair: Pair) -> None:
        file = self.file_system(pair, 7 * MIB)
        before = file.read_bytes()
        pair.known().protect()
        service = pair.service
        size = service.status(pair.volume)["size"]
        assert service.contents(pair.volume) == before[:size]
        assert service.contents(f"{pair.volume}@write:0") == before[:size]
        service.ask("release", volume=pair.volume, yes=True)
        assert file.read_bytes()[:size] == before[:size]
        tool("e2fsck", "-fn", file)  # readable without Ebbtide


@pytest.fixture
def volume(pair: Pair) -> Pair:
    """A volume with five writes."""
    pair.known().protect()
    with pair.service.connect(pair.volume) as client:
        for number in range(5):
            client.write(number * 4096, bytes([number + 1]) * 4096)
    return pair


class TestPoints:
    """Points that cannot be had, and what else operators are refused."""

    def test_points_that_are_none(self, volume: Pair) -> None:
        service, name = volume.service, volume.volume
        for point, code in {
            "write:99": "EB402",
            "2001-01-01T00:00:00Z": "EB402",
            "-1w": "EB402",
            "snapshot:nobody": "EB407",
            "write:": "EB401",
            "write:-1": "EB401",
            "write:1e3": "EB401",
            "snapshot:": "EB401",
            "yesterday": "EB401",
            "2026-11-22T10:00:00": "EB401",
            "2026-13-22T10:00:00Z": "EB401",
            "2999-01-01T00:00:00Z": "EB401",
            "-10y": "EB401",
            "-99999999999999s": "EB401",
        }.items():
            refused = service.refused("restore", volume=name, to=point, yes=True)
            assert refused[:2] == (REFUSED if code == "EB402" else FAILED, code), refused
            with pytest.raises(ExportRefusedError):
                service.connect(f"{name}@{point}")
        assert service.status(name)["write_number"] == 5

    def test_exit_codes_of_the_command(self, volume: Pair) -> None:
        service, name = volume.service, volume.volume
        assert service.refusal("restore", name, "--to", "write:99")[:2] == (REFUSED, "EB402")
        assert service.refusal("restore", name, "--to", "yesterday")[:2] == (FAILED, "EB401")
        assert service.refusal("status", "nobody")[:2] == (FAILED, "EB301")

    def test_a_restore_needs_consent_and_shows_what_it_would_do(self, volume: Pair) -> None:
        service, name = volume.service, volume.volume
        code, answer = service.run("restore", name, "--to", "write:2")
        assert (code, answer["error"]["code"]) == (REFUSED, "EB503")
        plan = answer["plan"]
        assert (plan["write"], plan["bytes"], plan["disconnects_hosts"]) == (2, 3 * 4096, True)
        assert service.do("restore", name, "--to", "write:2", "--plan")["plan"] == plan
        assert service.status(name)["write_number"] == 5

    def test_a_time_that_happened_once_is_found(self, volume: Pair) -> None:
        service, name = volume.service, volume.volume
        while True:
            with service.connect(name) as client:
                client.write(0, b"early" + bytes(507))
                time.sleep(1.2)  # the smallest step that a point can be asked for is a second
                began = time.monotonic()
                client.write(0, b"later" + bytes(507))
            found = service.contents(f"{name}@-1s")
            if time.monotonic() - began < 1:  # else a second ago may be after both
                break
        assert found.startswith(b"early")

    def test_one_job_at_a_time(self, volume: Pair) -> None:
        service, name = volume.service, volume.volume
        service.ask("set", volume=name, settings=["throttle=1-1"])  # it must be there to be held
        job = service.ask("sync", volume=name, full=True)["job"]["number"]
        service.ask("job pause", job=job)
        service.ask("set", volume=name, settings=["throttle=16-max"])
        for verb, arguments in (("sync", {}), ("restore", {"to": "write:2", "yes": True})):
            code, error, sentence = service.refused(verb, volume=name, **arguments)
            assert (code, error) == (REFUSED, "EB501"), sentence
        service.ask("job pause", job=job, resume=True)
        assert service.ask("job wait", job=job)["job"]["result"] == "done"
        service.ask("restore", volume=name, to="write:2", yes=True, wait=True)

    def test_views_have_names_and_end(self, volume: Pair) -> None:
        service, name = volume.service, f"{volume.volume}@write:2"
        view = service.ask("view create", volume=volume.volume, point="write:2")["view"]
        assert (view["name"], view["write"]) == (name, 2)
        assert [shown["name"] for shown in service.ask("view list")["views"]] == [name]
        assert service.contents(name)[: 3 * 4096] == b"\1" * 4096 + b"\2" * 4096 + bytes(4096)
        with service.connect(name) as client:
            with pytest.raises(OSError, match="server said so"):
                client.write(0, bytes(4096))
            service.ask("view drop", view=name)
            with pytest.raises(ConnectionError):
                client.read(0, 4096)
        assert service.ask("view list")["views"] == []
        assert service.refused("view drop", view=name)[:2] == (FAILED, "EB301")
        refused = service.refused("view create", volume="nobody", point="write:2")
        assert refused[:2] == (FAILED, "EB301")

    def test_snapshots(self, volume: Pair) -> None:
        service, name = volume.service, volume.volume
        friday = {"volume": name, "name": "friday"}
        service.ask("snapshot", **friday)
        assert service.refused("snapshot", **friday)[:2] == (REFUSED, "EB406")
        service.ask("snapshot", **friday, delete=True)
        assert service.refused("snapshot", **friday, delete=True)[:2] == (FAILED, "EB407")
        assert service.refused("snapshot", **friday | {"volume": "nobody"})[:2] == (FAILED, "EB301")
        assert service.refused("snapshot", **friday | {"name": "a b"})[:2] == (FAILED, "EB602")

    def test_release_needs_consent_and_leaves_the_data(self, volume: Pair) -> None:
        service, name = volume.service, volume.volume
        contents = service.contents(name)
        code, error, sentence = service.refused("release", volume=name)
        assert (code, error) == (REFUSED, "EB503")
        assert "past" in sentence
        service.ask("release", volume=name, yes=True)
        assert service.refused("status", volume=name)[:2] == (FAILED, "EB301")
        with pytest.raises(ExportRefusedError, match=f"no volume called {name}"):
            service.connect(name)
        assert volume.file(volume.primary).read_bytes()[: len(contents)] == contents
        ours = {volume.primary, volume.secondary}
        disks = [disk for disk in service.ask("disks")["disks"] if disk["id"] in ours]
        assert {(disk["state"], disk["volume"]) for disk in disks} == {("free", None)}
        volume.protect(yes=True)
        assert service.contents(name) == contents


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """One to stop and start, with a volume at rest; stopped."""
    service = make_service(wait_for_secondary_seconds=0.2)
    service.disk("alpha", 8 * MIB)
    service.disk("beta", 64 * MIB)
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    with service.connect("finance") as client:
        record(service, "finance").write_some(client, 20)
    service.stop()
    return service


def test_a_disk_that_was_busy_as_it_arrived_is_looked_at_again(service: Service) -> None:
    """Others look at a disk that arrives, too, and have it to themselves meanwhile."""
    with held_elsewhere(service.disks / "beta.img"):
        service.start("alpha", "beta")
        service.wait(lambda: bool(service.ask("status")["volumes"]), "the volume")
        service.until_state("finance", "tracking")
    service.until_state("finance", "protected")


def alerts(status: Any) -> list[str]:
    return [alert["code"] for alert in status["alerts"]]


class TestWrongDisk:
    """A disk that says it belongs here, and does not."""

    def test_a_stale_twin_of_the_secondary(self, service: Service) -> None:
        shutil.copy(service.disks / "beta.img", service.room / "twin.img")
        service.start("alpha", "beta")
        service.until_state("finance", "protected")
        (service.room / "twin.img").rename(service.disks / "twin.img")
        service.wait(lambda: bool(service.events("EV105")), "the twin to be refused")
        disks = {disk["id"]: disk["state"] for disk in service.ask("disks")["disks"]}
        assert disks["beta"] == "in service"
        assert "already" in disks["twin"]
        assert service.status("finance")["secondary"]["id"] == "beta"
        assert service.status("finance")["state"] == "protected"

    def test_a_secondary_that_went_its_own_way(self, service: Service) -> None:
        """It has served another twin of the primary meanwhile: nobody guesses which is right."""
        alpha, beta = service.disks / "alpha.img", service.disks / "beta.img"
        before = self.part_ways(service)
        status = service.until("finance", lambda status: alerts(status) == ["EB106"])
        assert status["state"] == "offline"
        assert "both disks have served hosts without each other" in self.shown(service, "beta")
        with pytest.raises(ExportRefusedError):
            service.connect("finance")
        assert (alpha.read_bytes(), beta.read_bytes()) == before
        beta.rename(service.room / "beta.copy")  # a person has decided
        service.until_state("finance", "tracking")
        assert service.contents("finance").startswith(b"one")

    def test_a_refused_secondary_is_looked_at_again(self, service: Service) -> None:
        """Whatever else comes and goes: it stays refused, and its volume offline, until it goes."""
        self.part_ways(service)
        service.until("finance", lambda status: alerts(status) == ["EB106"])
        beta, twin = service.disks / "beta.img", service.disks / "twin.img"
        shutil.copy(beta, service.room / "twin.img")
        (service.room / "twin.img").rename(twin)
        service.wait(lambda: "beta and twin" in self.shown(service, "beta"), "the twin to contest")
        twin.unlink()
        service.wait(lambda: "beta and twin" not in self.shown(service, "beta"), "another look")
        status = service.status("finance")
        assert (status["state"], status["alerts"][0]["code"]) == ("offline", "EB106")
        beta.rename(service.room / "beta.copy")
        service.until_state("finance", "tracking")

    def part_ways(self, service: Service) -> tuple[bytes, bytes]:
        """Start with two disks that each have served hosts without the other; their contents."""
        alpha, beta, room = service.disks / "alpha.img", service.disks / "beta.img", service.room
        shutil.copy(alpha, room / "alpha.copy")
        beta.rename(room / "beta.copy")
        self.write_alone(service, b"one")
        alpha.rename(room / "alpha.one")
        shutil.copy(room / "alpha.copy", alpha)
        self.write_alone(service, b"other")
        (room / "beta.copy").rename(beta)
        service.start("alpha", "beta")
        service.until_state("finance", "protected")
        service.stop()
        (room / "alpha.one").rename(alpha)  # and now back to the first, with that secondary
        before = alpha.read_bytes(), beta.read_bytes()
        service.start("alpha", "beta")
        return before

    def shown(self, service: Service, disk: str) -> str:
        """What is said of the state of a disk."""
        (found,) = [shown for shown in service.ask("disks")["disks"] if shown["id"] == disk]
        return str(found["state"])

    def write_alone(self, service: Service, data: bytes) -> None:
        """A life of the primary without its secondary."""
        service.start("alpha")
        service.wait(lambda: bool(service.ask("status")["volumes"]), "the volume")
        service.until_state("finance", "tracking")
        with service.connect("finance") as client:
            client.write(0, data.ljust(512))
        service.stop()


def test_a_second_service_stands_back(running: Service) -> None:
    """Two services must not share disks."""
    second = subprocess.run(
        [BIN / "cdpd", "--config", running.config],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == REFUSED
    assert "EB903" in second.stderr
    running.ask("disks")
