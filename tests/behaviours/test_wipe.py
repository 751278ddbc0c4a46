"""A secondary that carries something is wiped by explicit word, and by nothing less."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.drivers.signatures import foreign_signatures
from tests.drivers.labels import put_array, put_gpt, put_lvm_label
from tests.service.agreement import assert_exact, assert_in_sync, record
from tests.service.blank_pair import FAILED, REFUSED, Pair, blank_pair, held_elsewhere, tool
from tests.service.media import Media
from tests.service.service_process import MIB, Service

SIZE = 64 * MIB


def make_ext4(disk: Path) -> None:
    tool("mke2fs", "-q", "-F", "-t", "ext4", disk)


def make_layers(disk: Path) -> None:
    make_ext4(disk)
    put_array(disk, SIZE - 8192)
    put_gpt(disk, 512, SIZE)


CARRIED: dict[str, tuple[Callable[[Path], None], str]] = {
    "ext4": (make_ext4, "ext4"),
    "swap": (lambda disk: tool("mkswap", disk), "swap"),
    "gpt": (lambda disk: put_gpt(disk, 512, SIZE), "gpt"),
    "gpt of large sectors": (lambda disk: put_gpt(disk, 4096, SIZE), "gpt"),
    "lvm": (put_lvm_label, "LVM2_member"),
    "md 1.0": (lambda disk: put_array(disk, SIZE - 8192), "linux_raid_member"),
    "md 1.1": (lambda disk: put_array(disk, 0), "linux_raid_member"),
    "md 1.2": (lambda disk: put_array(disk, 4096), "linux_raid_member"),
    "sgdisk": (lambda disk: tool("sgdisk", "--new=1:0:0", disk), "gpt"),
    "parted": (lambda disk: tool("parted", "--script", disk, "mklabel", "gpt"), "gpt"),
    "layers": (make_layers, "ext4, gpt, linux_raid_member"),
}


def blkid(disk: Path) -> str:
    """All that a low-level probe tells; it stops at the first, and ours is a partition table."""
    if shutil.which("blkid") is None:
        pytest.skip("needs blkid")
    done = subprocess.run(
        ["blkid", "-p", "-o", "export", str(disk)], capture_output=True, text=True, check=False
    )
    return "\n".join(
        line for line in done.stdout.splitlines() if not line.startswith(("DEVNAME=", "PTTYPE=dos"))
    )


@pytest.mark.parametrize("what", CARRIED)
def test_what_a_secondary_carries_goes_by_the_word_and_with_consent(pair: Pair, what: str) -> None:
    make, kinds = CARRIED[what]
    file = pair.file(pair.secondary)
    make(file)
    word = {"wipe": pair.secondary}
    code, error, sentence = pair.known().refused()
    assert (code, error) == (REFUSED, "EB103"), sentence
    assert kinds in sentence
    code, error, sentence = pair.refused(**word, yes=False)
    assert (code, error) == (REFUSED, "EB503"), sentence
    assert f"disk {pair.secondary} carries" in sentence
    assert kinds in sentence
    assert "destroyed" in sentence
    pair.protect(**word, yes=True)
    assert pair.service.status(pair.volume)["state"] == "protected"
    assert {mark.kind for mark in foreign_signatures(file, "d")} == {"dos"}, "ours"
    assert not blkid(file).strip()
    wiped = pair.service.events("EV108")[-1]["fields"]
    assert wiped["disk"] == pair.secondary
    assert kinds in wiped["what"]
    pair.service.ask("release", volume=pair.volume, yes=True)
    assert foreign_signatures(file, "d") == [], "nothing comes to light again"


def test_the_refusal_names_the_exact_word(pair: Pair) -> None:
    put_lvm_label(pair.file(pair.secondary))
    disks = ("--primary", pair.primary, "--secondary", pair.secondary)
    service = pair.known().service
    code, answer = service.run("protect", pair.volume, *disks, "--yes")
    assert (code, answer["error"]["code"]) == (REFUSED, "EB103")
    word = f"--wipe {pair.secondary}"
    assert f"`{word}`" in answer["error"]["remedy"]
    service.do("protect", pair.volume, *disks, *word.split(), "--yes", "--wait")


def test_a_blank_disk_is_none_the_worse_for_the_word(pair: Pair) -> None:
    pair.known().protect(wipe=pair.secondary)


def test_unknown_data_at_both_disks_is_told_in_one_plan(pair: Pair) -> None:
    for disk, size in ((pair.primary, 8 * MIB), (pair.secondary, SIZE)):
        with pair.file(disk).open("r+b") as file:
            file.seek(size - 4096)
            file.write(b"precious")
    code, error, sentence = pair.known().refused(wipe=pair.secondary, yes=False)
    assert (code, error) == (REFUSED, "EB503")
    assert pair.primary in sentence
    assert f"everything on disk {pair.secondary}" in sentence


def test_no_other_disk_is_wiped(pair: Pair) -> None:
    """The word stands for the secondary alone; the primary's data is what it is all about."""
    put_gpt(pair.file(pair.primary), 512, 8 * MIB)
    for named in (pair.primary, "gamma"):
        code, error, sentence = pair.known().refused(wipe=named)
        assert code == FAILED, sentence
        assert error == ("EB602" if named == pair.primary else "EB101"), sentence
    code, error, sentence = pair.refused(wipe=pair.secondary)
    assert (code, error) == (REFUSED, "EB103"), sentence
    assert pair.primary in sentence


def test_a_disk_that_is_open_elsewhere_is_not_wiped(pair: Pair) -> None:
    file = pair.file(pair.secondary)
    put_gpt(file, 512, SIZE)
    pair.known()
    with held_elsewhere(file):
        code, error, sentence = pair.refused(wipe=pair.secondary)
        assert (code, error) == (REFUSED, "EB102"), sentence


def test_a_disk_of_a_volume_in_service_is_not_wiped(pair: Pair) -> None:
    service = pair.known().service
    pair.protect()
    with blank_pair(service) as other:
        other.known()
        for taken in (pair.primary, pair.secondary):
            code, error, sentence = service.refused(
                "protect",
                volume=other.volume,
                primary=other.primary,
                secondary=taken,
                wipe=taken,
                yes=True,
            )
            assert (code, error) == (REFUSED, "EB103")
            assert f"'{pair.volume}', which is in service" in sentence
        assert service.status(pair.volume)["state"] == "protected"


def test_a_mounted_disk_is_not_wiped(media: Media, make_service: Callable[..., Service]) -> None:
    primary, secondary = media.loop("primary", 8 * MIB), media.loop("mounted", SIZE, attach=False)
    make_ext4(secondary.file)
    secondary.attach()
    with secondary.mounted() as place:
        service = make_service("udev")
        service.start(primary.id, secondary.id)
        (place / "letter").write_bytes(b"precious")
        code, error, sentence = service.refused(
            "protect",
            volume="finance",
            primary=primary.id,
            secondary=secondary.id,
            wipe=secondary.id,
            yes=True,
        )
        assert (code, error) == (REFUSED, "EB102"), sentence
    tool("e2fsck", "-fn", secondary.node)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_block_device_is_wiped(
    media: Media, make_service: Callable[..., Service], sector: int
) -> None:
    primary = media.loop("primary", 8 * MIB)
    secondary = media.loop("labelled", SIZE, sector, attach=False)
    make_ext4(secondary.file)
    put_gpt(secondary.file, sector, SIZE)
    secondary.attach()
    assert secondary.node is not None
    service = make_service("udev")
    service.start(primary.id, secondary.id)
    arguments = {"volume": "finance", "primary": primary.id, "secondary": secondary.id}
    assert service.refused("protect", **arguments, yes=True)[:2] == (REFUSED, "EB103")
    service.ask("protect", **arguments, wipe=secondary.id, yes=True, wait=True)
    assert {mark.kind for mark in foreign_signatures(secondary.node, "d", sector)} == {"dos"}
    assert not blkid(secondary.node).strip()


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_a_disk_that_failed_is_its_volume_s_still(
    media: Media, make_service: Callable[..., Service], role: str
) -> None:
    """While it is held off it is open nowhere; nobody must take it for a free one."""
    spare = media.loop("spare", 8 * MIB if role == "secondary" else SIZE)
    disks = {"primary": media.loop("primary", 8 * MIB), "secondary": media.loop("secondary", SIZE)}
    played = media.played(f"played-{role}", 8 * MIB if role == "primary" else SIZE)
    ids = {kind: disk.id for kind, disk in disks.items()} | {role: played.id}
    # The other disk has the same deadline, and a busy machine keeps it waiting.
    service = make_service("udev", disk_deadline_seconds=2)
    service.start(spare.id, *ids.values())
    service.protect("finance", ids["primary"], ids["secondary"])
    recorder = record(service, "finance")
    with service.connect("finance") as client:
        recorder.write_some(client, 20)
        played.medium.stall()
        recorder.write_some(client, 20)
        played.medium.refuses_writes = True  # held off again and again, however slow the machine
        played.medium.resume()
    wanted = {"volume": "mail", "primary": spare.id, "secondary": spare.id} | {role: played.id}
    if role == "secondary":
        wanted["wipe"] = played.id
    told: list[str] = []

    def is_refused() -> bool:
        state = next(d["state"] for d in service.ask("disks")["disks"] if d["id"] == played.id)
        _, error, sentence = service.refused("protect", **wanted, yes=True)
        told.append(f"{state}: {error} {sentence}")
        return "held off" in state and error == "EB103"  # EB102 while it is being closed

    service.wait(is_refused, lambda: f"the disk to be let go of, and refused: {told}")
    assert "'finance', which is in service" in told[-1]
    played.medium.refuses_writes = False
    service.until_state("finance", "protected")
    assert_in_sync(service, "finance", recorder)


@pytest.fixture
def orphaned(make_service: Callable[..., Service]) -> Service:
    """A service with the secondary `beta` of a volume whose primary is not here, and `gamma`."""
    service = make_service(wait_for_secondary_seconds=0.2)
    for name, size in (("alpha", 8 * MIB), ("beta", SIZE), ("gamma", 8 * MIB)):
        service.disk(name, size)
    service.start("alpha", "beta")
    service.protect("finance", "alpha", "beta")
    service.stop()
    (service.disks / "alpha.img").rename(service.room / "alpha.img")
    service.start("beta", "gamma")
    return service


def test_a_disk_of_another_set_needs_the_word_too(orphaned: Service) -> None:
    disks = ("--primary", "gamma", "--secondary", "beta")
    code, answer = orphaned.run("protect", "mail", *disks, "--yes")
    assert (code, answer["error"]["code"]) == (REFUSED, "EB103")
    assert "volume 'finance'" in answer["error"]["sentence"]
    assert "`--wipe beta`" in answer["error"]["remedy"]
    code, answer = orphaned.run("protect", "mail", *disks, "--wipe", "beta")
    assert (code, answer["error"]["code"]) == (REFUSED, "EB503")
    assert (
        "the secondary of volume 'finance', all of which is destroyed"
        in (answer["error"]["sentence"])
    )
    orphaned.do("protect", "mail", *disks, "--wipe", "beta", "--yes", "--wait")
    recorder = record(orphaned, "mail")
    with orphaned.connect("mail") as client:
        recorder.write_some(client, 20)
    assert_in_sync(orphaned, "mail", recorder)
    assert_exact(orphaned, "mail", recorder.life, recorder.life.last)
    (disk,) = [disk for disk in orphaned.ask("disks")["disks"] if disk["id"] == "beta"]
    assert (disk["state"], disk["role"], disk["volume"]) == ("in service", "secondary", "mail")
    (orphaned.room / "alpha.img").rename(orphaned.disks / "alpha.img")
    orphaned.wait_for_disks("alpha")
    orphaned.until_state("mail", "protected")
    orphaned.wait(lambda: len(orphaned.ask("status")["volumes"]) == 2, "the old volume")
    orphaned.until_state("finance", "tracking")


def test_a_plan_takes_nothing_away(orphaned: Service) -> None:
    """Who only looked at what would be destroyed finds the volume again."""
    arguments = {"volume": "mail", "primary": "gamma", "secondary": "beta", "wipe": "beta"}
    assert orphaned.refused("protect", **arguments)[:2] == (REFUSED, "EB503")
    (orphaned.room / "alpha.img").rename(orphaned.disks / "alpha.img")
    orphaned.wait_for_disks("alpha")
    orphaned.wait(lambda: bool(orphaned.ask("status")["volumes"]), "the volume")
    assert orphaned.until_state("finance", "protected")["secondary"]["id"] == "beta"
